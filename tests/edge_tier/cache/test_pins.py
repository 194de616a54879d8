from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from edge_tier.cache.fill import CachingSource
from edge_tier.cache.pins import PinConfig, Pins, Rolled, chunks_to_preheat
from tests.fakes.cache import EdgeFactory
from tests.fakes.cached_models import MODEL, card_chunk, publish, view_of
from tests.fakes.source import MemorySource
from wire.chunk import ChunkId
from wire.errors import SourceUnavailableError
from wire.manifest import decode
from wire.paths import revision_key

KIB = 1024
STABLE = "current:channel:chat@stable"


@pytest.fixture
async def small_edge(open_edge: EdgeFactory) -> AsyncIterator[CachingSource]:
    """Room for 20 chunks, 16 of them for pins."""
    async with open_edge(cache_bytes=80 * KIB) as edge:
        yield edge


async def _pins(edge: CachingSource, **settings: object) -> Pins:
    config = PinConfig(**settings)  # type: ignore[arg-type]
    pins = Pins(edge, edge.store, edge.documents, config)
    await pins.start()
    return pins


def _weights(seed: int, count: int) -> list[bytes]:
    return [bytes([seed, number]) * 500 for number in range(count)]


async def _flood(edge: CachingSource, upstream: MemorySource, seed: int = 200) -> None:
    for data in _weights(seed, 60):
        await edge.deliver(upstream.add_chunk(data))


async def _take(edge: CachingSource, revision: str, ids: list[ChunkId]) -> None:
    await edge.manifest(revision)
    for id in ids:  # noqa: A001
        await edge.deliver(id)


