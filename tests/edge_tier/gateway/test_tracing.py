"""edge_tier.gateway.tracing and trace_attributes: traces of a running gateway."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse

from edge_tier.gateway.tracing import Attempt, RequestTrace
from tests.fakes.gateway import CLOUD_MODEL, MODEL, Gateway, gateway_in
from tests.fakes.spans import MemorySink, assert_one_trace, traces
from tests.fakes.waiting import until
from wire.telemetry.spans import Span
from wire.telemetry.trace_context import TraceContext, parse_traceparent

SECRET = "the tortoise sings at midnight"
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": SECRET}],
    "max_tokens": 7,
    "temperature": 0.5,
}
STAGES = ["auth", "read", "parse", "sanitize", "screen", "tokenize", "classify", "route", "reserve"]
ASKER = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
Started = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
async def gateway(tmp_path: Path, sink: MemorySink) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path, traces=traces(sink)) as made:
        yield made


async def post(gateway: Gateway, body: dict[str, Any], **headers: str) -> ClientResponse:
    answer = await gateway.client.post(
        "/v1/chat/completions", json=body, headers=gateway.headers | headers
    )
    await answer.read()
    return answer


async def spans_of(gateway: Gateway, sink: MemorySink) -> list[Span]:
    """Those of the one request; they are made when its line is logged."""
    await until(lambda: bool(sink.spans))
    return sink.spans


def lines(gateway: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.log.getvalue().splitlines()]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_is_one_trace_with_its_stages(
    gateway: Gateway, sink: MemorySink, stream: bool
) -> None:
    await post(gateway, {**ASK, "stream": stream})
    root = assert_one_trace(await spans_of(gateway, sink))
    assert (root.name, root.kind, root.parent_id, root.error) == (f"chat {MODEL}", "server", "", "")
    assert root.attributes["gen_ai.operation.name"] == "chat"
    assert root.attributes["gen_ai.request.model"] == MODEL
    assert root.attributes["gen_ai.response.model"] == MODEL
    assert root.attributes["gen_ai.request.max_tokens"] == 7
    assert root.attributes["gen_ai.request.temperature"] == 0.5
    assert root.attributes["gen_ai.usage.output_tokens"] == 2
    assert root.attributes["headwater.outcome"] == "whole"
    assert root.attributes["headwater.tenant"] == "t"
    assert [span.name for span in sink.spans if span.kind == "internal"] == STAGES
    await until(lambda: bool(gateway.log.getvalue()))
    assert lines(gateway)[-1]["trace_id"] == root.context.trace_id
    assert SECRET not in sink.texts()
    assert gateway.key not in sink.texts()


async def test_a_worker_is_told_its_attempt(gateway: Gateway, sink: MemorySink) -> None:
    await post(gateway, ASK)
    await spans_of(gateway, sink)
    attempt = sink.named("ask worker")
    assert gateway.worker.traceparents == [attempt.context.header()]
    assert attempt.kind == "client"
    assert attempt.attributes["headwater.worker"] == "w1"
    assert attempt.attributes["headwater.revision"] == gateway.revision


async def test_the_cloud_is_told_nothing(gateway: Gateway, sink: MemorySink) -> None:
    await post(gateway, {**ASK, "model": CLOUD_MODEL})
    await spans_of(gateway, sink)
    assert gateway.cloud.traceparents == [None]
    assert sink.named("ask cloud").parent_id == sink.named(f"chat {CLOUD_MODEL}").context.span_id


async def test_attempts_that_failed_are_there_with_the_reason(
    gateway: Gateway, sink: MemorySink
) -> None:
    gateway.worker.answer = gateway.worker.failing
    answer = await post(gateway, ASK)
    assert answer.status >= 500
    root = assert_one_trace(await spans_of(gateway, sink))
    attempts = [span for span in sink.spans if span.name == "ask worker"]
    assert attempts
    assert all(span.error == span.attributes["error.type"] for span in attempts)
    assert root.attributes["error.type"] == root.error != ""
    assert root.attributes["http.response.status_code"] == answer.status


async def test_a_stream_that_breaks_says_so(gateway: Gateway, sink: MemorySink) -> None:
    gateway.worker.answer = gateway.worker.broken
    await post(gateway, {**ASK, "stream": True})
    root = assert_one_trace(await spans_of(gateway, sink))
    assert (root.error, root.attributes["headwater.outcome"]) == ("broken", "broken")
    assert next(span.error for span in sink.spans if span.name == "ask worker") == "broken"
    await until(lambda: b"answered" in gateway.log.getvalue())
    assert {line["trace_id"] for line in lines(gateway) if "trace_id" in line} == {
        root.context.trace_id
    }


async def test_a_client_that_leaves_is_no_error(gateway: Gateway, sink: MemorySink) -> None:
    gateway.worker.answer = gateway.worker.endless
    answer = await gateway.client.post(
        "/v1/chat/completions", json={**ASK, "stream": True}, headers=gateway.headers
    )
    await answer.content.readany()
    answer.close()
    root = assert_one_trace(await spans_of(gateway, sink))
    assert (root.error, root.attributes["headwater.outcome"]) == ("", "gone")


@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (ASK, {"Authorization": "Bearer nonsense"}, 401),
        ({**ASK, "model": "unheard-of"}, {}, 404),
        ({"model": MODEL, "messages": SECRET}, {}, 400),
    ],
)
async def test_what_is_refused_is_a_trace_and_the_clients_fault_no_error(
    gateway: Gateway, sink: MemorySink, body: dict[str, Any], headers: dict[str, str], code: int
) -> None:
    answer = await post(gateway, body, **headers)
    assert answer.status == code
    root = assert_one_trace(await spans_of(gateway, sink))
    assert (root.name, root.error) == ("chat", "")
    assert root.attributes["http.response.status_code"] == code
    assert root.attributes["headwater.outcome"] == "refused"
    assert root.attributes["error.type"]
    assert SECRET not in sink.texts()
    await until(lambda: bool(gateway.log.getvalue()))
    assert lines(gateway)[-1]["trace_id"] == root.context.trace_id


async def test_a_client_is_linked_to_and_not_gone_on_from(
    gateway: Gateway, sink: MemorySink
) -> None:
    await post(gateway, ASK, traceparent=ASKER.header())
    root = assert_one_trace(await spans_of(gateway, sink))
    assert root.context.trace_id != ASKER.trace_id
    assert root.link == ASKER


async def test_a_trusted_client_is_gone_on_from(tmp_path: Path, sink: MemorySink) -> None:
    async with gateway_in(tmp_path, traces=traces(sink, ratio=0.0, trust=True)) as gateway:
        await post(gateway, ASK, traceparent=ASKER.header())
        root = assert_one_trace(await spans_of(gateway, sink))
    assert root.context.trace_id == ASKER.trace_id
    assert (root.parent_id, root.link) == (ASKER.span_id, None)


async def test_what_is_not_sampled_is_no_span_but_the_worker_hears_of_it(
    tmp_path: Path, sink: MemorySink
) -> None:
    async with gateway_in(tmp_path, traces=traces(sink, ratio=0.0)) as gateway:
        await post(gateway, ASK)
        await until(lambda: b"answered" in gateway.log.getvalue())
        told = parse_traceparent(gateway.worker.traceparents[0])
        assert told is not None
        assert not told.sampled
        assert lines(gateway)[-1]["trace_id"] == told.trace_id
    assert sink.spans == []


async def test_off_nobody_hears_of_a_trace(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        await post(gateway, ASK, traceparent=ASKER.header())
        assert gateway.worker.traceparents == [None]
        await until(lambda: b"answered" in gateway.log.getvalue())
        assert "trace_id" not in lines(gateway)[-1]


def test_attempts_are_bounded_and_end_once(sink: MemorySink) -> None:
    trace = RequestTrace(traces(sink), None)
    for _ in range(100):
        trace.attempt("worker", "m", "w")
    assert len(trace.attempts) == 32
    attempt = Attempt(ASKER, "worker", "m", "w")
    attempt.end("first")
    ended_s = attempt.ended_s
    attempt.end("second")
    assert (attempt.error, attempt.ended_s) == ("first", ended_s)


def test_a_stage_that_was_timed_before_the_trace_began_ends_with_the_request(
    sink: MemorySink,
) -> None:
    trace = RequestTrace(traces(sink), None)
    trace.finish("chat", {}, [("read", 60_000.0), ("parse", 1.0)])
    root = assert_one_trace(sink.spans)
    assert {sink.named(name).end_ns for name in ("read", "parse")} == {root.end_ns}
