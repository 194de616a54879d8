"""Near and far sources, stragglers and faults of every kind, over real HTTP and through real pulls.

An origin serves, and proxies before it are slow, narrow and faulty as told (``fault_proxy``). A
worker's pull, or an edge that fills its cache, gets its bytes through them.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
from aiohttp.test_utils import TestClient, TestServer

from edge_tier.app import build_app as build_edge
from edge_tier.config import CacheConfig, EdgeConfig, GatewayConfig
from gpu_worker.disk import ModelFolder
from gpu_worker.pull import PullReport, pull
from origin.app import PUBLISHER
from origin.app import build_app as build_origin
from origin.config import OriginConfig
from origin.init import initialize
from tests.fakes.fault_proxy import Fault, FaultProxy, Kind, fault_proxy
from tests.fakes.origin_home import Home
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, chunk_of, make_revision
from tests.fakes.waiting import until
from wire.chunk import is_digest
from wire.files import write_atomically
from wire.http_client import ClientConfig
from wire.http_source import HttpSource
from wire.paths import CHUNKS, METRICS, chunk_path
from wire.sources.hedging import HedgeConfig
from wire.sources.member import SourceStats
from wire.sources.nearest import Nearest, NearestConfig
from wire.sources.scoreboard import ScoreConfig

EdgeClient: TypeAlias = TestClient[Any, Any]
NEAR_S, FAR_S = 0.05, 0.5
TRIES = 4
CHUNK_BYTES = 256 * 1024
BROKEN: tuple[Kind, ...] = ("reset", "truncate", "flip", "wrong-range", "refuse")
"""Faults that are noticed as they happen."""
QUICK = ClientConfig(stall_timeout_s=1.0)
FORGIVING = NearestConfig(
    scores=ScoreConfig(half_life_s=0.2, probe_interval_s=0.2, mismatch_penalty_s=5.0)
)


def revision_of(first: int, count: int) -> Revision:
    """A revision of chunks that no other seed has."""
    parts = [chunk_of(seed, CHUNK_BYTES) for seed in range(first, first + count)]
    return make_revision({"model.gguf": parts})


@dataclass(slots=True)
class World:
    """An origin, what stands before it, and workers that pull through that."""

    origin: str
    home: Home
    executor: ThreadPoolExecutor
    stack: ExitStack
    pulls: int = 0

    def proxy(self, **link: float) -> FaultProxy:
        """One more way to the origin."""
        return self.stack.enter_context(fault_proxy(self.origin, **link))

    def sources(self, *proxies: FaultProxy, config: NearestConfig | None = None) -> Nearest:
        """A worker's sources."""
        return Nearest(
            [HttpSource(proxy.url, self.executor, config=QUICK) for proxy in proxies],
            config=config,
        )

    async def pull(self, revision: Revision, sources: Nearest) -> PullReport:
        """Pull into a new folder, and check every byte."""
        self.pulls += 1
        folder = ModelFolder(self.home.folder / f"models-{self.pulls}")
        report = await pull("chat", revision.id, sources, folder, self.executor)
        found = await asyncio.to_thread((report.path / "model.gguf").read_bytes)
        assert hashlib.sha256(found).hexdigest() == revision.manifest.file("model.gguf").sha256
        return report


@pytest.fixture(scope="module")
def revisions() -> dict[str, Revision]:
    return {"long": revision_of(0, 80), "short": revision_of(80, 16), "later": revision_of(96, 24)}


@pytest.fixture
async def world(revisions: dict[str, Revision]) -> AsyncIterator[World]:
    with (
        ExitStack() as stack,
        quick_folder() as folder,
        ThreadPoolExecutor(32) as executor,
    ):
        config = OriginConfig(
            store=str(folder / "store"),
            keys_dir=folder / "keys",
            admin_token_file=folder / "token",
        )
        await initialize(config, "passphrase")
        home = Home(folder, config)
        for revision in revisions.values():
            await home.fill(home.open_store(), revision)
        app = await build_origin(config)
        publisher = app[PUBLISHER]
        await publisher.publish(home.sign(publisher.repository, *revisions.values()))
        server = TestServer(app, handler_cancellation=True)
        await server.start_server()
        yield World(str(server.make_url("")).rstrip("/"), home, executor, stack)
        stack.close()  # lets go of whoever is still held
        await server.close()


def stats_of(sources: Nearest, proxy: FaultProxy) -> SourceStats:
    return next(stats for stats in sources.stats() if stats.name == proxy.name)


def penalty_of(sources: Nearest, proxy: FaultProxy) -> float:
    return next(score.penalty_s for score in sources.scores() if score.name == proxy.name)


# Near and far.


