"""Small documents on disk: manifests, channel pointers, the trust bundle, takedowns.

With them an edge restarts without an origin. Each is one file, named by its surrogate key
(``wire.paths``), that holds when it was fetched and a BLAKE3 hash of the rest, so one that rots is
absent rather than wrong. Manifests are evicted by size and use; all else is small and stays. All
file I/O runs in one thread, so changes of a document happen in the order in which they were made.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog
from blake3 import blake3

from edge_tier.cache.disk import Folder, Writer, write_file
from edge_tier.cache.eviction import Eviction
from wire.errors import NameInvalidError

_log = structlog.get_logger("documents")

_FOLDER = "documents"
_KEY = re.compile(r"[a-z]+(:[A-Za-z0-9][A-Za-z0-9._@-]{0,220})?")
_MAGIC = b"HWDOC1"
_HEADER = struct.Struct(">6s32sd")
_EVICTABLE = "revision:"
_PROBE_BYTES = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentConfig:
    """Bounds of a document store."""

    document_bytes: int = 1024**3
    """Bytes on disk."""
    memory_bytes: int = 32 * 1024**2
    """Bytes of the documents used last that are kept in memory."""
    fsync: bool = True
    """Flush each document: without, a power cut may lose what an edge needs to start alone."""


@dataclass(frozen=True, slots=True)
class Document:
    """Bytes, and when they were fetched (seconds since the epoch)."""

    body: bytes
    stored_at_s: float


def encode_document(key: str, document: Document) -> bytes:
    """The file of a document. The hash covers the key, so no file passes for another."""
    rest = struct.pack(">d", document.stored_at_s) + document.body
    return _MAGIC + _digest(key, rest) + rest


def decode_document(key: str, data: bytes) -> Document | None:
    """Read a document's file; None where it is torn, rotten or another's."""
    if len(data) < _HEADER.size:
        return None
    magic, digest, stored_at_s = _HEADER.unpack_from(data)
    if magic != _MAGIC or _digest(key, memoryview(data)[_HEADER.size - 8 :]) != digest:
        return None
    return Document(data[_HEADER.size :], stored_at_s)


def _digest(key: str, rest: bytes | memoryview) -> bytes:
    return blake3(key.encode() + b"\n").update(rest).digest()


class DocumentStore:
    """Documents at rest, by surrogate key. Call :meth:`start` before anything else.

    A failing disk costs nothing but persistence: see :attr:`degraded`.

    Args:
        root: the folder; this store alone uses it.
        wall_clock: seconds since the epoch.
        write: how bytes get into a new file.
    """

    def __init__(
        self,
        root: Path,
        config: DocumentConfig,
        *,
        wall_clock: Callable[[], float] = time.time,
        write: Writer = write_file,
    ) -> None:
        self._folder = Folder(root, fsync=config.fsync, write=write)
        self._config = config
        self._wall_clock = wall_clock
        self._eviction = Eviction(config.document_bytes)
        self._recent: OrderedDict[str, Document] = OrderedDict()
        self._recent_bytes = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="documents")
        self._degraded = ""

    async def start(self) -> None:
        """Take the folder and read the index back.

        Raises:
            ConfigError: the folder cannot be used, or another process uses it.
        """
        for key, size in await self._run(self._scan):
            self._pin(key)
            victims = self._eviction.restore(key, size)
            await self._remove_files([key] if victims is None else victims)

    @property
    def degraded(self) -> str:
        """Why the last attempt to store a document failed; empty while all is well."""
        return self._degraded

    def __contains__(self, key: str) -> bool:
        return key in self._eviction or key in self._recent

    def keys(self, prefix: str = "") -> list[str]:
        """The keys with this beginning, of what is here."""
        return [
            key
            for key in {**dict.fromkeys(self._eviction), **self._recent}
            if key.startswith(prefix)
        ]

    async def probe(self) -> bool:
        """Where the disk failed, try whether it works again; whether all is well now."""
        if self._degraded:
            try:
                await self._run(self._folder.probe, _PROBE_BYTES)
            except OSError as error:
                _log.debug("disk still fails", reason=error.strerror)
            else:
                self._degraded = ""
        return not self._degraded

    async def get(self, key: str) -> Document | None:
        """The document; None where it is not here or cannot be read."""
        recent = self._recent.get(key)
        if recent is not None:
            self._recent.move_to_end(key)
            self._eviction.touch(key)
            return recent
        if key not in self._eviction:
            return None
        self._eviction.touch(key)
        document = await self._run(self._read, key)
        if key in self._recent or key not in self._eviction:
            return self._recent.get(key)  # stored anew, or removed, while it was read
        if document is None:
            await self.remove(key)
        else:
            self._remember(key, document)
        return document

    async def put(self, key: str, body: bytes) -> bool:
        """Store a document under a key; whether it reached the disk.

        Raises:
            NameInvalidError: the key cannot be a file's name.
        """
        if not _KEY.fullmatch(key) or ".." in key:
            raise NameInvalidError("a document's key is KIND or KIND:NAME, without separators")
        document = Document(body, self._wall_clock())
        self._remember(key, document)
        self._pin(key)
        victims = self._eviction.admit(key, len(body) + _HEADER.size)
        if victims is None:
            return False
        await self._remove_files(victims)
        return await self._write(key, document)

    async def remove(self, key: str) -> None:
        """Remove a document; nothing where there is none."""
        self._eviction.unpin(key)
        await self._remove_files([key])

    async def aclose(self) -> None:
        """Give the folder back; may be called twice."""
        self._thread.shutdown(wait=False)
        self._folder.close()

    async def _write(self, key: str, document: Document) -> bool:
        data = encode_document(key, document)
        try:
            await self._run(self._folder.place, f"{_FOLDER}/{key}", data)
        except OSError as error:
            self._fail("store", key, error)
            self._eviction.remove(key)
            return False
        self._degraded = ""
        return True

    async def _remove_files(self, keys: list[str]) -> None:
        for key in keys:
            self._forget(key)
            try:
                await self._run(self._folder.remove, f"{_FOLDER}/{key}")
            except OSError as error:
                self._fail("remove", key, error)

    def _read(self, key: str) -> Document | None:
        try:
            return decode_document(key, (self._folder.root / _FOLDER / key).read_bytes())
        except OSError:
            return None

    def _scan(self) -> list[tuple[str, int]]:
        """Keys and sizes, the oldest first."""
        self._folder.open(_FOLDER)
        paths = [
            (path.stat().st_mtime_ns, path.name, path.stat().st_size)
            for path in (self._folder.root / _FOLDER).iterdir()
            if _KEY.fullmatch(path.name)
        ]
        return [(key, size) for _, key, size in sorted(paths)]

    def _pin(self, key: str) -> None:
        if not key.startswith(_EVICTABLE):
            self._eviction.pin(key, [key])

    def _remember(self, key: str, document: Document) -> None:
        self._drop_recent(key)
        if len(document.body) > self._config.memory_bytes:
            return
        self._recent[key] = document
        self._recent_bytes += len(document.body)
        while self._recent_bytes > self._config.memory_bytes:
            self._drop_recent(next(iter(self._recent)))

    def _drop_recent(self, key: str) -> None:
        document = self._recent.pop(key, None)
        if document is not None:
            self._recent_bytes -= len(document.body)

    def _forget(self, key: str) -> None:
        self._drop_recent(key)
        self._eviction.remove(key)

    def _fail(self, verb: str, key: str, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        before, self._degraded = self._degraded, f"cannot {verb} documents: {reason}"
        if self._degraded != before:
            _log.warning("disk failed", verb=verb, key=key, reason=reason)

    def _run(self, function: Callable[..., T], *args: object) -> Awaitable[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function, *args)
