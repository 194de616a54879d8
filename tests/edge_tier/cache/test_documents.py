from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.cache.documents import (
    Document,
    DocumentConfig,
    DocumentStore,
    decode_document,
    encode_document,
)
from tests.fakes.cache import FaultyDisk
from tests.fakes.clock import ManualClock
from wire.errors import ConfigError, NameInvalidError
from wire.paths import channel_key, revision_key

CHANNEL = channel_key("chat-small", "stable")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "documents"


async def _open(
    root: Path,
    disk: FaultyDisk,
    clock: ManualClock,
    *,
    document_bytes: int = 1 << 20,
    memory_bytes: int = 1 << 20,
) -> DocumentStore:
    config = DocumentConfig(document_bytes=document_bytes, memory_bytes=memory_bytes, fsync=False)
    store = DocumentStore(root, config, wall_clock=clock, write=disk)
    await store.start()
    return store


@pytest.fixture
async def documents(
    root: Path, disk: FaultyDisk, wall_clock: ManualClock
) -> AsyncIterator[DocumentStore]:
    store = await _open(root, disk, wall_clock)
    yield store
    await store.aclose()


@pytest.fixture
async def forgetful(
    root: Path, disk: FaultyDisk, wall_clock: ManualClock
) -> AsyncIterator[DocumentStore]:
    """Keeps nothing in memory, so that every read is one of the disk."""
    store = await _open(root, disk, wall_clock, memory_bytes=0)
    yield store
    await store.aclose()


def _revision(number: int) -> str:
    return revision_key(f"{number:064x}")


async def test_a_document_comes_back_with_its_time(
    documents: DocumentStore, wall_clock: ManualClock
) -> None:
    stored_at_s = wall_clock()
    assert await documents.put(CHANNEL, b"pointer")
    wall_clock.advance(100)
    assert await documents.get(CHANNEL) == Document(b"pointer", stored_at_s)
    assert CHANNEL in documents


async def test_documents_are_read_back_from_the_disk(
    forgetful: DocumentStore, wall_clock: ManualClock
) -> None:
    await forgetful.put(CHANNEL, b"pointer")
    assert await forgetful.get(CHANNEL) == Document(b"pointer", wall_clock())


async def test_unknown_documents_are_absent(documents: DocumentStore) -> None:
    assert await documents.get(CHANNEL) is None
    assert CHANNEL not in documents
    await documents.remove(CHANNEL)


async def test_putting_again_replaces(forgetful: DocumentStore) -> None:
    await forgetful.put(CHANNEL, b"old and long")
    await forgetful.put(CHANNEL, b"new")
    found = await forgetful.get(CHANNEL)
    assert found is not None
    assert found.body == b"new"


async def test_a_removed_document_is_gone_from_the_disk(
    documents: DocumentStore, root: Path
) -> None:
    await documents.put(CHANNEL, b"pointer")
    await documents.remove(CHANNEL)
    assert await documents.get(CHANNEL) is None
    assert list((root / "documents").iterdir()) == []


async def test_documents_survive_a_restart(
    root: Path, disk: FaultyDisk, wall_clock: ManualClock
) -> None:
    first = await _open(root, disk, wall_clock)
    stored_at_s = wall_clock()
    for key in (CHANNEL, "trust", _revision(1)):
        await first.put(key, key.encode())
    await first.aclose()
    wall_clock.advance(3600)
    second = await _open(root, disk, wall_clock)
    for key in (CHANNEL, "trust", _revision(1)):
        assert await second.get(key) == Document(key.encode(), stored_at_s)
    await second.aclose()


async def test_a_rotten_file_is_absent_and_removed(forgetful: DocumentStore, root: Path) -> None:
    await forgetful.put(CHANNEL, b"pointer")
    path = root / "documents" / CHANNEL
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert await forgetful.get(CHANNEL) is None
    assert not path.exists()


async def test_a_file_under_another_name_is_absent(forgetful: DocumentStore, root: Path) -> None:
    folder = root / "documents"
    await forgetful.put(_revision(1), b"one")
    await forgetful.put(_revision(2), b"two")
    (folder / _revision(2)).write_bytes((folder / _revision(1)).read_bytes())
    assert await forgetful.get(_revision(2)) is None