@pytest.mark.parametrize("nearest_first", [True, False])
async def test_the_near_source_gives_the_bytes_and_nobody_waits_for_the_far_one(
    world: World, revisions: dict[str, Revision], nearest_first: bool
) -> None:
    seen = []
    for _ in range(TRIES):  # the machine may have been busy with something else
        alone_s, both_s, by_near = await _alone_and_both(world, revisions["long"], nearest_first)
        seen.append((alone_s, both_s, by_near))
        if both_s < 1.5 * alone_s + 0.3 and by_near >= 0.95:
            return
    raise AssertionError(f"seconds alone, seconds of both, share of the near one: {seen}")


async def _alone_and_both(
    world: World, revision: Revision, nearest_first: bool
) -> tuple[float, float, float]:
    """Seconds of a fetch from a near source alone, those with a far one beside it, and the share
    of the near one in what was taken and in what was sent, whichever is less."""
    alone = world.sources(world.proxy(latency_s=NEAR_S))
    alone_s = (await world.pull(revision, alone)).steps_ms["fetch"] / 1e3
    await alone.aclose()

    near, far = world.proxy(latency_s=NEAR_S), world.proxy(latency_s=FAR_S)
    both = world.sources(*((near, far) if nearest_first else (far, near)))
    both_s = (await world.pull(revision, both)).steps_ms["fetch"] / 1e3
    await both.aclose()
    by_near, by_far = stats_of(both, near), stats_of(both, far)
    taken = by_near.bytes / (by_near.bytes + by_far.bytes)
    sent = near.given_bytes / (near.given_bytes + far.given_bytes)
    return alone_s, both_s, min(taken, sent)


async def test_two_narrow_sources_share_what_one_cannot_bear(
    world: World, revisions: dict[str, Revision]
) -> None:
    shares = []
    for _ in range(TRIES):  # the machine may have been busy with something else
        one, two = (world.proxy(latency_s=0.005, bytes_per_s=5e6) for _ in range(2))
        sources = world.sources(one, two)
        await world.pull(revisions["long"], sources)
        await sources.aclose()
        by_one, by_two = stats_of(sources, one).bytes, stats_of(sources, two).bytes
        shares.append(by_one / (by_one + by_two))
        if 0.25 < shares[-1] < 0.75:
            return
    raise AssertionError(f"one of the two gave these shares: {shares}")


# Faults.


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_fault_goes_to_the_next_source_is_counted_and_then_forgiven(
    world: World, revisions: dict[str, Revision], kind: Kind
) -> None:
    bad, good = world.proxy(), world.proxy(latency_s=0.1)
    bad.faults = (Fault(kind, under=CHUNKS),)
    sources = world.sources(bad, good, config=FORGIVING)
    await world.pull(revisions["short"], sources)
    assert bad.struck[kind] >= 1
    by_bad = stats_of(sources, bad)
    assert by_bad.mismatches + by_bad.failures >= 1
    assert by_bad.chunks == 0
    assert stats_of(sources, good).chunks >= len(revisions["short"].chunks)
    assert penalty_of(sources, bad) > 0

    bad.faults = ()
    await until(lambda: penalty_of(sources, bad) < 0.01)
    await world.pull(revisions["later"], sources)
    await sources.aclose()
    assert stats_of(sources, bad).chunks >= 6  # it is the nearer one, and used again


@pytest.mark.parametrize("kind", BROKEN)
async def test_one_broken_answer_among_many_is_not_noticed(
    world: World, revisions: dict[str, Revision], kind: Kind
) -> None:
    near, far = world.proxy(), world.proxy(latency_s=0.1)
    near.faults = (Fault(kind, under=CHUNKS, every=5),)
    lenient = ScoreConfig(unavailable_penalty_s=0.01, mismatch_penalty_s=0.01)
    sources = world.sources(near, far, config=NearestConfig(scores=lenient))
    await world.pull(revisions["later"], sources)
    await sources.aclose()
    assert near.struck[kind] >= 3
    assert stats_of(sources, near).chunks >= 8


async def test_a_source_that_stalls_is_hedged_left_and_used_again(
    world: World, revisions: dict[str, Revision]
) -> None:
    bad, good = world.proxy(), world.proxy(latency_s=0.05)
    bad.faults = (Fault("stall", under=CHUNKS),)
    sources = world.sources(bad, good, config=FORGIVING)
    await world.pull(revisions["short"], sources)
    assert bad.struck["stall"] >= 1
    assert stats_of(sources, bad).abandoned >= 1
    assert stats_of(sources, bad).chunks == 0

    bad.faults = ()
    bad_chunks = 0
    while bad_chunks < 5:  # probes find that it is well again; the test's own time limit ends this
        await world.pull(revisions["later"], sources)
        bad_chunks = stats_of(sources, bad).chunks
    await sources.aclose()


async def test_a_stall_ends_by_itself_where_no_hedge_is_allowed(
    world: World, revisions: dict[str, Revision]
) -> None:
    bad, good = world.proxy(), world.proxy(latency_s=0.2)
    bad.faults = (Fault("stall", under=CHUNKS, first=4),)
    never = NearestConfig(hedge=HedgeConfig(share=0.0, burst=0))
    sources = world.sources(bad, good, config=never)
    await world.pull(revisions["short"], sources)
    await sources.aclose()
    assert sum(stats.hedges for stats in sources.stats()) == 0
    assert bad.struck["stall"] >= 1


