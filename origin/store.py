"""The origin's objects, through obstore: a local folder by default, S3, GCS or Azure by URL.

Layout: ``chunks/ab/<id>``, ``manifests/<revision>``, ``trust/<document>``, ``gone/<digest>`` and,
for what was found rotten, ``corrupt/<id>``. Every object is written whole or not at all.

obstore's blocking calls are used, in threads: its asynchronous ones answer from threads of their
own, and such an answer aborts the process where the interpreter is just ending (pyo3-async-runtimes
issue 40). In a local folder objects are written by this file, because obstore renames before
anything was flushed: a power cut could then leave a name without its bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import obstore
import structlog
from obstore.store import LocalStore, from_url

from origin.errors import StoreError
from wire.chunk import Buffer, Chunk, ChunkId, hash_chunk
from wire.errors import ChunkMismatchError, ConfigError, ManifestInvalidError, NotFoundError
from wire.manifest import Manifest, decode, revision_of
from wire.source import StoredChunk

_log = structlog.get_logger("store")
_PARALLEL_LOOKUPS = 16
_STAGING = "staging"


class ObjectStore:
    """Chunks, manifests and trust documents at rest.

    Args:
        location: a folder, or a URL that obstore knows (``s3://bucket/prefix``).
        on_corrupt: told of every chunk that was found rotten and set aside; from any thread.

    Raises:
        ConfigError: the location cannot be opened.
    """

    def __init__(
        self, location: str, *, on_corrupt: Callable[[ChunkId], None] = lambda _id: None
    ) -> None:
        self._folder: Path | None = None
        self._on_corrupt = on_corrupt
        try:
            if "://" in location:
                self._objects: Any = from_url(location)
            else:
                self._folder = Path(location).absolute()
                self._objects = LocalStore(str(self._folder), mkdir=True)
        except Exception as error:
            raise ConfigError(f"cannot open the store {location!r}: {error}") from error

    async def sweep(self) -> None:
        """Remove what an earlier life was writing when it ended. Not while another one writes."""
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder / _STAGING, ignore_errors=True)

    async def missing_chunks(self, ids: Iterable[ChunkId]) -> list[ChunkId]:
        """Which of these the store does not hold."""
        wanted = list(dict.fromkeys(ids))
        if self._folder is not None:
            return await asyncio.to_thread(self._absent, wanted)
        parts = [wanted[start::_PARALLEL_LOOKUPS] for start in range(_PARALLEL_LOOKUPS)]
        found = await asyncio.gather(*(asyncio.to_thread(self._absent, part) for part in parts))
        absent = {chunk for part in found for chunk in part}
        return [chunk for chunk in wanted if chunk in absent]

    async def put_chunk(self, chunk: Chunk) -> None:
        """Store a verified chunk; storing it again is harmless."""
        await asyncio.to_thread(self._put, _chunk_key(chunk.id), chunk.data)

    async def chunk(self, id: ChunkId) -> Chunk:  # noqa: A002
        """Read and verify a chunk.

        Raises:
            NotFoundError: not here.
            ChunkMismatchError: rotten; it was set aside, so publishing again heals it.
        """
        return await asyncio.to_thread(self._chunk, id)

    def locate(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        """Where a local folder holds the chunk, unverified; None on other stores, or where it is
        absent or no plain file. The size is that of this moment, never a remembered one."""
        if self._folder is None:
            return None
        path = self._folder / _chunk_key(id)
        try:
            found = path.lstat()
        except OSError:
            return None
        return StoredChunk(id, path, found.st_size) if stat.S_ISREG(found.st_mode) else None

    async def put_manifest(self, revision: str, data: bytes) -> Manifest:
        """Store a manifest whose chunks are all here.

        Raises:
            ManifestInvalidError: not canonical, out of bounds, or not of this name.
            NotFoundError: chunks are missing; the message counts them.
        """
        manifest = await asyncio.to_thread(decode, data, revision)
        missing = await self.missing_chunks(manifest.chunk_refs())
        if missing:
            raise NotFoundError(f"{len(missing)} chunks of {revision} are not stored yet")
        await asyncio.to_thread(self._put, f"manifests/{revision}", data)
        return manifest

    async def manifest(self, revision: str) -> bytes:
        """Manifest bytes that are those of ``revision``.

        Raises:
            NotFoundError: not here.
            ManifestInvalidError: rotten; publishing again heals it.
        """
        data = bytes(await asyncio.to_thread(self._get, f"manifests/{revision}"))
        if revision_of(data) != revision:
            raise ManifestInvalidError(f"the stored manifest of {revision} is rotten")
        return data

    async def trust_documents(self) -> dict[str, bytes]:
        """All role files by name, as they were last put."""
        keys = await asyncio.to_thread(self._list, "trust/")
        return {
            key.removeprefix("trust/"): bytes(await asyncio.to_thread(self._get, key))
            for key in keys
        }

    async def put_trust_documents(self, documents: Mapping[str, bytes]) -> None:
        """Put role files one after the other, in the order given: the last one commits."""
        for name, data in documents.items():
            await asyncio.to_thread(self._put, f"trust/{name}", data)

    async def remove_trust_documents(self, names: Iterable[str]) -> None:
        """Remove role files that no client can still be asking for; best effort."""
        for name in names:
            try:
                await asyncio.to_thread(self._call, "remove", name, obstore.delete, f"trust/{name}")
            except (NotFoundError, StoreError) as error:
                _log.warning("old trust document stays", name=name, error=error.message)

    async def mark_gone(self, key: str) -> None:
        """Remember a takedown across restarts. The object's name says nothing of the key, whose
        characters and length no file system would have to take."""
        name = hashlib.sha256(key.encode()).hexdigest()
        await asyncio.to_thread(self._put, f"gone/{name}", key.encode())

    async def gone_keys(self) -> set[str]:
        """All keys taken down."""
        keys = await asyncio.to_thread(self._list, "gone/")
        return {bytes(await asyncio.to_thread(self._get, key)).decode() for key in keys}

    def _chunk(self, id: ChunkId) -> Chunk:  # noqa: A002
        data = memoryview(self._get(_chunk_key(id)))
        try:
            return Chunk(id, data)
        except ChunkMismatchError:
            self._set_aside(id)
            raise

    def _set_aside(self, id: ChunkId) -> None:  # noqa: A002
        aside = f"corrupt/{id}"
        with suppress(NotFoundError):  # somebody else was first
            self._call("set aside", id, obstore.rename, _chunk_key(id), aside)
            self._on_corrupt(id)
            _log.error("chunk set aside", chunk=id, remedy="publish its revision again")
            if hash_chunk(memoryview(self._get(aside))) == id:
                # It was healed between our reading and our renaming.
                self._call("put back", id, obstore.rename, aside, _chunk_key(id))

    def _absent(self, ids: list[ChunkId]) -> list[ChunkId]:
        return [chunk for chunk in ids if not self._exists(_chunk_key(chunk))]

    def _exists(self, key: str) -> bool:
        if self._folder is not None:
            return (self._folder / key).exists()
        try:
            self._call("look up", key, obstore.head, key)
        except NotFoundError:
            return False
        return True

    def _put(self, key: str, data: Buffer) -> None:
        if self._folder is None:
            self._call("write", key, obstore.put, key, data)
            return
        try:
            _write_whole(self._folder / key, data, self._folder / _STAGING)
        except OSError as error:
            raise StoreError(f"cannot write {key}: {error.strerror}") from error

    def _get(self, key: str) -> Any:
        return self._call("read", key, _read, key)

    def _list(self, prefix: str) -> list[str]:
        return [meta["path"] for meta in self._call("list", prefix, _listed, prefix)]

    def _call(self, verb: str, what: str, call: Callable[..., Any], *args: Any) -> Any:
        """Run an obstore call; translate what it raises, once for all of them."""
        try:
            return call(self._objects, *args)
        except FileNotFoundError as error:
            raise NotFoundError(f"not in the store: {what}") from error
        except Exception as error:
            raise StoreError(f"cannot {verb} {what}: {type(error).__name__}") from error


def _chunk_key(chunk: ChunkId) -> str:
    return f"chunks/{chunk[:2]}/{chunk}"


def _read(objects: Any, key: str) -> Any:
    return obstore.get(objects, key).bytes()


def _listed(objects: Any, prefix: str) -> Any:
    return obstore.list(objects, prefix=prefix).collect()


def _write_whole(path: Path, data: Buffer, staging: Path) -> None:
    """Write a file that appears whole, and is there to stay once this returns."""
    staging.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        _sync(path.parent.parent)
    temporary = staging / uuid.uuid4().hex
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
