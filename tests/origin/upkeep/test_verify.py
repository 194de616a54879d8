from __future__ import annotations

import asyncio

import pytest

from origin.announce import Publisher
from origin.upkeep.pace import Pacer
from origin.upkeep.verify import Scrub, VerifyReport
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.upkeep import Shelf
from wire.chunk import Chunk, hash_chunk

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(2), chunk_of(3)]})


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def publisher(shelf: Shelf) -> Publisher:
    made = await shelf.origin()
    for revision in (ONE, TWO):
        await shelf.publish(made, revision)
    return made


async def run(publisher: Publisher) -> VerifyReport:
    return await Scrub(publisher, Pacer(0)).run()


def spoil(shelf: Shelf, key: str, data: bytes = b"rot") -> None:
    shelf.objects.kept[key] = (data, shelf.now)


def chunk_object(name: str) -> str:
    return f"chunks/{name[:2]}/{name}"


async def test_a_sound_store_is_read_to_its_last_byte(shelf: Shelf, publisher: Publisher) -> None:
    told: list[tuple[str, int, int]] = []
    report = await Scrub(publisher, Pacer(0), lambda *step: told.append(step)).run()
    assert report.sound
    assert (report.chunks, report.bytes, report.revisions) == (3, 3_000, 2)
    assert told[-1] == ("verify", 3_000, 3_000)


async def test_rotten_and_missing_chunks_are_named_with_the_revisions_that_lack_them(
    shelf: Shelf, publisher: Publisher
) -> None:
    first, second = ONE.chunks
    spoil(shelf, chunk_object(first))
    del shelf.objects.kept[chunk_object(second)]
    report = await run(publisher)
    assert not report.sound
    assert (report.rotten, report.rotten_chunks) == ([first], 1)
    assert (report.missing, report.missing_chunks) == (sorted([first, second]), 2)
    assert sorted(report.incomplete) == sorted([ONE.id, TWO.id])
    assert f"corrupt/{first}" in shelf.objects.kept
    for data in ONE.chunks.values():
        await publisher.put_chunk(Chunk.of(data))
    assert (await run(publisher)).sound


async def test_manifests_that_are_rotten_or_lost_are_named(
    shelf: Shelf, publisher: Publisher
) -> None:
    spoil(shelf, f"manifests/{ONE.id}")
    del shelf.objects.kept[f"manifests/{TWO.id}"]
    report = await run(publisher)
    assert not report.sound
    assert "rotten" in report.bad_manifests[ONE.id]
    assert "not in the store" in report.bad_manifests[TWO.id]


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b'{"timestamp.json": "{}"}'])
async def test_documents_that_do_not_verify_are_told(
    shelf: Shelf, publisher: Publisher, data: bytes
) -> None:
    shelf.objects.put("trust/documents.json", data)
    report = await run(publisher)
    assert report.trust
    assert not report.sound
    assert report.chunks == 3


async def test_what_was_taken_down_may_be_missing(shelf: Shelf, publisher: Publisher) -> None:
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    del shelf.objects.kept[f"manifests/{ONE.id}"]
    assert (await run(publisher)).sound


async def test_strangers_are_counted_and_left_alone(shelf: Shelf, publisher: Publisher) -> None:
    spoil(shelf, "chunks/ab/notes.txt")
    stray = hash_chunk(b"stray")
    spoil(shelf, chunk_object(stray), b"stray")
    report = await run(publisher)
    assert report.sound
    assert (report.foreign, report.chunks) == (1, 4)
    assert "chunks/ab/notes.txt" in shelf.objects.kept


async def test_a_chunk_that_is_removed_meanwhile_ends_nothing(
    shelf: Shelf, publisher: Publisher
) -> None:
    scrub = Scrub(publisher, Pacer(0))
    pages = [page async for page in publisher.store.chunk_pages()]
    shelf.objects.remove([stat.key for page in pages for stat in page])
    for page in pages:
        await scrub._check_page(page)
    assert scrub.report.chunks == 0


# The pace


async def test_the_pace_is_that_of_the_limit() -> None:
    now, slept = [0.0], []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pacer = Pacer(1_000, clock=lambda: now[0], sleep=sleep)
    for _ in range(10):
        await pacer.spend(500)
    assert now[0] == pytest.approx(5.0)
    now[0] += 100.0  # a pause is not saved up beyond a second
    for _ in range(10):
        await pacer.spend(500)
    assert now[0] == pytest.approx(105.0 + 4.0)
    await Pacer(0, sleep=sleep).spend(1 << 40)
    assert len(slept) <= 20


async def test_a_scrub_yields_to_a_cancellation(shelf: Shelf, publisher: Publisher) -> None:
    scrub = asyncio.create_task(Scrub(publisher, Pacer(1)).run())
    done, _ = await asyncio.wait([scrub], timeout=0.05)
    assert not done
    scrub.cancel()
    await asyncio.wait([scrub])
    assert scrub.cancelled()
