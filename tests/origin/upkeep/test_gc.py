from __future__ import annotations

import asyncio

import pytest

from origin.announce import Publisher
from origin.errors import StoreError
from origin.upkeep.gc import Collector, GcReport, collect
from origin.upkeep.policy import GcConfig
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.upkeep import Shelf
from wire.chunk import Chunk, ChunkId
from wire.errors import ConflictError, NotFoundError

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(2), chunk_of(3)]})
GRACE_S = 100.0


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def publisher(shelf: Shelf) -> Publisher:
    """``stable`` on the second of two revisions, both older than the grace."""
    made = await shelf.origin()
    await shelf.publish(made, ONE)
    await shelf.publish(made, TWO)
    shelf.now += 2 * GRACE_S
    return made


async def run(shelf: Shelf, publisher: Publisher, *, dry_run: bool = False) -> GcReport:
    config = GcConfig(grace_s=GRACE_S)
    return await collect(Collector(publisher, config, dry_run, lambda: shelf.now))


async def test_what_is_signed_stays(shelf: Shelf, publisher: Publisher) -> None:
    report = await run(shelf, publisher)
    assert (report.removed_chunks, report.kept_chunks, report.kept_revisions) == (0, 3, 2)
    assert shelf.chunks == {*ONE.chunks, *TWO.chunks}


async def test_what_is_signed_no_longer_goes_and_what_others_share_stays(
    shelf: Shelf, publisher: Publisher
) -> None:
    await publisher.prune(shelf.sign(publisher, remove=[ONE]))
    planned = await run(shelf, publisher, dry_run=True)
    assert shelf.chunks == {*ONE.chunks, *TWO.chunks}
    report = await run(shelf, publisher)
    assert (planned.revisions, planned.removed_chunks, planned.removed_bytes) == (
        [ONE.id],
        1,
        1_000,
    )
    assert (report.revisions, report.removed_chunks, report.removed_bytes) == ([ONE.id], 1, 1_000)
    assert shelf.chunks == set(TWO.chunks)
    assert shelf.manifests == {TWO.id}


async def test_a_revision_that_a_channel_needs_cannot_be_pruned(
    shelf: Shelf, publisher: Publisher
) -> None:
    with pytest.raises(ConflictError, match="would break"):
        await publisher.prune(shelf.sign(publisher, remove=[TWO]))


async def test_a_pinned_revision_cannot_be_pruned(shelf: Shelf, publisher: Publisher) -> None:
    await publisher.pin("chat", ONE.id, keep=True)
    with pytest.raises(ConflictError, match="is pinned"):
        await publisher.prune(shelf.sign(publisher, remove=[ONE]))
    await publisher.pin("chat", ONE.id, keep=False)
    await publisher.prune(shelf.sign(publisher, remove=[ONE]))
    with pytest.raises(NotFoundError):
        await publisher.pin("chat", ONE.id, keep=True)


async def test_an_old_chunk_that_an_upload_found_here_stays_for_it(
    shelf: Shelf, publisher: Publisher
) -> None:
    await publisher.prune(shelf.sign(publisher, remove=[ONE]))
    assert await publisher.missing([ChunkId(name) for name in ONE.chunks]) == []
    assert (await run(shelf, publisher)).removed_chunks == 0
    await publisher.put_manifest(ONE.id, ONE.data)
    await publisher.publish(shelf.sign(publisher, ONE))
    shelf.now += 2 * GRACE_S
    assert (await run(shelf, publisher)).removed_chunks == 0


async def test_a_lease_that_was_renewed_lasts_from_then_on(
    shelf: Shelf, publisher: Publisher
) -> None:
    await publisher.prune(shelf.sign(publisher, remove=[ONE]))
    for _ in range(3):
        await publisher.missing([ChunkId(name) for name in ONE.chunks])
        shelf.now += GRACE_S * 0.6
        assert (await run(shelf, publisher)).removed_chunks == 0
    shelf.now += GRACE_S
    assert (await run(shelf, publisher)).removed_chunks == 1
    assert not [key for key in shelf.objects.kept if key.startswith("leases/")]


async def test_a_lease_of_another_origin_on_the_bucket_counts(
    shelf: Shelf, publisher: Publisher
) -> None:
    other = await shelf.origin()
    await publisher.prune(shelf.sign(publisher, remove=[ONE]))
    steps = Collector(publisher, GcConfig(grace_s=GRACE_S), clock=lambda: shelf.now).steps()
    await anext(steps)
    assert await other.missing([ChunkId(name) for name in ONE.chunks]) == []
    async for _ in steps:
        pass
    assert shelf.chunks == {*ONE.chunks, *TWO.chunks}


async def test_a_revision_that_another_origin_signed_is_known(
    shelf: Shelf, publisher: Publisher
) -> None:
    other = await shelf.origin()
    three = make_revision({"m.gguf": [chunk_of(4)]})
    await shelf.publish(other, three)
    shelf.now += 2 * GRACE_S
    assert (await run(shelf, publisher)).removed_chunks == 0
    assert three.id in shelf.manifests


async def test_what_was_taken_down_goes_at_once(shelf: Shelf, publisher: Publisher) -> None:
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    assert (await run(shelf, publisher)).removed_chunks == 1
    assert (shelf.manifests, shelf.chunks) == ({TWO.id}, set(TWO.chunks))


async def test_an_upload_under_way_is_left_alone_and_an_abandoned_one_is_not(
    shelf: Shelf, publisher: Publisher
) -> None:
    stray = Chunk.of(chunk_of(9))
    await publisher.put_chunk(stray)
    assert (await run(shelf, publisher)).removed_chunks == 0
    shelf.now += GRACE_S
    assert (await run(shelf, publisher)).removed_chunks == 1
    assert stray.id not in shelf.chunks


async def test_nothing_goes_while_it_is_not_known_what_is_needed(
    shelf: Shelf, publisher: Publisher
) -> None:
    await publisher.put_chunk(Chunk.of(chunk_of(9)))
    shelf.now += 2 * GRACE_S
    before = shelf.chunks
    held = shelf.objects.kept[f"manifests/{ONE.id}"]
    shelf.objects.kept[f"manifests/{ONE.id}"] = (b"rot", held[1])
    with pytest.raises(StoreError, match="publish it again"):
        await run(shelf, publisher)
    del shelf.objects.kept[f"manifests/{ONE.id}"]
    with pytest.raises(StoreError, match="repair the store"):
        await run(shelf, publisher)
    assert shelf.chunks == before


async def test_names_that_no_chunk_has_are_left_alone(shelf: Shelf, publisher: Publisher) -> None:
    shelf.objects.put("chunks/ab/notes.txt", b"x")
    shelf.now += 2 * GRACE_S
    await run(shelf, publisher)
    assert "chunks/ab/notes.txt" in shelf.objects.kept


async def test_the_collector_waits_for_uploads_and_they_for_it(
    shelf: Shelf, publisher: Publisher
) -> None:
    async with publisher.gate.together():
        collecting = asyncio.create_task(run(shelf, publisher))
        asking = asyncio.create_task(publisher.missing([ChunkId(name) for name in ONE.chunks]))
        done, _ = await asyncio.wait([collecting, asking], timeout=0.05)
        assert not done
    assert (await collecting).kept_revisions == 2
    assert await asking == []
