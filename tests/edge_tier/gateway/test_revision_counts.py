"""Counts by revision: what counts for whom, and that they are bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from edge_tier.gateway.revision_counts import RevisionCounts
from tests.fakes.gateway import MODEL, Gateway, gateway_in
from tests.fakes.waiting import until
from wire.fleet import FIRST_TOKEN_BOUNDS_MS

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path) as made:
        made.worker.name = made.revision
        yield made


async def ask(gateway: Gateway, **fields: Any) -> int:
    answer = await gateway.client.post(
        "/v1/chat/completions", json={**CHAT, **fields}, headers=gateway.headers
    )
    await answer.read()
    return answer.status


def counted(gateway: Gateway) -> tuple[int, int, int]:
    """Answered, failed, begun, of the one revision."""
    rows = {figures.revision: figures for figures in gateway.counts.figures()}
    if not rows:
        return 0, 0, 0
    (row,) = rows.values()
    assert (row.model, row.revision) == (MODEL, gateway.revision)
    return row.answered, row.failed, sum(row.first_token)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_whole_answer_counts_once_with_its_time(gateway: Gateway, stream: bool) -> None:
    assert await ask(gateway, stream=stream) == 200
    assert counted(gateway) == (1, 0, 1)


@pytest.mark.parametrize("stream", [False, True])
async def test_no_answer_is_a_failure(gateway: Gateway, stream: bool) -> None:
    gateway.worker.answer = gateway.worker.failing
    assert await ask(gateway, stream=stream) == 503
    assert counted(gateway) == (0, 1, 0)


async def test_an_answer_that_breaks_off_is_a_failure(gateway: Gateway) -> None:
    gateway.worker.answer = gateway.worker.broken
    await ask(gateway, stream=True)
    await until(lambda: counted(gateway)[1] > 0)
    assert counted(gateway) == (0, 1, 1)


async def test_an_error_in_the_stream_is_a_failure(gateway: Gateway) -> None:
    async def says_so(request: web.Request) -> web.StreamResponse:
        response = await gateway.worker.begin(request)
        await response.write(b'data: {"error":{"message":"x","code":"engine_broken"}}\n\n')
        return response

    gateway.worker.answer = says_so
    await ask(gateway, stream=True)
    assert counted(gateway)[:2] == (0, 1)


async def test_a_request_that_the_worker_refuses_counts_for_nobody(gateway: Gateway) -> None:
    async def refused(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no"}}, status=400)

    gateway.worker.answer = refused
    assert await ask(gateway) == 400
    assert counted(gateway) == (0, 0, 0)


async def test_a_client_that_leaves_counts_for_nobody(gateway: Gateway) -> None:
    gateway.worker.answer = gateway.worker.endless
    answer = await gateway.client.post(
        "/v1/chat/completions", json={**CHAT, "stream": True}, headers=gateway.headers
    )
    await answer.content.readany()
    answer.close()
    await asyncio.wait_for(gateway.worker.gone.wait(), 30)
    assert counted(gateway) == (0, 0, 1)


async def test_the_cloud_is_not_counted(gateway: Gateway) -> None:
    assert await ask(gateway, model="cloud-large") == 200
    assert counted(gateway) == (0, 0, 0)


def test_times_fall_into_the_buckets_of_the_contract() -> None:
    counts = RevisionCounts()
    for bound in FIRST_TOKEN_BOUNDS_MS:
        counts.began("m", "r", bound / 1_000)
    counts.began("m", "r", 3_600)
    (row,) = counts.figures()
    assert row.first_token == (1,) * (len(FIRST_TOKEN_BOUNDS_MS) + 1)


def test_the_revision_that_is_unused_for_longest_goes_first() -> None:
    counts = RevisionCounts(max_revisions=2)
    for revision in ("a", "b", "a", "c"):
        counts.answered("m", revision)
    assert [(f.revision, f.answered) for f in counts.figures()] == [("a", 2), ("c", 1)]


def test_prometheus_sees_the_same() -> None:
    counts, registry = RevisionCounts(), CollectorRegistry()
    registry.register(counts)
    counts.began("m", "a" * 64, 0.004)
    counts.answered("m", "a" * 64)
    counts.failed("m", "a" * 64)
    counts.fell_back()
    labels, name = {"model": "m", "revision": "a" * 12}, "headwater_gateway_revision"
    for outcome in ("answered", "failed"):
        found = registry.get_sample_value(f"{name}_requests_total", {**labels, "outcome": outcome})
        assert found == 1
    bucket = {**labels, "le": "0.005"}
    assert registry.get_sample_value(f"{name}_first_token_seconds_bucket", bucket) == 1
    assert registry.get_sample_value("headwater_gateway_canary_fallbacks_total") == 1


@pytest.mark.parametrize("code", ["queue_full", "not_serving"])
async def test_a_worker_that_has_enough_to_do_counts_for_nobody(
    gateway: Gateway, code: str
) -> None:
    async def full(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": {"message": "no", "code": code}}, status=503)

    gateway.worker.answer = full
    for _ in range(5):
        assert await ask(gateway) == 503
    assert counted(gateway) == (0, 0, 0)
    member = gateway.fleet.member("w1", MODEL)
    assert member is not None
    assert member.breaker.state() == "closed"


async def test_a_request_that_is_refused_in_its_stream_counts_for_nobody(gateway: Gateway) -> None:
    async def refused(request: web.Request) -> web.StreamResponse:
        response = await gateway.worker.begin(request)
        await response.write(b'data: {"error":{"code":"context_length_exceeded"}}\n\n')
        return response

    gateway.worker.answer = refused
    await ask(gateway, stream=True)
    assert counted(gateway)[:2] == (0, 0)


async def test_what_is_no_digest_makes_no_row(gateway: Gateway) -> None:
    for name in ("x" * 300, "", "F" * 64, "é"):
        gateway.worker.name = name
        assert await ask(gateway) == 200
    assert counted(gateway) == (4, 0, 4)


def test_revisions_that_begin_alike_are_told_apart() -> None:
    counts, registry = RevisionCounts(), CollectorRegistry()
    registry.register(counts)
    alike = ["a" * 12 + "b" * 52, "a" * 12 + "c" * 52]
    for revision in alike:
        counts.answered("m", revision)
    lines = [line for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    names = [line.rpartition(" ")[0] for line in lines]
    assert len(names) == len(set(names))
