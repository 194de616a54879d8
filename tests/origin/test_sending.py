"""What an origin lacks is sent, once, and only as it was named."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from origin.chunker import plan, scan
from origin.sending import send_missing
from wire.chunk import Chunk, ChunkId
from wire.errors import ConflictError
from wire.manifest import FileEntry, Manifest, build

MIB = 2**20


class Origin:
    """Has some chunks, and takes what it lacks."""

    def __init__(self, *has: str) -> None:
        self.has = set(has)
        self.got: list[str] = []
        self._lock = threading.Lock()

    def missing(self, ids: list[ChunkId]) -> set[ChunkId]:
        return {chunk for chunk in ids if chunk not in self.has}

    def put_chunk(self, chunk: Chunk) -> None:
        with self._lock:
            self.got.append(chunk.id)


def entry(file: Path, path: str) -> FileEntry:
    return scan(file, plan(None, file.stat().st_size), role="other", path=path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "file"
    made.write_bytes(bytes(8 * MIB) + b"second" * MIB)
    return made


def manifest(file: Path) -> Manifest:
    return build("m", (entry(file, "a"), entry(file, "b")), {})


def test_each_chunk_goes_once_whatever_files_it_stands_in(file: Path) -> None:
    made, origin, steps = manifest(file), Origin(), list[tuple[str, int, int]]()
    sent = send_missing(
        made, {"a": file, "b": file.read_bytes()}, origin, lambda *step: steps.append(step)
    )
    assert sorted(origin.got) == sorted(made.chunk_refs())
    assert [ref.id for ref in sent] == list(made.chunk_refs())
    total = file.stat().st_size
    assert steps[-1] == ("send", total, total)


def test_what_is_there_is_not_sent(file: Path) -> None:
    made = manifest(file)
    first, second = made.files[0].chunks
    origin = Origin(first.id)
    assert send_missing(made, {"a": file, "b": file}, origin, lambda *_: None) == [second]
    assert origin.got == [second.id]


def test_a_file_that_changed_or_went_is_a_conflict(file: Path) -> None:
    made, origin = manifest(file), Origin()
    file.write_bytes(b"other")
    with pytest.raises(ConflictError, match="publish it again"):
        send_missing(made, {"a": file, "b": file}, origin, lambda *_: None)
    file.unlink()
    with pytest.raises(ConflictError, match="cannot read"):
        send_missing(made, {"a": file, "b": file}, origin, lambda *_: None)
    assert origin.got == []
