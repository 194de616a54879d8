from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edge_tier.cache.documents import DocumentConfig, DocumentStore
from edge_tier.cache.freshness import FreshnessConfig
from edge_tier.cache.pointers import Pointers
from edge_tier.cache.purge import Purges
from tests.fakes.clock import ManualClock
from tests.fakes.source import MemorySource
from wire.errors import GoneError, HeadwaterError, NotFoundError, SourceUnavailableError, TrustError
from wire.events import RESET_KEY
from wire.paths import TRUST_KEY, channel_key

KEY = channel_key("chat", "stable")


def accept(_body: bytes) -> None:
    """Nothing is wrong with these bytes."""


class Edge:
    """Pointers over a source in memory, with everything around them."""

    def __init__(
        self,
        upstream: MemorySource,
        documents: DocumentStore,
        clock: ManualClock,
        wall_clock: ManualClock,
    ) -> None:
        self.upstream = upstream
        self.documents = documents
        self.clock = clock
        self.purges = Purges()
        self.pointers = Pointers(
            documents,
            self.purges,
            FreshnessConfig(),
            clock=clock,
            wall_clock=wall_clock,
            max_pointers=3,
        )
        upstream.channels["chat", "stable"] = b"v1"

    async def channel(
        self, channel: str = "stable", check: Callable[[bytes], None] = accept
    ) -> bytes:
        return await self.pointers.get(
            channel_key("chat", channel), lambda: self.upstream.channel("chat", channel), check
        )

    async def trust(self) -> bytes:
        return await self.pointers.get(TRUST_KEY, lambda: self.upstream.trust_bundle(0), accept)

    def status(self, key: str = KEY) -> str:
        state = self.pointers.state(key)
        assert state is not None
        return state.cache_status

    def age_s(self) -> float:
        state = self.pointers.state(KEY)
        assert state is not None
        return state.age_s

    def purge(self, *keys: str) -> None:
        self.pointers.mark(self.purges.apply(keys, hard=False).marked)

    async def until_refreshed(self, calls: int) -> None:
        """Wait for a refresh in the background."""
        await self.upstream.until_called(calls)
        refreshes = [
            task for task in asyncio.all_tasks() if task.get_name().startswith("revalidate")
        ]
        await asyncio.gather(*refreshes, return_exceptions=True)


@pytest.fixture
async def pointer_edge(
    tmp_path: Path, upstream: MemorySource, clock: ManualClock, wall_clock: ManualClock
) -> AsyncIterator[Edge]:
    documents = DocumentStore(tmp_path, DocumentConfig(fsync=False), wall_clock=wall_clock)
    await documents.start()
    edge = Edge(upstream, documents, clock, wall_clock)
    yield edge
    await edge.pointers.aclose()
    await documents.aclose()


def _restart(edge: Edge, wall_clock: ManualClock) -> Edge:
    """A new life on the same disk; the monotonic clock starts anywhere."""
    return Edge(edge.upstream, edge.documents, ManualClock(5.0), wall_clock)


async def test_a_fresh_pointer_is_served_from_memory(pointer_edge: Edge) -> None:
    assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.status() == "fwd=uri-miss; stored"
    pointer_edge.clock.advance(3)
    assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.upstream.call_count == 1
    assert (pointer_edge.status(), pointer_edge.age_s()) == ("hit; ttl=2", 3.0)