async def test_a_link_that_becomes_too_narrow_is_left_in_the_middle_of_a_chunk(
    world: World, revisions: dict[str, Revision]
) -> None:
    near, far = world.proxy(), world.proxy(latency_s=0.1)
    sources = world.sources(near, far)
    await world.pull(revisions["short"], sources)
    near.bytes_per_s = 1_000.0  # a chunk would take 260 s, more than this test may
    await world.pull(revisions["later"], sources)
    await sources.aclose()
    assert stats_of(sources, far).chunks >= 20


# An edge that fills its cache from a faulty upstream (threat 11).


async def start_edge(world: World, stack: AsyncExitStack, *proxies: FaultProxy) -> EdgeClient:
    """An edge over these ways to the origin."""
    folder = world.home.folder
    for name in ("admin", "worker"):
        write_atomically(folder / f"{name}-token", name.encode())
    config = EdgeConfig(
        origins=tuple(proxy.url for proxy in proxies),
        trust_root=world.home.config.keys_dir / "root.json",
        trust_dir=folder / "edge" / "trust",
        admin_token_file=folder / "admin-token",
        worker_token_file=folder / "worker-token",
        client=QUICK,
        cache=CacheConfig(folder=folder / "edge" / "cache"),
        gateway=GatewayConfig(
            keys_file=folder / "edge" / "keys.json", pepper_file=folder / "edge" / "pepper"
        ),
    )
    client = TestClient(TestServer(await build_edge(config), handler_cancellation=True))
    return await stack.enter_async_context(client)


def cached(world: World) -> dict[str, bytes]:
    """What lies in the edge's cache, by name."""
    files = (world.home.folder / "edge" / "cache" / "chunks").rglob("*")
    return {
        file.name: file.read_bytes() for file in files if file.is_file() and is_digest(file.name)
    }


async def counted(edge: EdgeClient, proxy: FaultProxy) -> float:
    """Mismatches and failures of a source, as the edge's metrics tell."""
    text = await (await edge.get(METRICS)).text()
    labels = re.escape(f'{{source="{proxy.name}"}}')
    found = re.findall(
        rf"^headwater_edge_source_(?:mismatches|failures)_total{labels} (\S+)", text, re.M
    )
    assert len(found) == 2
    return sum(map(float, found))


@pytest.mark.parametrize("kind", [*BROKEN, "stall"])
async def test_an_edge_never_caches_a_broken_answer_and_takes_the_next_source(
    world: World, revisions: dict[str, Revision], kind: Kind
) -> None:
    bad, good = world.proxy(), world.proxy(latency_s=0.1)
    bad.faults = (Fault(kind, under=CHUNKS),)
    wanted = list(revisions["short"].chunks.items())[:6]
    async with AsyncExitStack() as stack:
        edge = await start_edge(world, stack, bad, good)
        for chunk, data in wanted:
            answer = await edge.get(chunk_path(chunk))
            assert (answer.status, await answer.read()) == (200, data)
        assert bad.struck[kind] >= 1
        if kind != "stall":  # that one is given up before it fails
            assert await counted(edge, bad) >= 1
        assert await counted(edge, good) == 0
        assert cached(world) == dict(wanted)
        given = good.given_bytes
        answer = await edge.get(chunk_path(wanted[0][0]))
        assert answer.headers["Cache-Status"].endswith("; hit")
        assert good.given_bytes == given


@pytest.mark.parametrize("kind", BROKEN)
async def test_where_the_only_upstream_is_broken_the_edge_says_so_and_caches_nothing(
    world: World, revisions: dict[str, Revision], kind: Kind
) -> None:
    bad = world.proxy()
    bad.faults = (Fault(kind, under=CHUNKS),)
    chunk, data = next(iter(revisions["short"].chunks.items()))
    async with AsyncExitStack() as stack:
        edge = await start_edge(world, stack, bad)
        assert (await edge.get(chunk_path(chunk))).status == 502
        assert await counted(edge, bad) >= 1
        assert cached(world) == {}
        bad.faults = ()
        assert await (await edge.get(chunk_path(chunk))).read() == data


async def test_a_range_at_the_edge_does_not_rely_on_ranges_upstream(
    world: World, revisions: dict[str, Revision]
) -> None:
    bad = world.proxy()
    bad.faults = (Fault("ignore-range"),)
    chunk, data = next(iter(revisions["short"].chunks.items()))
    async with AsyncExitStack() as stack:
        edge = await start_edge(world, stack, bad)
        answer = await edge.get(chunk_path(chunk), headers={"Range": "bytes=1000-1999"})
        assert (answer.status, await answer.read()) == (206, data[1000:2000])
        assert cached(world) == {chunk: data}
