"""edge_tier.gateway.asked: what becomes of an attempt, by what becomes of the question."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.gateway import MODEL, Gateway, gateway_in
from tests.fakes.spans import MemorySink, traces
from tests.fakes.waiting import until

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "Hello."}]}


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


@pytest.fixture
async def gateway(tmp_path: Path, sink: MemorySink) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path, traces=traces(sink)) as made:
        yield made


async def test_a_backend_that_is_left_was_cancelled(gateway: Gateway, sink: MemorySink) -> None:
    gateway.worker.answer = gateway.worker.silent
    asking = asyncio.create_task(
        gateway.client.post("/v1/chat/completions", json=ASK, headers=gateway.headers)
    )
    await until(lambda: bool(gateway.worker.bodies))
    asking.cancel()
    await until(lambda: bool(sink.spans))
    assert sink.named("ask worker").error == "cancelled"


async def test_a_backend_that_cannot_is_named_by_its_error(
    gateway: Gateway, sink: MemorySink
) -> None:
    gateway.worker.answer = gateway.worker.failing
    await gateway.client.post("/v1/chat/completions", json=ASK, headers=gateway.headers)
    await until(lambda: bool(sink.spans))
    errors = [span.error for span in sink.spans if span.name == "ask worker"]
    assert set(errors) == {"upstream_failed"}
