"""The origin's objects, through obstore: a local folder by default, S3, GCS or Azure by URL.

Layout: ``chunks/ab/<id>``, ``manifests/<revision>``, ``trust/<document>``, ``gone/<key>`` and, for
what was found rotten, ``corrupt/<id>``. Every object is written whole or not at all.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import obstore
from obstore.store import LocalStore, from_url

from origin.errors import StoreError
from wire.chunk import Chunk, ChunkId
from wire.errors import ChunkMismatchError, ConfigError, NotFoundError
from wire.manifest import Manifest, decode
from wire.source import StoredChunk

_PARALLEL_HEADS = 64


class ObjectStore:
    """Chunks, manifests and trust documents at rest.

    Args:
        location: a folder, or a URL that obstore knows (``s3://bucket/prefix``).

    Raises:
        ConfigError: the location cannot be opened.
    """

    def __init__(self, location: str) -> None:
        self._folder: Path | None = None
        try:
            if "://" in location:
                self._objects: Any = from_url(location)
            else:
                self._folder = Path(location).absolute()
                self._objects = LocalStore(str(self._folder), mkdir=True)
        except Exception as error:
            raise ConfigError(f"cannot open the store {location!r}: {error}") from error
        self._sizes: dict[ChunkId, int] = {}

    async def missing_chunks(self, ids: Iterable[ChunkId]) -> list[ChunkId]:
        """Which of these the store does not hold."""
        gate = asyncio.Semaphore(_PARALLEL_HEADS)

        async def absent(chunk: ChunkId) -> bool:
            async with gate:
                return not await self._exists(_chunk_key(chunk))

        wanted = list(dict.fromkeys(ids))
        flags = await asyncio.gather(*map(absent, wanted))
        return [chunk for chunk, flag in zip(wanted, flags, strict=True) if flag]

    async def put_chunk(self, chunk: Chunk) -> None:
        """Store a verified chunk; storing it again is harmless."""
        await self._put(_chunk_key(chunk.id), chunk.data)

    async def chunk(self, id: ChunkId) -> Chunk:  # noqa: A002
        """Read and verify a chunk.

        Raises:
            NotFoundError: not here.
            ChunkMismatchError: rotten; it was set aside, so publishing again heals it.
        """
        data = await self._get(_chunk_key(id))
        try:
            return Chunk(id, memoryview(data))
        except ChunkMismatchError:
            self._sizes.pop(id, None)
            await self._call("set aside", id, obstore.rename_async, _chunk_key(id), f"corrupt/{id}")
            raise

    def locate(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        """Where a local folder holds the chunk; None on other stores, or where it is absent."""
        if self._folder is None:
            return None
        path = self._folder / _chunk_key(id)
        size = self._sizes.get(id)
        if size is None:
            try:
                size = path.stat().st_size
            except OSError:
                return None
            self._sizes[id] = size
        return StoredChunk(id, path, size)

    async def put_manifest(self, revision: str, data: bytes) -> Manifest:
        """Store a manifest whose chunks are all here.

        Raises:
            ManifestInvalidError: not canonical, out of bounds, or not of this name.
            NotFoundError: chunks are missing; the message counts them.
        """
        manifest = decode(data, revision)
        missing = await self.missing_chunks(manifest.chunk_refs())
        if missing:
            raise NotFoundError(f"{len(missing)} chunks of {revision} are not stored yet")
        await self._put(f"manifests/{revision}", data)
        return manifest

    async def manifest(self, revision: str) -> bytes:
        """Manifest bytes. Raises ``NotFoundError``."""
        return bytes(await self._get(f"manifests/{revision}"))

    async def trust_documents(self) -> dict[str, bytes]:
        """All role files by name, as they were last put."""
        listing = await self._list("trust/")
        names = [key.removeprefix("trust/") for key in listing]
        return {name: bytes(await self._get(f"trust/{name}")) for name in names}

    async def put_trust_documents(self, documents: dict[str, bytes]) -> None:
        """Put role files one after the other, in the order given: the last one commits."""
        for name, data in documents.items():
            await self._put(f"trust/{name}", data)

    async def remove_trust_documents(self, names: Iterable[str]) -> None:
        """Remove role files that no client can still be asking for."""
        for name in names:
            await self._call("remove", name, obstore.delete_async, f"trust/{name}")

    async def mark_gone(self, key: str) -> None:
        """Remember a takedown across restarts."""
        await self._put(f"gone/{quote(key, safe='')}", b"")

    async def gone_keys(self) -> set[str]:
        """All keys taken down."""
        return {unquote(key.removeprefix("gone/")) for key in await self._list("gone/")}

    async def _put(self, key: str, data: bytes | bytearray | memoryview) -> None:
        await self._call("write", key, obstore.put_async, key, data)
        if self._folder is not None:
            await asyncio.to_thread(_make_durable, self._folder / key)

    async def _get(self, key: str) -> Any:
        result = await self._call("read", key, obstore.get_async, key)
        return await result.bytes_async()

    async def _exists(self, key: str) -> bool:
        try:
            await self._call("look up", key, obstore.head_async, key)
        except NotFoundError:
            return False
        return True

    async def _list(self, prefix: str) -> list[str]:
        try:
            metas = await obstore.list(self._objects, prefix=prefix).collect_async()
        except Exception as error:
            raise StoreError(f"cannot list {prefix}: {type(error).__name__}") from error
        return [meta["path"] for meta in metas]

    async def _call(self, verb: str, what: str, call: Any, *args: Any) -> Any:
        """Run an obstore call; translate what it raises, once for all of them."""
        try:
            return await call(self._objects, *args)
        except FileNotFoundError as error:
            raise NotFoundError(f"not in the store: {what}") from error
        except Exception as error:
            raise StoreError(f"cannot {verb} {what}: {type(error).__name__}") from error


def _chunk_key(chunk: ChunkId) -> str:
    return f"chunks/{chunk[:2]}/{chunk}"


def _make_durable(path: Path) -> None:
    """obstore renames into place but does not flush; a power cut must not lose what was signed."""
    for target in (path, path.parent):
        handle = os.open(target, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