async def test_a_stale_pointer_is_served_while_it_is_revalidated(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.clock.advance(10)
    assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.status() == "hit; ttl=-5"
    await pointer_edge.until_refreshed(2)
    assert await pointer_edge.channel() == b"v2"
    assert pointer_edge.age_s() == 0.0


async def test_many_who_ask_for_a_stale_pointer_cause_one_refresh(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.clock.advance(10)
    pointer_edge.upstream.gate = asyncio.Event()
    await asyncio.gather(*(pointer_edge.channel() for _ in range(100)))
    pointer_edge.upstream.gate.set()
    await pointer_edge.until_refreshed(2)
    assert pointer_edge.upstream.call_count == 2


async def test_a_pointer_beyond_its_grace_is_asked_for_first(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.clock.advance(36)
    assert await pointer_edge.channel() == b"v2"
    assert pointer_edge.status() == "fwd=stale; stored"


async def test_a_cold_crowd_is_one_fetch(pointer_edge: Edge) -> None:
    bodies = await asyncio.gather(*(pointer_edge.channel() for _ in range(50)))
    assert set(bodies) == {b"v1"}
    assert pointer_edge.upstream.call_count == 1
    assert pointer_edge.status() == "fwd=uri-miss; stored; collapsed"


async def test_a_purged_pointer_is_revalidated_at_its_next_use(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.purge(KEY)
    assert await pointer_edge.channel() == b"v2"
    assert pointer_edge.status() == "fwd=stale; stored"


async def test_a_reset_has_all_pointers_revalidated(pointer_edge: Edge) -> None:
    pointer_edge.upstream.channels["chat", "beta"] = b"b1"
    await pointer_edge.channel()
    await pointer_edge.channel("beta")
    pointer_edge.purge(RESET_KEY)
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.upstream.channels["chat", "beta"] = b"b2"
    assert await pointer_edge.channel() == b"v2"
    assert await pointer_edge.channel("beta") == b"b2"


async def test_a_fetch_that_a_purge_overtook_is_answered_but_not_kept(pointer_edge: Edge) -> None:
    pointer_edge.upstream.gate = asyncio.Event()
    early = asyncio.create_task(pointer_edge.channel())
    await pointer_edge.upstream.until_called(1)
    pointer_edge.purge(KEY)
    late = asyncio.create_task(pointer_edge.channel())
    await pointer_edge.upstream.until_called(2)  # it did not join the earlier fetch
    pointer_edge.upstream.gate.set()
    assert await early == b"v1"
    assert await late == b"v1"
    pointer_edge.purge(KEY)
    pointer_edge.upstream.gate = asyncio.Event()
    overtaken = asyncio.create_task(pointer_edge.channel())
    await pointer_edge.upstream.until_called(3)
    pointer_edge.purge(KEY)
    pointer_edge.upstream.gate.set()
    await overtaken
    assert pointer_edge.status() == "fwd=stale"
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    assert await pointer_edge.channel() == b"v2"


async def test_without_an_upstream_the_last_pointer_serves_for_a_day(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    pointer_edge.clock.advance(40)
    assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.status() == "fwd=stale; detail=stale-if-error"
    pointer_edge.clock.advance(86_000)
    assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.age_s() == 86_040
    pointer_edge.clock.advance(1_000)
    with pytest.raises(SourceUnavailableError):
        await pointer_edge.channel()


async def test_after_one_failure_nobody_waits_for_a_dead_upstream(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    pointer_edge.clock.advance(40)
    await pointer_edge.channel()
    for _ in range(20):
        assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.upstream.call_count == 2
    assert pointer_edge.status() == "hit; ttl=-35"


async def test_an_upstream_that_comes_back_is_noticed(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    pointer_edge.clock.advance(40)
    await pointer_edge.channel()
    pointer_edge.upstream.down = None
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.clock.advance(3)
    assert await pointer_edge.channel() == b"v1"
    await pointer_edge.until_refreshed(3)
    assert await pointer_edge.channel() == b"v2"


async def test_trust_is_given_however_old_it_is(pointer_edge: Edge) -> None:
    """A lost origin is restored from it, and it says itself until when it counts."""
    pointer_edge.upstream.bundle = b"signed"
    await pointer_edge.channel()
    assert await pointer_edge.trust() == b"signed"
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    pointer_edge.clock.advance(6 * 86_400)
    assert await pointer_edge.trust() == b"signed"
    with pytest.raises(SourceUnavailableError):
        await pointer_edge.channel()


async def test_a_failing_upstream_serves_a_purged_pointer_rather_than_nothing(
    pointer_edge: Edge,
) -> None:
    await pointer_edge.channel()
    pointer_edge.purge(KEY)
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    assert await pointer_edge.channel() == b"v1"
    assert pointer_edge.status() == "fwd=stale; detail=stale-if-error"


async def test_without_anything_held_the_failure_shows(pointer_edge: Edge) -> None:
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    with pytest.raises(SourceUnavailableError):
        await pointer_edge.channel()
    assert pointer_edge.pointers.state(KEY) is None


@pytest.mark.parametrize("answer", [NotFoundError("no channel"), GoneError("taken down")])
async def test_an_upstream_that_says_no_is_believed(
    pointer_edge: Edge, answer: HeadwaterError
) -> None:
    await pointer_edge.channel()
    pointer_edge.upstream.down = answer
    pointer_edge.clock.advance(40)
    with pytest.raises(type(answer)):
        await pointer_edge.channel()
    assert KEY not in pointer_edge.documents


async def test_bytes_that_do_not_check_are_never_cached(pointer_edge: Edge) -> None:
    def refuse(_body: bytes) -> None:
        raise TrustError("signature does not verify")

    with pytest.raises(TrustError):
        await pointer_edge.channel(check=refuse)
    assert KEY not in pointer_edge.documents
    await pointer_edge.channel()
    pointer_edge.upstream.channels["chat", "stable"] = b"forged"
    pointer_edge.clock.advance(40)
    assert await pointer_edge.channel(check=refuse) == b"v1"


async def test_unchanged_bytes_are_not_checked_again(pointer_edge: Edge) -> None:
    checked: list[bytes] = []
    for _ in range(3):
        await pointer_edge.channel(check=checked.append)
        pointer_edge.clock.advance(40)
    assert checked == [b"v1"]


async def test_a_restart_serves_from_disk_and_knows_the_age(
    pointer_edge: Edge, wall_clock: ManualClock
) -> None:
    await pointer_edge.channel()
    wall_clock.advance(20)
    again = _restart(pointer_edge, wall_clock)
    again.upstream.down = SourceUnavailableError("origin is away")
    assert await again.channel() == b"v1"
    assert again.age_s() == pytest.approx(20)
    await again.pointers.aclose()


async def test_a_purge_reaches_a_pointer_that_is_only_on_disk(
    pointer_edge: Edge, wall_clock: ManualClock
) -> None:
    await pointer_edge.channel()
    again = _restart(pointer_edge, wall_clock)
    again.purge(RESET_KEY)
    again.upstream.channels["chat", "stable"] = b"v2"
    assert await again.channel() == b"v2"
    await again.pointers.aclose()


async def test_after_a_restart_the_first_refresh_is_checked_even_if_unchanged(
    pointer_edge: Edge, wall_clock: ManualClock
) -> None:
    await pointer_edge.channel()
    wall_clock.advance(3_600)
    again = _restart(pointer_edge, wall_clock)
    checked: list[bytes] = []
    await again.channel(check=checked.append)
    assert checked == [b"v1"]
    await again.pointers.aclose()


async def test_a_wall_clock_that_ran_backwards_makes_pointers_stale_not_lost(
    pointer_edge: Edge, wall_clock: ManualClock
) -> None:
    await pointer_edge.channel()
    wall_clock.advance(-86_400)
    again = _restart(pointer_edge, wall_clock)
    again.upstream.channels["chat", "stable"] = b"v2"
    assert await again.channel() == b"v2"
    await again.pointers.aclose()


async def test_a_changed_bundle_has_channels_revalidated(pointer_edge: Edge) -> None:
    pointer_edge.upstream.bundle = b"t1"
    await pointer_edge.trust()
    await pointer_edge.channel()
    await pointer_edge.trust()
    pointer_edge.upstream.bundle = b"t2"
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.purge(TRUST_KEY)
    assert await pointer_edge.trust() == b"t2"
    assert await pointer_edge.channel() == b"v2"


async def test_a_changed_channel_has_the_bundle_revalidated(pointer_edge: Edge) -> None:
    pointer_edge.upstream.bundle = b"t1"
    await pointer_edge.channel()
    await pointer_edge.trust()
    pointer_edge.upstream.bundle = b"t2"
    pointer_edge.upstream.channels["chat", "stable"] = b"v2"
    pointer_edge.purge(KEY)
    assert await pointer_edge.channel() == b"v2"
    assert await pointer_edge.trust() == b"t2"
    calls = pointer_edge.upstream.call_count
    await pointer_edge.channel()  # marked once more, by the bundle that changed
    await pointer_edge.trust()
    await pointer_edge.channel()
    assert pointer_edge.upstream.call_count == calls + 1


async def test_an_unchanged_pointer_is_written_again_only_now_and_then(
    pointer_edge: Edge, wall_clock: ManualClock
) -> None:
    await pointer_edge.channel()
    written_at_s = wall_clock()
    for _ in range(4):
        for clock in (pointer_edge.clock, wall_clock):
            clock.advance(40)
        await pointer_edge.channel()
    document = await pointer_edge.documents.get(KEY)
    assert document is not None
    assert document.stored_at_s == written_at_s + 160


async def test_pointers_in_memory_are_bounded_and_the_rest_is_on_disk(
    pointer_edge: Edge,
) -> None:
    for number in range(6):
        pointer_edge.upstream.channels["chat", f"c{number}"] = b"p%d" % number
        await pointer_edge.channel(f"c{number}")
    calls = pointer_edge.upstream.call_count
    assert [await pointer_edge.channel(f"c{number}") for number in range(6)] == [
        b"p%d" % number for number in range(6)
    ]
    assert pointer_edge.upstream.call_count == calls


async def test_dropping_forgets_a_pointer_on_disk_too(pointer_edge: Edge) -> None:
    await pointer_edge.channel()
    await pointer_edge.pointers.drop(KEY)
    assert KEY not in pointer_edge.documents
    pointer_edge.upstream.down = SourceUnavailableError("origin is away")
    with pytest.raises(SourceUnavailableError):
        await pointer_edge.channel()
