from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.revisions import SignedSource
from tests.fakes.sites import make_site, text
from wire.chunk import ChunkId
from wire.errors import GoneError
from wire.revision_reader import RevisionReader
from wire.small_files import SmallFiles
from wire.source import StoredChunk

FILES = {"a.png": text("a", 6_000), "b.png": text("b", 6_000), "c.png": text("c", 9_000)}
SITE = make_site(FILES)
A, B, C = (SITE.manifest.file(path) for path in FILES)


class Disk(SignedSource):
    """A server with every chunk on a disk, or with none."""

    here = True

    def at_hand(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        self.refuse_gone(f"chunk:{id}")
        return StoredChunk(id, Path("/dev/null"), 1) if self.here else None


@dataclass
class Bench:
    disk: Disk
    small: SmallFiles

    @property
    def reads(self) -> int:
        return sum(n for key, n in self.disk.calls.items() if key.startswith("chunk:"))


@pytest.fixture
def bench(executor: ThreadPoolExecutor) -> Bench:
    disk = Disk()
    disk.publish(SITE)
    revisions = RevisionReader(disk, executor, 1 << 20)
    return Bench(disk, SmallFiles(disk, revisions, file_bytes=8_000, total_bytes=10_000))


async def test_a_file_is_read_once(bench: Bench) -> None:
    for _ in range(3):
        assert await bench.small.get(A) == FILES["a.png"]
    assert bench.reads == len(A.chunks) == 2


async def test_what_is_large_or_elsewhere_is_not_held(bench: Bench) -> None:
    assert await bench.small.get(C) is None
    bench.disk.here = False
    assert await bench.small.get(A) is None
    assert bench.reads == 0


async def test_memory_is_bounded(bench: Bench) -> None:
    for entry in (A, B, B, A):
        assert await bench.small.get(entry) == FILES[entry.path]
    assert bench.reads == 6  # b pushed a out, and then a pushed b out


async def test_what_was_taken_down_is_refused(bench: Bench) -> None:
    await bench.small.get(A)
    bench.disk.gone.add(f"chunk:{A.chunks[1].id}")
    with pytest.raises(GoneError):
        await bench.small.get(A)
