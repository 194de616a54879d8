"""edge_tier.warm: jobs over a real cache, and its routes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from edge_tier.cache.documents import DocumentConfig, DocumentStore
from edge_tier.cache.fill import CachingSource
from edge_tier.cache.fill_config import FillConfig
from edge_tier.cache.pins import PinConfig, Pins, Rolled
from edge_tier.cache.store import ChunkStore, StoreConfig
from edge_tier.warm import Job, WarmConfig, Warmer, WarmRequest
from edge_tier.warm_routes import WarmRoutes
from tests.fakes.cache import FaultyDisk
from tests.fakes.cached_models import MODEL, card_chunk, publish, view_of
from tests.fakes.source import MemorySource
from tests.fakes.waiting import until
from wire.chunk import MAX_CHUNK_BYTES
from wire.errors import NotFoundError, SourceUnavailableError, TrustError
from wire.http_errors import error_middleware
from wire.paths import revision_key
from wire.trust import TrustView

WARM = WarmRequest(model=MODEL)
OPEN = {"Authorization": "Bearer secret"}


class Edge:
    """A cache with a warmer over it, and the view that a test gives."""

    def __init__(self, folder: Path, config: WarmConfig, fill: FillConfig) -> None:
        self.upstream = MemorySource()
        self.disk = FaultyDisk()
        self.view: TrustView | None = None
        self.cache = CachingSource(
            self.upstream,
            ChunkStore(folder / "chunks", StoreConfig(cache_bytes=1 << 20), write=self.disk),
            DocumentStore(folder / "documents", DocumentConfig(fsync=False)),
            fill,
            verify=lambda _: None,
        )
        self.pins = Pins(self.cache, self.cache.store, self.cache.documents, PinConfig())
        self.warmer = Warmer(self.cache, self.pins, lambda: self.view, config)

    async def ended(self, job: Job) -> Job:
        await until(lambda: job.state != "running")
        return job

    async def aclose(self) -> None:
        await self.warmer.aclose()
        await self.cache.aclose()


OpenEdge = Callable[..., Any]


@pytest.fixture
async def open_edge(tmp_path: Path) -> AsyncIterator[OpenEdge]:
    opened: list[Edge] = []

    async def start(fill: FillConfig | None = None, **settings: Any) -> Edge:
        config = WarmConfig(**{"retry_s": 0.0, **settings})
        edge = Edge(tmp_path, config, fill or FillConfig())
        await edge.cache.start()
        opened.append(edge)
        return edge

    yield start
    for edge in opened:
        await edge.aclose()


@pytest.fixture
async def edge(open_edge: OpenEdge) -> Edge:
    made: Edge = await open_edge()
    return made


def _weights(seed: int, count: int) -> list[bytes]:
    return [bytes([seed, number]) * 500 for number in range(count)]


async def test_everything_a_channel_points_at_is_here_afterwards(edge: Edge) -> None:
    revision, ids = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    job = await edge.ended(await edge.warmer.start(WARM))
    assert (job.state, job.revision, job.chunks, job.done_chunks) == ("done", revision, 9, 9)
    assert job.bytes == job.done_bytes == job.fetched_bytes > 8_000
    assert all(id in edge.cache.store for id in ids[""])  # noqa: A001
    assert edge.cache.stats.misses == 0, "nobody asked"


async def test_a_second_time_nothing_is_fetched(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    await edge.ended(await edge.warmer.start(WARM))
    calls = edge.upstream.call_count
    job = await edge.ended(await edge.warmer.start(WARM))
    assert (job.state, job.done_chunks, job.fetched_bytes) == ("done", 9, 0)
    assert edge.upstream.call_count == calls


async def test_who_asks_for_the_same_joins_the_job_that_runs(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    edge.upstream.gate = asyncio.Event()
    first = await edge.warmer.start(WARM)
    second = await edge.warmer.start(WARM)
    assert first is second
    edge.upstream.gate.set()
    await edge.ended(first)


async def test_a_variant_brings_its_own_files_and_those_of_no_variant(edge: Edge) -> None:
    revision, ids = publish(edge.upstream, {"Q4": _weights(1, 3), "Q8": _weights(2, 5)})
    edge.view = view_of(("stable", revision))
    job = await edge.ended(await edge.warmer.start(WarmRequest(model=MODEL, variant="Q4")))
    assert job.chunks == 4
    assert card_chunk(edge.upstream) in edge.cache.store
    assert not any(id in edge.cache.store for id in ids["Q8"])  # noqa: A001
    job = await edge.ended(await edge.warmer.start(WarmRequest(model=MODEL, variant="Q5")))
    assert (job.state, job.code) == ("failed", "not_found")
    assert "Q4, Q8" in job.reason


async def test_a_job_can_be_cancelled_and_goes_on_where_it_stopped(open_edge: OpenEdge) -> None:
    edge = await open_edge(parallel=1)
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    edge.upstream.gate = asyncio.Event()
    job = await edge.warmer.start(WARM)
    while job.done_chunks < 2:  # one call after the other, so that it cannot run on to its end
        edge.upstream.gate.set()
        edge.upstream.gate = asyncio.Event()
        await asyncio.sleep(0)
    await edge.warmer.cancel(job.id)
    assert job.state == "cancelled"
    edge.upstream.gate = None
    again = await edge.ended(await edge.warmer.start(WARM))
    assert again.state == "done"
    assert again.fetched_bytes < again.bytes


async def test_a_revision_is_brought_for_those_who_use_the_one_before(edge: Edge) -> None:
    old, ids = publish(edge.upstream, {"Q4": _weights(1, 3), "Q8": _weights(2, 3)})
    new, coming = publish(edge.upstream, {"Q4": _weights(3, 3), "Q8": _weights(4, 3)})
    edge.view = view_of(("stable", old), signed=[new])
    await edge.cache.chunk(ids["Q4"][0])
    job = await edge.ended(await edge.warmer.bring(MODEL, new))
    assert (job.state, job.revision, job.preheat) == ("done", new, True)
    assert all(id in edge.cache.store for id in coming["Q4"])  # noqa: A001
    assert not any(id in edge.cache.store for id in coming["Q8"])  # noqa: A001


async def test_what_is_not_signed_is_not_brought(edge: Edge) -> None:
    old, _ = publish(edge.upstream, {"": _weights(1, 3)})
    new, _ = publish(edge.upstream, {"": _weights(2, 3)})
    with pytest.raises(TrustError):
        await edge.warmer.bring(MODEL, new)
    edge.view = view_of(("stable", old))
    with pytest.raises(TrustError, match="not signed"):
        await edge.warmer.bring(MODEL, new)


async def test_of_a_model_that_nobody_uses_here_only_the_small_files_are_brought(
    edge: Edge,
) -> None:
    new, coming = publish(edge.upstream, {"": _weights(2, 3)})
    edge.view = view_of(signed=[new])
    job = await edge.ended(await edge.warmer.bring(MODEL, new))
    assert (job.state, job.chunks) == ("done", 1)
    assert not any(id in edge.cache.store for id in coming[""])  # noqa: A001


async def test_real_requests_go_first(open_edge: OpenEdge) -> None:
    fill = FillConfig(fill_bytes_in_flight=2 * MAX_CHUNK_BYTES)
    edge = await open_edge(fill, parallel=8)
    revision, _ = publish(edge.upstream, {"": _weights(1, 12)})
    other = edge.upstream.add_chunk(b"asked for by somebody")
    edge.view = view_of(("stable", revision))
    await edge.cache.manifest(revision)
    edge.upstream.gate = asyncio.Event()
    before = edge.upstream.call_count
    job = await edge.warmer.start(WARM)
    await edge.upstream.until_called(before + 1)
    real = asyncio.create_task(edge.cache.deliver(other))
    await edge.upstream.until_called(before + 2)
    assert edge.upstream.calls[f"chunk:{other}"] == 1, "although eleven fetches waited before it"
    edge.upstream.gate.set()
    await real
    assert (await edge.ended(job)).state == "done"


async def test_a_source_that_fails_now_and_then_is_asked_again(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    await edge.cache.manifest(revision)
    edge.upstream.failures.extend(SourceUnavailableError("broke off") for _ in range(3))
    assert (await edge.ended(await edge.warmer.start(WARM))).state == "done"


async def test_a_source_that_is_away_fails_the_job_and_says_so(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    edge.upstream.down = SourceUnavailableError("origin is away")
    job = await edge.ended(await edge.warmer.start(WARM))
    assert (job.state, job.code) == ("failed", "source_unavailable")
    assert "origin is away" in job.reason


async def test_a_full_disk_fails_the_job_and_says_so(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    edge.disk.fill_up()
    job = await edge.ended(await edge.warmer.start(WARM))
    assert (job.state, job.code) == ("failed", "not_stored")
    assert "No space left" in job.reason


async def test_what_cannot_fit_is_not_begun(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": [bytes([n]) * (300 << 10) for n in range(4)]})
    edge.view = view_of(("stable", revision))
    job = await edge.ended(await edge.warmer.start(WARM))
    assert (job.state, job.code) == ("failed", "too_large")
    assert edge.cache.store.stats.chunks == 0


async def test_a_revision_that_was_taken_down_is_not_warmed(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    await edge.cache.purge([revision_key(revision)], hard=True)
    job = await edge.ended(await edge.warmer.start(WARM))
    assert (job.state, job.code) == ("failed", "gone")


async def test_only_what_is_signed_is_warmed(edge: Edge) -> None:
    with pytest.raises(TrustError):
        await edge.warmer.start(WARM)
    edge.view = view_of()
    with pytest.raises(NotFoundError):
        await edge.warmer.start(WARM)


async def test_with_pin_it_stays(edge: Edge) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    await edge.ended(await edge.warmer.start(WarmRequest(model=MODEL, pin=True)))
    assert edge.cache.store.stats.pinned_bytes == 9 * 4096
    assert edge.pins.kept()[0].model == MODEL


async def test_a_roll_is_fetched_for_those_who_use_the_revision_before(edge: Edge) -> None:
    old, ids = publish(edge.upstream, {"Q4": _weights(1, 4), "Q8": _weights(2, 4)})
    new, others = publish(edge.upstream, {"Q4": _weights(3, 4), "Q8": _weights(4, 4)})
    await edge.cache.manifest(old)
    await edge.cache.deliver(ids["Q8"][0])
    edge.view = view_of(("stable", new), signed=[old])
    job = await edge.warmer.preheat(Rolled(MODEL, "stable", new, old))
    assert job is not None
    await edge.ended(job)
    assert (job.state, job.preheat, job.chunks) == ("done", True, 5)
    assert all(id in edge.cache.store for id in others["Q8"])  # noqa: A001
    assert not any(id in edge.cache.store for id in others["Q4"])  # noqa: A001


async def test_preheating_can_be_switched_off(open_edge: OpenEdge) -> None:
    edge = await open_edge(preheat=False)
    assert await edge.warmer.preheat(Rolled(MODEL, "stable", "a" * 64, "b" * 64)) is None


async def test_jobs_are_bounded_and_the_oldest_that_ended_is_forgotten(
    open_edge: OpenEdge,
) -> None:
    edge = await open_edge(max_jobs=2)
    revision, _ = publish(edge.upstream, {"Q4": _weights(1, 1), "Q8": _weights(2, 1)})
    edge.view = view_of(("stable", revision))
    first = await edge.ended(await edge.warmer.start(WARM))
    edge.upstream.gate = asyncio.Event()
    edge.cache.store.pin("nobody", [])
    await edge.cache.store.drop(card_chunk(edge.upstream))
    jobs = [
        await edge.warmer.start(WarmRequest(model=MODEL, variant=name)) for name in ("Q4", "Q8")
    ]
    assert edge.warmer.jobs() == jobs
    with pytest.raises(NotFoundError):
        edge.warmer.job(first.id)
    with pytest.raises(SourceUnavailableError):
        await edge.warmer.start(WARM)
    edge.upstream.gate.set()


# Routes


@pytest.fixture
async def client(edge: Edge) -> AsyncIterator[TestClient[Any, Any]]:
    app = web.Application(middlewares=[error_middleware()])
    WarmRoutes(warmer=edge.warmer, pins=edge.pins, view=lambda: edge.view, token="secret").add_to(
        app
    )
    async with TestClient(TestServer(app)) as opened:
        yield opened


async def test_a_warm_up_over_http(edge: Edge, client: TestClient[Any, Any]) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    body = {"model": MODEL, "pin": True}
    job = await (await client.post("/admin/warm", json=body, headers=OPEN)).json()
    assert job["revision"] == revision
    await edge.ended(edge.warmer.job(job["id"]))
    shown = await (await client.get(f"/admin/warm/{job['id']}", headers=OPEN)).json()
    assert (shown["state"], shown["done_chunks"]) == ("done", 9)
    listed = await (await client.get("/admin/warm", headers=OPEN)).json()
    assert [one["id"] for one in listed["jobs"]] == [job["id"]]
    assert listed["kept"] == [{"model": MODEL, "channel": "stable", "variants": []}]
    ended = await (await client.delete(f"/admin/pins/{MODEL}/stable", headers=OPEN)).json()
    assert ended["was_kept"] is True


async def test_a_job_is_cancelled_over_http(edge: Edge, client: TestClient[Any, Any]) -> None:
    revision, _ = publish(edge.upstream, {"": _weights(1, 8)})
    edge.view = view_of(("stable", revision))
    edge.upstream.gate = asyncio.Event()
    job = await (await client.post("/admin/warm", json={"model": MODEL}, headers=OPEN)).json()
    ended = await (await client.delete(f"/admin/warm/{job['id']}", headers=OPEN)).json()
    assert ended["state"] == "cancelled"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/admin/warm"),
        ("GET", "/admin/warm"),
        ("GET", "/admin/warm/x"),
        ("DELETE", "/admin/warm/x"),
        ("DELETE", "/admin/pins/chat/stable"),
    ],
)
async def test_without_the_token_nothing_is_told(
    client: TestClient[Any, Any], method: str, path: str
) -> None:
    assert (await client.request(method, path, json={"model": MODEL})).status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[" * 10_000,
        b'{"model": "../x"}',
        b'{"model": "chat", "channel": "a/b"}',
        b'{"model": "chat", "variant": "%2e"}',
        b'{"model": "chat", "more": 1}',
    ],
)
async def test_what_is_no_request_is_refused(client: TestClient[Any, Any], body: bytes) -> None:
    assert (await client.post("/admin/warm", data=body, headers=OPEN)).status == 400


async def test_a_body_beyond_the_bound_is_refused(client: TestClient[Any, Any]) -> None:
    answer = await client.post("/admin/warm", data=b"x" * 70_000, headers=OPEN)
    assert answer.status == 413
