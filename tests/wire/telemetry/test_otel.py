from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from aiohttp import web
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.fakes.otlp import collector
from wire.errors import ConfigError
from wire.telemetry.config import TracesConfig
from wire.telemetry.http_telemetry import add_traces
from wire.telemetry.otel import OtelSink
from wire.telemetry.spans import Span
from wire.telemetry.trace_context import TraceContext

PLACE = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
SPAN = Span(
    name="chat m",
    kind="server",
    context=PLACE,
    parent_id="",
    start_ns=1_000,
    end_ns=3_000,
    attributes={"a": 1, "b": "c", "d": ["e", "f"]},
    link=PLACE.child(),
)
CHILD = Span(
    name="parse",
    kind="internal",
    context=PLACE.child(),
    parent_id=PLACE.span_id,
    start_ns=1_000,
    end_ns=2_000,
    error="broken",
)


def test_spans_arrive_at_a_collector_as_they_were_made() -> None:
    with collector() as running:
        sink = OtelSink(TracesConfig(endpoint=running.url), {"service.name": "headwater-edge"})
        sink.emit([SPAN, CHILD])
        sink.close()
        seen, child = running.spans
    assert (seen.service, seen.name, seen.kind) == ("headwater-edge", "chat m", 2)
    assert (seen.trace_id, seen.span_id, seen.parent_id) == (PLACE.trace_id, PLACE.span_id, "")
    assert (seen.start_ns, seen.end_ns) == (1_000, 3_000)
    assert seen.attributes == {"a": 1, "b": "c", "d": ["e", "f"]}
    assert seen.links == (PLACE.trace_id,)
    assert (child.parent_id, child.failed, seen.failed) == (PLACE.span_id, True, False)


def test_the_queue_is_bounded() -> None:
    exporter = InMemorySpanExporter()
    config = TracesConfig(endpoint="unused", queue_spans=10, batch_spans=10, delay_s=60)
    sink = OtelSink(config, {}, exporter)
    sink.emit([CHILD] * 10_000)
    sink.close()
    assert 0 < len(exporter.get_finished_spans()) < 10_000


def exporting() -> list[str]:
    """The threads of the SDK that send."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name.startswith("OtelBatch")]


async def test_a_collector_that_is_away_costs_spans_and_no_time() -> None:
    app = web.Application()
    config = TracesConfig(endpoint="http://127.0.0.1:1/v1/traces", timeout_s=0.2)
    found = add_traces(app, config, tier="edge", trust=False)
    assert found is not None
    runner = web.AppRunner(app)
    await runner.setup()
    before = exporting()
    found.emit([SPAN])
    begun = time.perf_counter()
    await runner.cleanup()
    assert time.perf_counter() - begun < 30
    assert len(exporting()) < len(before)


async def test_without_an_endpoint_there_are_no_traces() -> None:
    app = web.Application()
    assert add_traces(app, TracesConfig(), tier="edge", trust=False) is None
    assert len(app.on_cleanup) == len(web.Application().on_cleanup)


async def test_an_endpoint_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="endpoint must be http"):
        add_traces(web.Application(), TracesConfig(endpoint="x:1"), tier="edge", trust=False)


def test_without_the_extra_the_error_says_what_to_install() -> None:
    program = """
import sys
from aiohttp import web
sys.modules["opentelemetry"] = None
from wire.errors import ConfigError
from wire.telemetry.config import TracesConfig
from wire.telemetry.http_telemetry import add_traces
try:
    config = TracesConfig(endpoint="http://c/v1/traces")
    add_traces(web.Application(), config, tier="edge", trust=False)
except ConfigError as error:
    print(error.message)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=50
    )
    assert "pip install 'headwater[otel]'" in ran.stdout
