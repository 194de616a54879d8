from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import pytest

from tests.fakes.timed_source import TimedSource
from tests.fakes.virtual_time import now_s, virtual_time
from wire.chunk import ChunkId, hash_chunk
from wire.errors import (
    ChunkMismatchError,
    ConfigError,
    GoneError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.sources.hedging import HedgeConfig
from wire.sources.member import SourceStats
from wire.sources.nearest import Nearest, NearestConfig

SIZE = 256 * 1024
MIB = 1024 * 1024


def near() -> TimedSource:
    return TimedSource("near", 0.05)


def far() -> TimedSource:
    return TimedSource("far", 0.5)


@lru_cache
def _held(count: int, size: int) -> dict[ChunkId, bytes]:
    data = [hashlib.shake_128(bytes([n])).digest(size) for n in range(count)]
    return {hash_chunk(one): one for one in data}


class Fleet:
    """Sources that hold the same chunks, and a Nearest over them."""

    def __init__(
        self,
        *sources: TimedSource,
        count: int = 200,
        config: NearestConfig | None = None,
        size: int = SIZE,
    ) -> None:
        self.sources = {source.name: source for source in sources}
        held = _held(count, size)
        self.chunks, self.data = list(held), list(held.values())
        self.revision = ""
        for source in sources:
            source.chunks |= dict(zip(self.chunks, self.data, strict=True))
            self.revision = source.add_manifest(b"{}")
        self.nearest = Nearest(sources, clock=now_s, config=config)

    @property
    def stats(self) -> dict[str, SourceStats]:
        return {stats.name: stats for stats in self.nearest.stats()}

    def share(self, name: str) -> float:
        """The part of all bytes that one source gave."""
        return self.stats[name].bytes / sum(stats.bytes for stats in self.stats.values())

    async def warm_up(self) -> None:
        """As every pull begins: with documents, and with the first chunks."""
        await self.nearest.manifest(self.revision)
        await asyncio.sleep(1)
        await self.fetch(self.chunks[:20])

    async def fetch(self, chunks: Sequence[ChunkId] | None = None, *, parallel: int = 4) -> float:
        """Fetch chunks as a pull does, and check them; the seconds that it took."""
        began, queue = now_s(), iter(self.chunks if chunks is None else chunks)
        held = dict(zip(self.chunks, self.data, strict=True))

        async def fetch_some() -> None:
            into = memoryview(bytearray(len(self.data[0])))
            for chunk in queue:
                found = await self.nearest.chunk(chunk, into=into)
                assert found.data == held[chunk]
                assert not any(source.writing > parallel for source in self.sources.values())

        async with asyncio.TaskGroup() as group:
            for _ in range(parallel):
                group.create_task(fetch_some())
        return now_s() - began


# Near and far.


@pytest.mark.parametrize("nearest_first", [True, False])
@pytest.mark.parametrize("parallel", [1, 4, 8])
@pytest.mark.parametrize("documents", [True, False])
@virtual_time
async def test_the_far_source_is_never_waited_for(
    nearest_first: bool, parallel: int, documents: bool
) -> None:
    alone = Fleet(near())
    alone_s = await alone.fetch(parallel=parallel)
    both = Fleet(near(), far()) if nearest_first else Fleet(far(), near())
    if documents:
        await both.nearest.manifest(both.revision)
    took_s = await both.fetch(parallel=parallel)
    assert both.share("near") >= 0.95
    # What nobody has measured yet is hedged after 0.25 s; that is all that a start may cost.
    assert took_s <= alone_s + (0.01 if documents else 0.31)


@virtual_time
async def test_over_ten_minutes_probes_of_the_far_source_cost_no_time_and_no_bytes() -> None:
    fleet = Fleet(far(), near(), count=120)
    await fleet.nearest.manifest(fleet.revision)
    for chunk in fleet.chunks:
        began = now_s()
        await fleet.nearest.chunk(chunk)
        assert now_s() - began == pytest.approx(0.05)
        await asyncio.sleep(5)
    assert fleet.stats["far"].probes >= 15
    assert fleet.stats["far"].chunks == 0


@virtual_time
async def test_a_source_that_becomes_faster_is_found_by_a_probe() -> None:
    fleet = Fleet(near(), far())
    await fleet.fetch(fleet.chunks[:20])
    fleet.sources["far"].latency_s = 0.001
    await asyncio.sleep(31)
    await fleet.fetch(fleet.chunks[20:24], parallel=1)
    before = fleet.stats["far"].chunks
    await fleet.fetch(fleet.chunks[24:124], parallel=1)
    assert fleet.stats["far"].chunks - before >= 95


@virtual_time
async def test_a_source_that_becomes_slower_is_left() -> None:
    fleet = Fleet(near(), far())
    await fleet.fetch(fleet.chunks[:20])
    fleet.sources["near"].latency_s = 5.0
    await fleet.fetch(fleet.chunks[20:40])
    before = fleet.stats["far"].chunks
    await fleet.fetch(fleet.chunks[40:60])
    assert fleet.stats["far"].chunks - before >= 18


@virtual_time
async def test_a_second_source_as_good_takes_a_part_of_what_one_cannot_bear() -> None:
    def narrow(name: str) -> TimedSource:
        return TimedSource(name, 0.01, bytes_per_s=10 * MIB)

    alone_s = await Fleet(narrow("one")).fetch()
    both = Fleet(narrow("one"), narrow("two"))
    both_s = await both.fetch()
    assert 0.35 < both.share("two") < 0.65
    assert both_s < 0.65 * alone_s


@virtual_time
async def test_many_unmeasured_sources_are_all_measured_early() -> None:
    fleet = Fleet(*(TimedSource(f"{n}", 0.5 - n / 10) for n in range(5)))
    await fleet.fetch(fleet.chunks[:20])
    assert all(source.call_count for source in fleet.sources.values())
    before = fleet.stats["4"].chunks
    await fleet.fetch(fleet.chunks[20:120])
    assert fleet.stats["4"].chunks - before >= 80


# Stragglers.


@virtual_time
async def test_a_chunk_that_gets_stuck_comes_from_the_other_source() -> None:
    fleet = Fleet(near(), far())
    await fleet.warm_up()
    fleet.sources["near"].stalls = 1
    began = now_s()
    into = memoryview(bytearray(SIZE))
    found = await fleet.nearest.chunk(fleet.chunks[20], into=into)
    assert found.data == fleet.data[20]
    assert found.data is not into
    assert now_s() - began < 0.5 + 0.5
    assert (fleet.stats["far"].hedges, fleet.stats["far"].hedge_wins) == (1, 1)
    assert fleet.stats["near"].abandoned == 1


@virtual_time
async def test_a_whole_pull_leaves_a_source_that_gets_stuck_everywhere_at_once() -> None:
    fleet = Fleet(near(), far())
    await fleet.warm_up()
    fleet.sources["near"].stalls = 1_000
    assert await fleet.fetch(fleet.chunks[20:40]) < 20 / 4 * 0.5 + 1.0


@virtual_time
async def test_where_everything_is_slow_hedges_stay_within_their_budget() -> None:
    config = NearestConfig(hedge=HedgeConfig(share=0.1, burst=4))
    fleet = Fleet(near(), TimedSource("other", 0.05), config=config)
    await fleet.warm_up()
    requests = 0
    for n, chunk in enumerate(fleet.chunks[20:]):
        for source in fleet.sources.values():
            source.latency_s = 0.2 * 1.5 ** min(n, 12)  # always slower than was expected
        await fleet.nearest.chunk(chunk)
        requests += 1
    hedges = sum(stats.hedges for stats in fleet.stats.values())
    assert 0 < hedges <= 4 + 0.1 * (requests + 20) + 1


@virtual_time
async def test_without_a_budget_there_are_no_hedges() -> None:
    config = NearestConfig(hedge=HedgeConfig(share=0.0, burst=0))
    fleet = Fleet(near(), far(), config=config)
    await fleet.warm_up()
    fleet.sources["near"].latency_s = 5.0
    await fleet.fetch(fleet.chunks[20:40])
    assert sum(stats.hedges for stats in fleet.stats.values()) == 0


# Faults and forgiveness.


@virtual_time
async def test_an_outage_costs_one_failure_and_is_forgiven_in_time() -> None:
    fleet = Fleet(near(), far())
    await fleet.warm_up()
    fleet.sources["near"].down = SourceUnavailableError("refused")
    await fleet.fetch(fleet.chunks[20:40])
    assert fleet.stats["near"].failures <= 4  # those that were in the air together
    assert fleet.nearest.scores()[0].penalty_s > 1
    fleet.sources["near"].down = None
    await asyncio.sleep(90)
    before = fleet.stats["far"].chunks
    await fleet.fetch(fleet.chunks[40:60])
    await asyncio.sleep(31)
    await fleet.fetch(fleet.chunks[60:100])
    assert fleet.stats["far"].chunks - before <= 20
    assert fleet.nearest.scores()[0].penalty_s < 0.1


@virtual_time
async def test_a_source_that_lies_is_left_for_longer_and_then_forgiven() -> None:
    fleet = Fleet(near(), far())
    await fleet.warm_up()
    fleet.sources["near"].poisoned = set(fleet.chunks[20:])
    await fleet.fetch(fleet.chunks[20:30])
    mismatches = fleet.stats["near"].mismatches
    assert 1 <= mismatches <= 8
    await asyncio.sleep(60)
    await fleet.fetch(fleet.chunks[30:40])
    assert fleet.stats["near"].mismatches == mismatches  # not asked at all
    fleet.sources["near"].poisoned = set()
    await asyncio.sleep(600)
    before = fleet.stats["near"].chunks
    await fleet.fetch(fleet.chunks[40:60])
    assert fleet.stats["near"].chunks - before >= 19


@virtual_time
async def test_rot_heals_at_the_source_while_the_next_one_is_asked() -> None:
    fleet = Fleet(near(), far())
    await fleet.warm_up()
    fleet.sources["near"].rotten.add(fleet.chunks[20])
    began = now_s()
    assert (await fleet.nearest.chunk(fleet.chunks[20])).data == fleet.data[20]
    assert now_s() - began == pytest.approx(0.1)  # before the far one could answer
    assert fleet.sources["near"].revalidations == 1
    assert fleet.stats["near"].mismatches == 1


@virtual_time
async def test_what_one_lacks_comes_from_the_other_and_is_no_fault() -> None:
    fleet = Fleet(near(), far())
    await fleet.warm_up()
    del fleet.sources["near"].chunks[fleet.chunks[20]]
    assert (await fleet.nearest.chunk(fleet.chunks[20])).data == fleet.data[20]
    assert fleet.nearest.scores()[0].penalty_s == 0


@virtual_time
async def test_errors_are_those_of_all_sources() -> None:
    fleet = Fleet(near(), far())
    with pytest.raises(NotFoundError, match=r"far: .*near: |near: .*far: "):
        await fleet.nearest.chunk(hash_chunk(b"unknown"))
    for source in fleet.sources.values():
        source.poisoned.add(fleet.chunks[0])
        source.gone.add(f"chunk:{fleet.chunks[1]}")
    with pytest.raises(ChunkMismatchError):
        await fleet.nearest.chunk(fleet.chunks[0])
    with pytest.raises(GoneError):
        await fleet.nearest.chunk(fleet.chunks[1])


@virtual_time
async def test_who_distrusts_stored_copies_makes_every_source_check() -> None:
    fleet = Fleet(near(), far())
    for source in fleet.sources.values():
        source.rotten.add(fleet.chunks[0])
    assert (await fleet.nearest.chunk(fleet.chunks[0], revalidate=True)).data == fleet.data[0]


@virtual_time
async def test_a_single_source_is_asked_directly_with_its_second_chance() -> None:
    fleet = Fleet(near())
    fleet.sources["near"].rotten.add(fleet.chunks[0])
    into = memoryview(bytearray(SIZE))
    assert (await fleet.nearest.chunk(fleet.chunks[0], into=into)).data is into
    assert fleet.stats["near"].mismatches == 1


# Documents.


@virtual_time
async def test_the_first_document_measures_every_source_and_waits_for_none() -> None:
    fleet = Fleet(near(), far())
    assert await fleet.nearest.manifest(fleet.revision) == b"{}"
    assert now_s() == pytest.approx(0.05)
    await asyncio.sleep(1)
    latencies = [score.latency_s for score in fleet.nearest.scores()]
    assert latencies == pytest.approx([0.05, 0.5])
    assert fleet.stats["far"].probes == 1
    for _ in range(10):
        await fleet.nearest.manifest(fleet.revision)
    assert fleet.sources["far"].call_count == 1


@virtual_time
async def test_a_document_that_gets_stuck_comes_from_the_next_source() -> None:
    fleet = Fleet(near(), far())
    await fleet.nearest.manifest(fleet.revision)
    await asyncio.sleep(1)
    fleet.sources["near"].latency_s = 3_600.0
    began = now_s()
    assert await fleet.nearest.manifest(fleet.revision) == b"{}"
    assert now_s() - began < 0.8


@virtual_time
async def test_the_first_document_comes_from_whoever_is_nearest_wherever_it_stands() -> None:
    fleet = Fleet(far(), near(), TimedSource("farther", 2.0))
    await fleet.nearest.manifest(fleet.revision)
    assert now_s() == pytest.approx(0.05)
    await asyncio.sleep(5)  # who lost ends in the background, and is measured as well
    latencies = [score.latency_s for score in fleet.nearest.scores()]
    assert latencies == pytest.approx([0.5, 0.05, 2.0])


@virtual_time
async def test_a_document_that_never_comes_is_given_up_and_closing_ends_it() -> None:
    fleet = Fleet(near(), far())
    fleet.sources["far"].gate = asyncio.Event()
    await fleet.nearest.manifest(fleet.revision)
    await asyncio.sleep(31)
    assert fleet.stats["far"].abandoned == 1
    await fleet.nearest.manifest(fleet.revision)
    await fleet.nearest.aclose()
    assert fleet.stats["far"].abandoned == 2
    assert all(source.closed for source in fleet.sources.values())


@virtual_time
async def test_where_no_document_ever_comes_the_wait_is_bounded() -> None:
    fleet = Fleet(near(), far())
    for source in fleet.sources.values():
        source.gate = asyncio.Event()
    with pytest.raises(SourceUnavailableError, match="nothing after 30 s"):
        await fleet.nearest.manifest(fleet.revision)
    assert now_s() < 61


@virtual_time
async def test_a_document_that_is_bad_or_down_comes_from_the_next() -> None:
    fleet = Fleet(near(), far())
    fleet.sources["near"].down = SourceUnavailableError("refused")
    assert await fleet.nearest.manifest(fleet.revision) == b"{}"


@virtual_time
async def test_counters_of_one_chunk_and_one_document_add_up() -> None:
    fleet = Fleet(near())
    await fleet.nearest.manifest(fleet.revision)
    await fleet.nearest.chunk(fleet.chunks[0])
    wanted = SourceStats("near", chunks=1, bytes=SIZE + 2)
    assert replace(fleet.stats["near"], busy_s=0.0) == wanted


def test_nearest_needs_a_source() -> None:
    with pytest.raises(ConfigError):
        Nearest([])
