"""Bit flips wherever a chunk can be: each must be caught before anybody uses the bytes."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer

from edge_tier.cache.store import ChunkStore, StoreConfig
from origin.store import ObjectStore
from tests.benchmarks.results import Row
from wire.chunk import Chunk
from wire.errors import ChunkMismatchError
from wire.http_source import HttpSource

SIZE = 256 * 1024


async def measure(flips: int) -> list[Row]:
    """So many flips each in transit, in the origin's store and in the edge's cache."""
    source = random.Random(7)
    caught = {
        "in transit": await _in_transit(flips, source),
        "in the origin's store": await _in_store(flips, source),
        "in the edge's cache": await _in_cache(flips, source),
    }
    return [
        Row(
            name=f"of {flips} bit flips {where}, caught",
            unit="%",
            runs=[100 * count / flips],
            target=100.0,
        )
        for where, count in caught.items()
    ]


def _flipped(data: bytes, source: random.Random) -> bytes:
    changed = bytearray(data)
    changed[source.randrange(len(data))] ^= 1 << source.randrange(8)
    return bytes(changed)


async def _counted(flips: int, read: Callable[[int], Awaitable[object]]) -> int:
    caught = 0
    for number in range(flips):
        try:
            caught += await read(number) is None
        except ChunkMismatchError:
            caught += 1
    return caught


async def _in_transit(flips: int, source: random.Random) -> int:
    chunk = Chunk.of(source.randbytes(SIZE))

    async def damaged(_request: web.Request) -> web.Response:
        return web.Response(body=_flipped(bytes(chunk.data), source))

    app = web.Application()
    app.router.add_get("/{path:.*}", damaged)
    with ThreadPoolExecutor(1) as threads:
        async with TestServer(app) as server:
            client = HttpSource(str(server.make_url("")).rstrip("/"), threads)
            buffer = memoryview(bytearray(SIZE))
            count = await _counted(flips, lambda _: client.chunk(chunk.id, into=buffer))
            await client.aclose()
    return count


async def _in_store(flips: int, source: random.Random) -> int:
    with tempfile.TemporaryDirectory() as name:
        store = ObjectStore(name)
        chunks = [Chunk.of(source.randbytes(SIZE)) for _ in range(flips)]
        for chunk in chunks:
            await store.put_chunk(chunk)
            _damage(Path(name) / "chunks" / chunk.id[:2] / chunk.id, source)
        return await _counted(flips, lambda number: store.chunk(chunks[number].id))


async def _in_cache(flips: int, source: random.Random) -> int:
    with tempfile.TemporaryDirectory() as name:
        store = ChunkStore(Path(name), StoreConfig())
        await store.start()
        chunks = [Chunk.of(source.randbytes(SIZE)) for _ in range(flips)]
        for chunk in chunks:
            stored = await store.put(chunk)
            assert stored is not None
            _damage(stored.path, source)
        count = await _counted(flips, lambda number: store.read(chunks[number].id))
        await store.aclose()
        return count


def _damage(path: Path, source: random.Random) -> None:
    path.write_bytes(_flipped(path.read_bytes(), source))
