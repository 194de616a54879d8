"""wire.http_files: files whose chunks lie partly on this disk and partly elsewhere."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.source import MemorySource
from wire.chunk import ChunkId, hash_chunk
from wire.http_files import FileSender, chunk_ends
from wire.manifest import ChunkRef, FileEntry
from wire.source import Delivery, StoredChunk

PARTS = tuple(bytes([65 + n]) * (1_000 + 37 * n) for n in range(12))
DATA = b"".join(PARTS)
IDS = tuple(hash_chunk(part) for part in PARTS)
Client = TestClient[web.Request, web.Application]


def entry_of(*parts: bytes) -> FileEntry:
    data = b"".join(parts)
    refs = tuple(ChunkRef(hash_chunk(part), len(part)) for part in parts)
    digest = hashlib.sha256(data).hexdigest()
    return FileEntry(path="m", size=len(data), sha256=digest, role="weights", chunks=refs)


ENTRY = entry_of(*PARTS)


class HalfCache(MemorySource):
    """Has some chunks in files, and gets the others when asked."""

    def __init__(self, folder: Path) -> None:
        super().__init__("half")
        self.folder = folder
        self.evicting: set[ChunkId] = set()
        """Located, and gone when somebody opens the file."""
        for part in PARTS:
            self.add_chunk(part)

    def store(self, *numbers: int) -> None:
        for number in numbers:
            (self.folder / IDS[number]).write_bytes(PARTS[number])

    def at_hand(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        path = self.folder / id
        if id in self.evicting:
            return StoredChunk(id, path, len(self.chunks[id]))
        return StoredChunk(id, path, path.stat().st_size) if path.exists() else None

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        return Delivery(await self.chunk(id, revalidate=revalidate), "fwd=uri-miss; stored")


class Counted:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, str]] = []

    def served(self, kind: str, size: int, cache_status: str) -> None:
        self.calls.append((kind, size, cache_status))


@pytest.fixture
def server(tmp_path: Path) -> HalfCache:
    return HalfCache(tmp_path)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def client(
    server: HalfCache, counted: Counted, executor: ThreadPoolExecutor
) -> AsyncIterator[Client]:
    sender = FileSender(server, executor, "half", counted)

    async def handler(request: web.Request) -> web.StreamResponse:
        return await sender.send_file(request, ENTRY, {"ETag": '"x"'})

    app = web.Application()
    app.router.add_get("/m", handler)
    async with TestClient(TestServer(app)) as made:
        yield made


async def fetched(client: Client, span: str | None = None) -> bytes:
    answer = await client.get("/m", headers={"Range": f"bytes={span}"} if span else {})
    assert answer.status == (206 if span else 200)
    return await answer.read()


@pytest.mark.parametrize(
    "stored", [(), tuple(range(12)), (0, 1, 2), (3, 4, 9), (0, 2, 4, 6, 8, 10)]
)
async def test_a_file_is_whole_wherever_its_chunks_are(
    client: Client, server: HalfCache, stored: tuple[int, ...]
) -> None:
    server.store(*stored)
    assert await fetched(client) == DATA
    assert server.call_count == 12 - len(stored)


async def test_every_range_is_exact(client: Client, server: HalfCache) -> None:
    server.store(1, 2, 3, 7)
    edges = [0, 1, 999, 1_000, 1_001, 2_036, 2_037, 5_000, len(DATA) - 2, len(DATA) - 1]
    for start in edges:
        for last in edges:
            if start <= last:
                assert await fetched(client, f"{start}-{last}") == DATA[start : last + 1]


async def test_what_was_evicted_on_its_way_out_is_fetched(
    client: Client, server: HalfCache
) -> None:
    server.store(*range(12))
    for number in (0, 5, 6, 11):
        server.evicting.add(IDS[number])
        (server.folder / IDS[number]).unlink()
    assert await fetched(client) == DATA
    assert server.call_count == 4


async def test_the_cache_is_told_what_comes_next(client: Client, server: HalfCache) -> None:
    server.store(0, 1)
    await fetched(client)
    assert server.expected[0] == IDS[2:6]
    assert IDS[11:] in server.expected
    server.expected.clear()
    await fetched(client, "0-1100")
    assert not any(server.expected), "nothing beyond the range"


async def test_an_answer_is_counted_once_with_its_bytes(
    client: Client, server: HalfCache, counted: Counted
) -> None:
    server.store(*range(6))
    await fetched(client)
    await fetched(client, "10000-10009")
    assert counted.calls == [("file", len(DATA), "hit"), ("file", 10, "fwd=uri-miss; stored")]


async def test_a_head_sends_nothing_and_asks_nobody(
    client: Client, server: HalfCache, counted: Counted
) -> None:
    answer = await client.head("/m")
    assert answer.headers["Content-Length"] == str(len(DATA))
    assert server.call_count == 0
    assert counted.calls == []


async def test_an_empty_file_is_an_empty_answer(
    server: HalfCache, executor: ThreadPoolExecutor
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await FileSender(server, executor).send_file(request, entry_of(), {"ETag": '"x"'})

    app = web.Application()
    app.router.add_get("/m", handler)
    async with TestClient(TestServer(app)) as made:
        assert await (await made.get("/m")).read() == b""


@given(st.lists(st.integers(1, 50), max_size=20))
def test_chunks_end_where_the_next_begins(sizes: list[int]) -> None:
    entry = entry_of(*(bytes(size) for size in sizes))
    placed = [offset + ref.size for offset, ref in entry.placed()]
    assert list(chunk_ends(entry)) == placed