async def test_a_vanished_file_is_absent(forgetful: DocumentStore, root: Path) -> None:
    await forgetful.put(CHANNEL, b"pointer")
    (root / "documents" / CHANNEL).unlink()
    assert await forgetful.get(CHANNEL) is None
    assert CHANNEL not in forgetful


async def test_manifests_are_evicted_and_pointers_are_not(
    root: Path, disk: FaultyDisk, wall_clock: ManualClock
) -> None:
    documents = await _open(root, disk, wall_clock, document_bytes=2_000, memory_bytes=0)
    await documents.put(CHANNEL, b"c" * 100)
    await documents.put("trust", b"t" * 100)
    for number in range(20):
        await documents.put(_revision(number), b"m" * 400)
    assert CHANNEL in documents
    assert "trust" in documents
    files = list((root / "documents").iterdir())
    assert sum(path.stat().st_size for path in files) <= 2_000
    assert 1 < sum(_revision(number) in documents for number in range(20)) < 5
    await documents.aclose()


async def test_what_does_not_fit_at_all_is_not_stored(
    root: Path, disk: FaultyDisk, wall_clock: ManualClock
) -> None:
    documents = await _open(root, disk, wall_clock, document_bytes=100)
    assert not await documents.put(_revision(1), b"m" * 400)
    assert list((root / "documents").iterdir()) == []
    await documents.aclose()


async def test_memory_is_bounded(root: Path, disk: FaultyDisk, wall_clock: ManualClock) -> None:
    documents = await _open(root, disk, wall_clock, memory_bytes=1_000)
    for number in range(10):
        await documents.put(_revision(number), b"m" * 400)
    await documents.put(_revision(99), b"m" * 5_000)
    for number in (*range(10), 99):
        assert await documents.get(_revision(number)) is not None  # from the disk
    await documents.aclose()


async def test_a_failing_disk_degrades_but_the_document_is_at_hand(
    documents: DocumentStore, disk: FaultyDisk
) -> None:
    disk.error = errno.EIO
    assert not await documents.put(CHANNEL, b"pointer")
    assert "Input/output error" in documents.degraded
    found = await documents.get(CHANNEL)
    assert found is not None
    assert found.body == b"pointer"
    disk.error = None
    assert await documents.put(CHANNEL, b"pointer")
    assert documents.degraded == ""


@pytest.mark.parametrize(
    "key",
    ["", "../x", "channel:../x", "channel:a/b", "channel:.x", "Trust", "channel:" + "x" * 300],
)
async def test_keys_that_cannot_be_file_names_are_refused(
    documents: DocumentStore, key: str
) -> None:
    with pytest.raises(NameInvalidError):
        await documents.put(key, b"data")


async def test_two_document_stores_never_share_a_folder(
    documents: DocumentStore, root: Path, disk: FaultyDisk, wall_clock: ManualClock
) -> None:
    with pytest.raises(ConfigError, match="another process"):
        await _open(root, disk, wall_clock)


@settings(deadline=None)
@given(st.binary(max_size=200), st.floats(0, 1e12))
def test_documents_round_trip(body: bytes, stored_at_s: float) -> None:
    document = Document(body, stored_at_s)
    assert decode_document("trust", encode_document("trust", document)) == document


@settings(deadline=None)
@given(st.binary(max_size=60), st.data())
def test_any_change_of_a_document_is_noticed(body: bytes, data: st.DataObject) -> None:
    encoded = bytearray(encode_document("trust", Document(body, 1.0)))
    position = data.draw(st.integers(0, len(encoded) - 1))
    encoded[position] ^= data.draw(st.integers(1, 255))
    assert decode_document("trust", bytes(encoded)) is None


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_garbage_is_no_document(data: bytes) -> None:
    assert decode_document("trust", data) is None


async def test_keys_are_listed_by_their_beginning(documents: DocumentStore) -> None:
    for key in ("trust", f"revision:{'a' * 64}", f"revision:{'b' * 64}"):
        await documents.put(key, b"x")
    assert set(documents.keys("revision:")) == {f"revision:{'a' * 64}", f"revision:{'b' * 64}"}
    assert len(documents.keys()) == 3


async def test_a_disk_that_works_again_is_noticed(
    documents: DocumentStore, disk: FaultyDisk
) -> None:
    disk.fill_up()
    await documents.put("trust", b"x")
    assert not await documents.probe()
    disk.error = None
    assert await documents.probe()
    assert documents.degraded == ""
