"""The origin's objects, in a local folder by default, in S3, GCS or Azure by URL.

Layout: ``chunks/ab/<id>``, ``manifests/<revision>``, ``trust/documents.json``, ``gone/<digest>``,
``pins/<model>/<revision>``, ``leases/<digest>``, ``fleet/<origin>``, ``logins/<token's name>``
(the console's), ``rollouts/<model>/<channel>`` (how a channel came to point where it does) and,
for what was found rotten, ``corrupt/<id>``.
Every object is written whole or not at all.

All role files stand in one object, so that one conditional write commits a change: there is no
half of it, and of two origins that share a bucket one gets a ``ConflictError`` where both would
write. What an upload asked about is leased (``origin.upkeep.gc``).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from origin.errors import StoreError
from origin.stores.bucket import BucketObjects, S3Config
from origin.stores.folder import FolderObjects
from origin.stores.objects import Objects, Stat, Tag
from wire.chunk import MAX_CHUNK_BYTES, Buffer, Chunk, ChunkId, hash_chunk
from wire.errors import (
    ChunkMismatchError,
    ConfigError,
    ConflictError,
    ManifestInvalidError,
    NotFoundError,
    TooLargeError,
)
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, decode, revision_of
from wire.source import StoredChunk
from wire.threads import in_thread

_log = structlog.get_logger("store")
T = TypeVar("T")
_THREADS = 16
"""Objects read or looked up at the same time; of chunks, memory is this many times 8 MiB."""
_LIST_FROM = 8
"""Lookups below one prefix from which a bucket is listed instead: one answer holds 1,000 names."""
_SMALL_BYTES = 64 * 1024 * 1024
"""The most that any object but a chunk may have."""
_DOCUMENTS = "trust/documents.json"
_TIMESTAMP = "timestamp.json"
_DIGEST_BYTES = 32


class ObjectStore:
    """Chunks, manifests and trust documents at rest.

    Args:
        location: a folder, a URL that obstore knows (``s3://bucket/prefix``), or the objects
            themselves.
        config: of a bucket.
        on_corrupt: told of every chunk that was found rotten and set aside; from any thread.

    Raises:
        ConfigError: the location cannot be opened.
    """

    def __init__(
        self,
        location: str | Objects,
        *,
        config: S3Config | None = None,
        on_corrupt: Callable[[ChunkId], None] = lambda _id: None,
    ) -> None:
        self._on_corrupt = on_corrupt
        self._objects = _open(location, config or S3Config())
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="origin-store")
        self._documents: tuple[dict[str, bytes], Tag | None] | None = None
        self._gone: dict[str, frozenset[str]] = {}

    @property
    def shared(self) -> bool:
        """Whether other origins may be writing here."""
        return self._objects.remote

    async def sweep(self) -> None:
        """Remove what an earlier life was writing when it ended. Not while another one writes."""
        await self._run(self._objects.sweep)

    # Chunks

    async def missing_chunks(self, ids: Iterable[ChunkId]) -> list[ChunkId]:
        """Which of these the store does not hold."""
        wanted = list(dict.fromkeys(ids))
        groups: dict[str, list[ChunkId]] = {}
        for chunk in wanted:
            groups.setdefault(chunk[:2], []).append(chunk)
        found = await asyncio.gather(*(self._run(self._present, g) for g in groups.values()))
        present = set[str]().union(*found)
        return [chunk for chunk in wanted if chunk not in present]

    async def put_chunk(self, chunk: Chunk) -> None:
        """Store a verified chunk; storing it again is harmless."""
        await self._run(self._objects.put, chunk_object(chunk.id), chunk.data)

    async def chunk(self, id: ChunkId) -> Chunk:  # noqa: A002
        """Read and verify a chunk.

        Raises:
            NotFoundError: not here.
            ChunkMismatchError: rotten; it was set aside, so publishing again heals it.
        """
        return await self._run(self._chunk, id)

    def locate(self, id: ChunkId) -> StoredChunk | None:  # noqa: A002
        """Where a local folder holds the chunk, unverified; None on other stores, or where it is
        absent or no plain file. The size is that of this moment, never a remembered one."""
        path = self._objects.path(chunk_object(id))
        if path is None:
            return None
        with suppress(StoreError):
            found = self._objects.stat(chunk_object(id))
            return StoredChunk(id, path, found.size) if found is not None else None
        return None

    # Manifests

    async def put_manifest(
        self,
        revision: str,
        data: bytes,
        *,
        check: Callable[[Manifest], None] = lambda _manifest: None,
    ) -> Manifest:
        """Store a manifest whose chunks are all here.

        Args:
            check: raises where the manifest must not be taken.

        Raises:
            ManifestInvalidError: not canonical, out of bounds, or not of this name.
            NotFoundError: chunks are missing; the message counts them.
        """
        manifest = await asyncio.to_thread(decode, data, revision)
        check(manifest)
        missing = await self.missing_chunks(manifest.chunk_refs())
        if missing:
            raise NotFoundError(f"{len(missing)} chunks of {revision} are not stored yet")
        await self._run(self._objects.put, f"manifests/{revision}", data)
        return manifest

    async def manifest(self, revision: str) -> bytes:
        """Manifest bytes that are those of ``revision``.

        Raises:
            NotFoundError: not here.
            ManifestInvalidError: rotten; publishing again heals it.
        """
        data = await self._small(f"manifests/{revision}", MAX_MANIFEST_BYTES)
        if revision_of(data) != revision:
            raise ManifestInvalidError(f"the stored manifest of {revision} is rotten")
        return data

    async def manifests(self) -> dict[str, float]:
        """Every stored revision, and when its manifest was written (seconds since 1970)."""
        return {_last(stat.key): stat.modified for stat in await self._all("manifests/")}

    # Trust

    async def trust_documents(self) -> dict[str, bytes]:
        """All role files by name, as they now are; empty where there are none yet. What has not
        changed since it was read or put here is not read again."""
        known, tag = self._documents or ({}, None)
        try:
            found = await self._run(self._objects.get_tagged, _DOCUMENTS, _SMALL_BYTES, tag)
        except NotFoundError:
            older = await self._scattered_documents()
            self._documents = (older, None) if older else None
            return dict(older)
        if found is not None:
            known = _read_documents(found[0])
            self._documents = (known, found[1])
        return dict(known)

    async def _scattered_documents(self) -> dict[str, bytes]:
        """Role files as they stood before they were one object; the next change makes them one."""
        keys = [stat.key for stat in await self._all("trust/")]
        texts = await asyncio.gather(*(self._small(key) for key in keys))
        return {_last(key): bytes(text) for key, text in zip(keys, texts, strict=True)}

    async def put_trust_documents(
        self,
        documents: Mapping[str, bytes],
        *,
        remove: Iterable[str] = (),
        based_on: bytes | None = None,
    ) -> None:
        """Put role files, and take away others, all in one write.

        Args:
            based_on: the timestamp that the change was made on top of; None: whatever was read.

        Raises:
            ConflictError: somebody else changed them; nothing was written, and they must be read
                again.
        """
        if self._documents is None:
            await self.trust_documents()
        current, tag = self._documents or ({}, None)
        if based_on is not None and current.get(_TIMESTAMP) != based_on:
            raise ConflictError("the signed documents were changed by another origin")
        merged = {**current, **documents}
        for name in remove:
            merged.pop(name, None)
        if merged == current:
            return
        data = msgspec.json.encode({name: text.decode() for name, text in merged.items()})
        try:
            written = await self._run(self._objects.swap, _DOCUMENTS, data, tag)
        except ConflictError:
            # The answer to an attempt that did succeed may have been lost, and it was repeated.
            if await self.trust_documents() != merged:
                raise
            return
        self._documents = (merged, written)

    # Takedowns, pins, leases

    async def mark_gone(self, keys: Iterable[str]) -> None:
        """Remember takedowns across restarts, all of them in one object. Its name says nothing of
        the keys, whose characters and length no file system would have to take."""
        data = "\n".join(sorted(keys)).encode()
        await self._run(self._objects.put, f"gone/{hashlib.sha256(data).hexdigest()}", data)

    async def gone_keys(self) -> set[str]:
        """All keys taken down. What was read before is not read again: it never changes."""
        new = [stat.key for stat in await self._all("gone/") if stat.key not in self._gone]
        texts = await asyncio.gather(*(self._small(key) for key in new))
        for key, text in zip(new, texts, strict=True):
            self._gone[key] = frozenset(text.decode().split("\n"))
        return set[str]().union(*self._gone.values())

    async def put_pin(self, model: str, revision: str) -> None:
        """Keep a revision, whatever else is thrown away."""
        await self._run(self._objects.put, f"pins/{model}/{revision}", b"")

    async def remove_pin(self, model: str, revision: str) -> None:
        """Keep it no longer."""
        await self._run(self._objects.remove, [f"pins/{model}/{revision}"])

    async def pins(self) -> set[tuple[str, str]]:
        """(model, revision) of all that are pinned."""
        keys = [stat.key.split("/") for stat in await self._all("pins/")]
        return {(parts[-2], parts[-1]) for parts in keys if len(parts) == 3}

    async def lease(self, ids: Iterable[ChunkId]) -> None:
        """Note that somebody is about to rely on these chunks. The same ones renew their lease."""
        data = b"".join(map(bytes.fromhex, sorted(set(ids))))
        if data:
            await self._run(self._objects.put, f"leases/{hashlib.sha256(data).hexdigest()}", data)

    async def leases(self) -> dict[str, float]:
        """Every lease, and when it was last renewed (seconds since 1970)."""
        return {_last(stat.key): stat.modified for stat in await self._all("leases/")}

    async def leased(self, name: str) -> set[str]:
        """The chunks of a lease; none where it has been removed."""
        try:
            data = await self._small(f"leases/{name}")
        except NotFoundError:
            return set()
        starts = range(0, len(data), _DIGEST_BYTES)
        return {data[start : start + _DIGEST_BYTES].hex() for start in starts}

    # Records of channels

    async def channel_records(self) -> set[tuple[str, str]]:
        """(model, channel) of all that have a record."""
        keys = [stat.key.split("/") for stat in await self._all("rollouts/")]
        return {(parts[-2], parts[-1]) for parts in keys if len(parts) == 3}

    async def channel_record(
        self, model: str, channel: str, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        """A channel's record; None where it is still the one with the tag ``known``.

        Raises:
            NotFoundError: there is none.
        """
        key = _record_object(model, channel)
        return await self._run(self._objects.get_tagged, key, _SMALL_BYTES, known)

    async def put_channel_record(
        self, model: str, channel: str, data: bytes, tag: Tag | None
    ) -> Tag:
        """Write a channel's record over the one with this tag (None: where there is none).

        Raises:
            ConflictError: somebody else wrote it first; it must be read again.
        """
        return await self._run(self._objects.swap, _record_object(model, channel), data, tag)

    # The console's logins

    async def console_logins(
        self, name: str, limit_bytes: int, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        """The table of the logins under one token; None where it is still the one with this tag.

        Raises:
            NotFoundError: there is none.
        """
        key = f"logins/{name}"
        return await self._run(self._objects.get_tagged, key, limit_bytes, known)

    async def put_console_logins(self, name: str, data: bytes, tag: Tag | None) -> Tag:
        """Write that table over the one with this tag (None: where there is none).

        Raises:
            ConflictError: somebody else wrote it first; it must be read again.
        """
        return await self._run(self._objects.swap, f"logins/{name}", data, tag)

    # The view of the fleet

    async def put_fleet(self, name: str, data: bytes) -> None:
        """Keep what the origin of this name knows of its fleet, over what it kept before."""
        await self._run(self._objects.put, f"fleet/{name}", data)

    async def fleet(self, name: str) -> bytes | None:
        """What it kept last; None where there is nothing."""
        try:
            return await self._small(f"fleet/{name}")
        except NotFoundError:
            return None

    # For the upkeep

    async def chunk_pages(self) -> AsyncIterator[list[Stat]]:
        """Everything below ``chunks/``, some at a time. Names need not be those of chunks."""
        pages = iter(self._objects.pages("chunks/"))
        while (page := await self._run(next, pages, None)) is not None:
            yield page

    async def remove(self, keys: Iterable[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        await self._run(self._objects.remove, list(keys))

    def _chunk(self, id: ChunkId) -> Chunk:  # noqa: A002
        try:
            return Chunk(id, memoryview(self._objects.get(chunk_object(id), MAX_CHUNK_BYTES)))
        except TooLargeError as error:
            self._set_aside(id)
            raise ChunkMismatchError(f"chunk {id}: {error.message}") from error
        except ChunkMismatchError:
            self._set_aside(id)
            raise

    def _set_aside(self, id: ChunkId) -> None:  # noqa: A002
        aside, objects = f"corrupt/{id}", self._objects
        with suppress(NotFoundError):  # somebody else was first
            objects.move(chunk_object(id), aside)
            self._on_corrupt(id)
            _log.error("chunk set aside", chunk=id, remedy="publish its revision again")
            with suppress(TooLargeError):
                if hash_chunk(memoryview(objects.get(aside, MAX_CHUNK_BYTES))) == id:
                    # It was healed between our reading and our renaming.
                    objects.move(aside, chunk_object(id))

    def _present(self, ids: list[ChunkId]) -> set[str]:
        """Those of these chunks, all of one prefix, that are here."""
        if not self._objects.remote or len(ids) < _LIST_FROM:
            return {id for id in ids if self._objects.stat(chunk_object(id)) is not None}  # noqa: A001
        wanted, found = set(ids), set[str]()
        for page in self._objects.pages(f"chunks/{ids[0][:2]}/"):
            found |= wanted & {_last(stat.key) for stat in page}
            if len(found) == len(wanted):
                break
        return found

    async def _all(self, prefix: str) -> list[Stat]:
        def collect() -> list[Stat]:
            return [stat for page in self._objects.pages(prefix) for stat in page]

        return await self._run(collect)

    async def _small(self, key: str, limit_bytes: int = _SMALL_BYTES) -> bytes:
        try:
            return bytes(await self._run(self._objects.get, key, limit_bytes))
        except TooLargeError as error:
            raise StoreError(error.message) from error

    async def _run(self, call: Callable[..., T], *args: object) -> T:
        # Whoever is cancelled leaves no write on this machine behind: a folder that seems at rest
        # is. One to a bucket may hang for longer than anybody would wait.
        return await in_thread(
            self._threads, lambda: call(*args), on_cancel=lambda: not self._objects.remote
        )


def chunk_object(chunk: str) -> str:
    """The key of a chunk's object."""
    return f"chunks/{chunk[:2]}/{chunk}"


def _record_object(model: str, channel: str) -> str:
    return f"rollouts/{model}/{channel}"


def _open(location: str | Objects, config: S3Config) -> Objects:
    if not isinstance(location, str):
        return location
    try:
        if "://" in location:
            return BucketObjects(location, config)
        return FolderObjects(Path(location).absolute())
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"cannot open the store {location!r}: {error}") from error


def _last(key: str) -> str:
    return key.rpartition("/")[2]


def _read_documents(data: Buffer) -> dict[str, bytes]:
    try:
        texts = msgspec.json.decode(data, type=dict[str, str])
    except (msgspec.DecodeError, RecursionError) as error:
        raise StoreError(f"{_DOCUMENTS} is damaged ({error}); restore it") from error
    return {name: text.encode() for name, text in texts.items()}
