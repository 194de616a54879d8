"""A prompt is one trace across the processes of an edge and a worker, as a collector gets it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.child import Child
from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet, eventually, tier_status
from tests.fakes.otlp import Collector, SeenSpan, collector
from wire.errors import HeadwaterError

QUESTION: Any = [{"role": "user", "content": "What is the capital of France?"}]
ANSWER = "Paris"
SERVER, CLIENT = 2, 3
ASKER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@dataclass(frozen=True, slots=True)
class Pair:
    """An edge and its only worker, both traced."""

    fleet: Fleet
    edge: Child
    collector: Collector

    def ask(self, **fields: Any) -> str:
        """The answer's text."""
        with self.fleet.openai() as client:
            answer = client.with_options(base_url=f"{self.edge.url}/v1").chat.completions.create(
                model=LOCAL_MODEL, messages=QUESTION, temperature=0, max_tokens=24, **fields
            )
            if not fields.get("stream"):
                return str(answer.choices[0].message.content)
            return "".join(piece.choices[0].delta.content or "" for piece in answer)

    def traced(self, spans: int) -> list[SeenSpan]:
        """The newest request's spans, once so many have come."""
        eventually(lambda: len(self.collector.spans) >= spans)
        found = self.collector.spans
        self.collector.requests.clear()
        return found


@pytest.fixture
def pair(fleet: Fleet, tmp_path: Path) -> Iterator[Pair]:
    with collector() as running:
        traces = {
            "telemetry__traces__endpoint": running.url,
            "telemetry__traces__sample_ratio": 1,
            "telemetry__traces__delay_s": 0.05,
        }
        edge_settings = {
            "trust_dir": tmp_path / "edge-trust",
            "cache__folder": tmp_path / "cache",
            **traces,
        }
        with fleet.extra("edge", "traced-edge", **edge_settings) as edge:
            worker_settings = {
                "trust_dir": tmp_path / "worker-trust",
                "models_dir": tmp_path / "models",
                "heartbeat_to": [edge.url],
                **traces,
            }
            with fleet.extra("worker", "traced-worker", **worker_settings):
                eventually(lambda: ready(fleet, edge), 60)
                yield Pair(fleet, edge, running)


def ready(fleet: Fleet, edge: Child) -> bool:
    try:
        known = tier_status(edge.url, fleet.local.admin_token)["workers"]
    except HeadwaterError:
        return False
    return [worker["state"] for worker in known] == ["ready"]


def test_a_prompt_is_one_trace_over_both_processes(pair: Pair) -> None:
    assert ANSWER in pair.ask()
    check(pair.traced(15))
    assert ANSWER in pair.ask(stream=True, extra_headers={"traceparent": ASKER})
    spans = pair.traced(15)
    check(spans)
    root = next(span for span in spans if not span.parent_id)
    assert root.links == (ASKER.split("-")[1],), "a client is linked to, not gone on from"
    eventually(lambda: root.trace_id in logged(pair.fleet))


def logged(fleet: Fleet) -> list[str]:
    """The traces that the edge's access log tells of; its lines are written now and then."""
    log = fleet.state.log("traced-edge").read_text().splitlines()
    return [json.loads(line).get("trace_id", "") for line in log if '"answered"' in line]


def check(spans: list[SeenSpan]) -> None:
    """One trace: edge, its stages, the question to the worker, the worker, and its parts."""
    assert len({span.trace_id for span in spans}) == 1
    by_id = {span.span_id: span for span in spans}
    (root,) = [span for span in spans if not span.parent_id]
    assert (root.service, root.kind, root.name) == ("headwater-edge", SERVER, f"chat {LOCAL_MODEL}")
    (asked,) = [span for span in spans if span.name == "ask worker"]
    assert (asked.parent_id, asked.kind) == (root.span_id, CLIENT)
    (worker,) = [span for span in spans if span.service == "headwater-worker" and span.kind == 2]
    assert worker.parent_id == asked.span_id
    assert worker.attributes["gen_ai.usage.output_tokens"] > 0
    assert (
        root.attributes["gen_ai.usage.output_tokens"]
        == worker.attributes["gen_ai.usage.output_tokens"]
    )
    parts = [span.name for span in spans if span.parent_id == worker.span_id]
    assert sorted(parts) == ["decode", "prefill", "queue"]
    stages = {span.name for span in spans if span.parent_id == root.span_id}
    assert {"auth", "parse", "sanitize", "tokenize", "route", "ask worker"} <= stages
    for span in spans:
        assert span.start_ns <= span.end_ns
        parent = by_id.get(span.parent_id)
        assert parent is None or parent.start_ns - 10**6 <= span.start_ns, span.name
        said = json.dumps(dict(span.attributes))
        assert ANSWER not in said
        assert "France" not in said