async def test_what_a_channel_points_at_outlives_a_flood(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    revision, ids = publish(upstream, {"": _weights(1, 8)})
    await _take(small_edge, revision, ids[""])
    pins = await _pins(small_edge)
    assert await pins.update(view_of(("stable", revision))) == []
    await _flood(small_edge, upstream)
    assert all(id in small_edge.store for id in ids[""])  # noqa: A001


async def test_chunks_that_come_later_are_pinned_too(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    revision, ids = publish(upstream, {"": _weights(1, 8)})
    await small_edge.manifest(revision)
    pins = await _pins(small_edge)
    await pins.update(view_of(("stable", revision)))
    await _take(small_edge, revision, ids[""])
    await _flood(small_edge, upstream)
    assert all(id in small_edge.store for id in ids[""])  # noqa: A001


async def test_models_that_nobody_uses_here_are_not_pinned(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    revision, _ = publish(upstream, {"": _weights(1, 8)})
    await (await _pins(small_edge)).update(view_of(("stable", revision)))
    assert small_edge.store.pin_owners == ()
    assert upstream.call_count == 0


async def test_a_model_is_served_where_any_of_its_signed_revisions_was_asked_for(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    old, _ = publish(upstream, {"": _weights(1, 2)})
    new, _ = publish(upstream, {"": _weights(2, 2)})
    await small_edge.manifest(old)
    await (await _pins(small_edge)).update(view_of(("stable", new), signed=[old]))
    assert small_edge.store.pin_owners == (STABLE,)


async def test_canary_and_stable_are_both_kept(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    stable, ids = publish(upstream, {"": _weights(1, 4)})
    canary, others = publish(upstream, {"": _weights(2, 4)})
    await _take(small_edge, stable, ids[""])
    await _take(small_edge, canary, others[""])
    await (await _pins(small_edge)).update(view_of(("stable", stable), canary=canary))
    await _flood(small_edge, upstream)
    assert all(id in small_edge.store for id in ids[""] + others[""])  # noqa: A001


async def test_a_canary_is_news_once_and_its_promotion_is_none(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    old, _ = publish(upstream, {"": _weights(1, 2)})
    new, _ = publish(upstream, {"": _weights(2, 2)})
    await small_edge.manifest(old)
    pins = await _pins(small_edge, keep_previous=1)
    assert await pins.update(view_of(("stable", old), signed=[new])) == []
    tried = await pins.update(view_of(("stable", old), canary=new))
    assert tried == [Rolled(MODEL, "stable", new, old)]
    assert await pins.update(view_of(("stable", new), signed=[old])) == []
    assert small_edge.store.pin_owners == (STABLE, "previous:channel:chat@stable")


@pytest.mark.parametrize(("keep_previous", "stays"), [(0, False), (1, True)])
async def test_after_a_roll_the_old_revision_is_kept_only_if_told_to(
    small_edge: CachingSource, upstream: MemorySource, keep_previous: int, stays: bool
) -> None:
    old, ids = publish(upstream, {"": _weights(1, 6)})
    new, others = publish(upstream, {"": _weights(2, 6)})
    await _take(small_edge, old, ids[""])
    pins = await _pins(small_edge, keep_previous=keep_previous)
    await pins.update(view_of(("stable", old), signed=[new]))
    rolled = await pins.update(view_of(("stable", new), signed=[old]))
    assert rolled == [Rolled(MODEL, "stable", new, old)]
    assert await pins.update(view_of(("stable", new), signed=[old])) == []
    await _take(small_edge, new, others[""])
    assert small_edge.store.stats.pinned_bytes == (12 if stays else 6) * 4 * KIB
    await _flood(small_edge, upstream)
    assert all(id in small_edge.store for id in others[""])  # noqa: A001


async def test_pins_leave_room_for_all_else(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    revision, ids = publish(upstream, {"": _weights(1, 40)})
    await small_edge.manifest(revision)
    await (await _pins(small_edge)).update(view_of(("stable", revision)))
    await _take(small_edge, revision, ids[""])
    stats = small_edge.store.stats
    assert stats.pinned_bytes <= 0.8 * stats.capacity_bytes
    other = upstream.add_chunk(b"of another model")
    assert (await small_edge.deliver(other)).cache_status.endswith("stored")


async def test_a_channel_that_is_gone_pins_nothing(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    revision, ids = publish(upstream, {"": _weights(1, 4)})
    await _take(small_edge, revision, ids[""])
    pins = await _pins(small_edge)
    await pins.update(view_of(("stable", revision)))
    assert small_edge.store.stats.pinned_bytes == 4 * 4 * KIB
    await pins.update(view_of(signed=[revision]))
    assert small_edge.store.stats.pinned_bytes == 0


async def test_a_manifest_that_is_not_to_be_had_leaves_the_old_pin_until_it_is(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    old, ids = publish(upstream, {"": _weights(1, 4)})
    new, _ = publish(upstream, {"": _weights(2, 4)})
    await _take(small_edge, old, ids[""])
    pins = await _pins(small_edge)
    await pins.update(view_of(("stable", old)))
    upstream.down = SourceUnavailableError("origin is away")
    view = view_of(("stable", new), signed=[old])
    await pins.update(view)
    assert small_edge.store.stats.pinned_bytes == 4 * 4 * KIB
    upstream.down = None
    await pins.update(view)
    assert small_edge.store.stats.pinned_bytes == 0, "of the new revision nothing is here yet"


async def test_a_revision_that_was_taken_down_is_no_obstacle(
    small_edge: CachingSource, upstream: MemorySource
) -> None:
    bad, _ = publish(upstream, {"": _weights(1, 4)})
    good, ids = publish(upstream, {"": _weights(2, 4)})
    for revision in (bad, good):
        await small_edge.manifest(revision)
    await small_edge.purge([revision_key(bad)], hard=True)
    await (await _pins(small_edge)).update(view_of(("next", bad), ("stable", good)))
    await _take(small_edge, good, ids[""])
    assert small_edge.store.pin_owners == (STABLE,)


# Told to keep


async def test_what_an_operator_names_is_kept_over_restarts_even_in_mode_none(
    open_edge: EdgeFactory, upstream: MemorySource
) -> None:
    revision, ids = publish(upstream, {"Q4": _weights(1, 4), "Q8": _weights(2, 8)})
    view = view_of(("stable", revision))
    async with open_edge(cache_bytes=80 * KIB) as edge:
        pins = await _pins(edge, pin="none")
        await pins.update(view)
        assert edge.store.pin_owners == ()
        await pins.keep(MODEL, "stable", "Q4")
        await pins.update(view)
        await _take(edge, revision, ids["Q4"] + ids["Q8"])
        assert edge.store.stats.pinned_bytes == 4 * 4 * KIB
    async with open_edge(cache_bytes=80 * KIB) as edge:
        pins = await _pins(edge, pin="none")
        await pins.update(view)
        assert edge.store.stats.pinned_bytes == 4 * 4 * KIB
        assert await pins.release(MODEL, "stable")
        assert not await pins.release(MODEL, "stable")
        await pins.update(view)
        assert edge.store.stats.pinned_bytes == 0


async def test_variants_add_up_and_all_files_stay_all_files(edge: CachingSource) -> None:
    pins = await _pins(edge)
    await pins.keep(MODEL, "stable", "Q8")
    await pins.keep(MODEL, "stable", "Q4")
    assert pins.kept()[0].variants == ("Q4", "Q8")
    await pins.keep(MODEL, "stable")
    await pins.keep(MODEL, "stable", "Q4")
    assert pins.kept()[0].variants == ()


def test_ahead_of_a_roll_only_the_variants_in_use_are_fetched(upstream: MemorySource) -> None:
    old, ids = publish(upstream, {"Q4": _weights(1, 3), "Q8": _weights(2, 3)})
    new, others = publish(upstream, {"Q4": _weights(3, 3), "Q8": _weights(4, 3)})
    before = decode(upstream.manifests[old], old)
    now = decode(upstream.manifests[new], new)
    card = card_chunk(upstream)
    assert chunks_to_preheat(before, now, lambda _: False) == [card]
    used = {ids["Q8"][1]}
    assert chunks_to_preheat(before, now, used.__contains__) == [card, *others["Q8"]]
