from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gpu_worker.serving import ServingConfig
from tests.fakes.engine import FakeEngine
from tests.fakes.spans import MemorySink, assert_one_trace, traces
from tests.fakes.waiting import until
from tests.fakes.worker_api import ASK, CHAT, STREAM, StartApi, WorkerApi
from wire.telemetry.trace_context import TraceContext

ASKER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
PARTS = ["queue", "prefill", "decode"]


async def ask(worker: WorkerApi, body: dict[str, Any], asker: TraceContext | None = ASKER) -> int:
    headers = {"Authorization": "Bearer t0ken"}
    if asker is not None:
        headers["traceparent"] = asker.header()
    url = worker.server.make_url(CHAT)
    async with worker.http.post(url, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("body", [ASK, STREAM])
async def test_a_request_goes_on_with_the_edges_trace(
    start_api: StartApi, body: dict[str, Any]
) -> None:
    sink = MemorySink()
    worker = await start_api(FakeEngine(), traces=traces(sink, trust=True))
    assert await ask(worker, body) == 200
    await until(lambda: bool(sink.spans))
    root = assert_one_trace(sink.spans)
    assert (root.context.trace_id, root.parent_id) == (ASKER.trace_id, ASKER.span_id)
    assert root.kind == "server"
    assert root.attributes["headwater.outcome"] == "done"
    assert root.attributes["gen_ai.response.finish_reasons"]
    assert int(str(root.attributes["gen_ai.usage.output_tokens"])) > 0
    parts = [span for span in sink.spans if span.kind == "internal"]
    assert [span.name for span in parts] == PARTS
    assert [span.end_ns for span in parts[:-1]] == [span.start_ns for span in parts[1:]]
    assert (parts[0].start_ns, parts[-1].end_ns) == (root.start_ns, root.end_ns)


async def test_what_the_edge_does_not_sample_is_not_recorded(start_api: StartApi) -> None:
    sink = MemorySink()
    worker = await start_api(FakeEngine(), traces=traces(sink, trust=True))
    await ask(worker, ASK, ASKER._replace(sampled=False))
    assert sink.spans == []


async def test_a_worker_alone_begins_its_own_traces(start_api: StartApi) -> None:
    sink = MemorySink()
    worker = await start_api(FakeEngine(), traces=traces(sink, trust=True))
    await ask(worker, ASK, None)
    assert assert_one_trace(sink.spans).parent_id == ""


async def test_a_queue_that_is_full_is_an_error(start_api: StartApi) -> None:
    sink, engine = MemorySink(), FakeEngine(capacity=1)
    engine.gate.clear()
    serving = ServingConfig(queue_requests=0)
    worker = await start_api(engine, serving_config=serving, traces=traces(sink, trust=True))
    running = asyncio.create_task(ask(worker, STREAM))
    await engine.until_open(1)
    assert await ask(worker, STREAM) == 503
    root = sink.named("chat")
    assert (root.error, root.attributes["headwater.outcome"]) == ("queue_full", "queue_full")
    assert [span.name for span in sink.spans if span.kind == "internal"] == ["queue"]
    engine.gate.set()
    assert await running == 200


async def test_a_client_that_leaves_is_no_error(start_api: StartApi) -> None:
    sink, engine = MemorySink(), FakeEngine()
    engine.gate.clear()
    worker = await start_api(engine, traces=traces(sink, trust=True))
    asking = asyncio.create_task(ask(worker, STREAM))
    await engine.until_open(1)
    asking.cancel()
    await until(lambda: bool(sink.spans))
    root = assert_one_trace(sink.spans)
    assert (root.error, root.attributes["headwater.outcome"]) == ("", "client_gone")


async def test_off_nothing_is_noted(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    assert await ask(worker, ASK) == 200
