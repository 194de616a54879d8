"""Brings chunks and manifests from edges and other origins to where they are missing.

Everything is verified here before it is handed on: a chunk by its hash, a manifest by its name. So
it does not matter who gives it, and whoever gives something else is passed over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from origin.errors import StoreError
from origin.store import ObjectStore
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId, chunk_id
from wire.errors import (
    GoneError,
    HeadwaterError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.http_client import BlockingClient
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, decode
from wire.paths import chunk_path, manifest_path

Progress = Callable[[str, int, int], None]
T = TypeVar("T")
_FAILURES_MOST = 3
"""In a row, after which a supplier is passed over until the next revision: one that is away, or
that asks an origin which is gone, would cost its patience for each of thousands of chunks."""


_AT_ONCE = 4
"""Chunks of a revision that are fetched at the same time; memory is this many times 8 MiB."""


class Shelf(Protocol):
    """Where chunks and manifests are put: a running origin, or the store of one that is not."""

    def lacking(self, ids: Iterable[ChunkId]) -> list[str]:
        """Which of these chunks are not there."""
        ...

    def put_chunk(self, chunk: Chunk) -> None: ...

    def put_manifest(self, revision: str, data: bytes) -> None:
        """Put a manifest whose chunks are all there."""
        ...


class StoreShelf:
    """A store that no origin serves.

    Args:
        runner: runs what the store does.
    """

    def __init__(self, store: ObjectStore, runner: asyncio.Runner) -> None:
        self._store = store
        self._runner = runner

    def lacking(self, ids: Iterable[ChunkId]) -> list[str]:
        return list(self._runner.run(self._store.missing_chunks(ids)))

    def put_chunk(self, chunk: Chunk) -> None:
        self._runner.run(self._store.put_chunk(chunk))

    def put_manifest(self, revision: str, data: bytes) -> None:
        self._runner.run(self._store.put_manifest(revision, data))


class Suppliers:
    """Edges and origins that are asked one after the other; who gave last is asked first.
    Thread-safe."""

    def __init__(self, clients: Sequence[BlockingClient]) -> None:
        self._clients = list(clients)
        self._failures = dict.fromkeys(self._clients, 0)
        self._lock = threading.Lock()

    def ask_all_again(self) -> None:
        """Also those that failed before."""
        self._failures = dict.fromkeys(self._clients, 0)

    def chunk(self, name: ChunkId) -> Chunk:
        """A chunk, verified.

        Raises:
            NotFoundError: nobody gives it; says what each one answered.
        """
        return self._first(
            lambda client: Chunk(name, _get(client, chunk_path(name), MAX_CHUNK_BYTES))
        )

    def manifest(
        self, revision: str, limit_bytes: int = MAX_MANIFEST_BYTES
    ) -> tuple[bytes, Manifest]:
        """A manifest, verified: its bytes, and what they say. Raises as :meth:`chunk`."""

        def ask(client: BlockingClient) -> tuple[bytes, Manifest]:
            data = _get(client, manifest_path(revision), limit_bytes)
            return data, decode(data, revision)

        return self._first(ask)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    def _first(self, ask: Callable[[BlockingClient], T]) -> T:
        reasons: list[str] = []
        with self._lock:
            order = list(self._clients)
        for client in order:
            if self._failures[client] >= _FAILURES_MOST:
                reasons.append(f"{client.netloc} was passed over")
                continue
            try:
                found = ask(client)
            except (NotFoundError, GoneError) as error:
                reasons.append(error.message)
            except HeadwaterError as error:
                self._failures[client] += 1
                reasons.append(error.message)
            else:
                self._failures[client] = 0
                with self._lock:
                    self._clients.sort(key=lambda one: one is not client)
                return found
        raise NotFoundError("; ".join(reasons))


@dataclass(slots=True)
class Repair:
    """Brings what a scrub found rotten or missing, or what a lost store had."""

    shelf: Shelf
    suppliers: Suppliers
    progress: Progress = lambda *_: None
    chunks: int = 0
    chunk_bytes: int = 0
    manifests: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Chunk or revision → why it could not be brought."""

    def run(self, report: dict[str, Any]) -> None:
        """Repair what the report of ``verify`` names."""
        missing, manifests = list(report["missing"]), list(report["bad_manifests"])
        total = len(missing) + len(manifests)
        for done, name in enumerate(missing, 1):
            self.suppliers.ask_all_again()
            try:
                self._put(self.suppliers.chunk(chunk_id(name)))
            except HeadwaterError as error:
                self.failed[name] = error.message
            self.progress("repair", done, total)
        for done, revision in enumerate(manifests, len(missing) + 1):
            self.revision(revision)
            self.progress("repair", done, total)

    def revision(
        self,
        revision: str,
        limit_bytes: int = MAX_MANIFEST_BYTES,
        *,
        without: frozenset[str] = frozenset(),
    ) -> bool:
        """Bring a whole revision; whether that was possible.

        Args:
            limit_bytes: of its manifest, as it was signed.
            without: chunks that must not be brought; a revision that needs one fails.

        Raises:
            StoreError: the store fails, as it would with every other revision.
        """
        self.suppliers.ask_all_again()
        try:
            data, manifest = self.suppliers.manifest(revision, limit_bytes)
            refs = manifest.chunk_refs()
            if refused := refs.keys() & without:
                raise GoneError(f"{len(refused)} of its chunks were taken down")
            lacking = self.shelf.lacking(refs)
            done, total = 0, sum(refs[chunk_id(name)].size for name in lacking)
            for chunk in self._fetched(lacking):
                self._put(chunk)
                done += len(chunk)
                self.progress(f"{manifest.model} {revision[:8]}", done, total)
            self.shelf.put_manifest(revision, data)
        except StoreError:
            raise
        except HeadwaterError as error:
            self.failed[revision] = error.message
            return False
        self.manifests += 1
        return True

    def _fetched(self, names: Sequence[str]) -> Iterator[Chunk]:
        """These chunks, a few at a time: what is far away is waited for together."""
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="repair") as pool:
            for first in range(0, len(names), _AT_ONCE):
                wanted = map(chunk_id, names[first : first + _AT_ONCE])
                yield from pool.map(self.suppliers.chunk, wanted)

    def _put(self, chunk: Chunk) -> None:
        self.shelf.put_chunk(chunk)
        self.chunks += 1
        self.chunk_bytes += len(chunk)


def open_suppliers(urls: Sequence[str], token: str | None = None) -> Suppliers:
    """Suppliers at these URLs.

    Args:
        token: a pull token that opens private models there.

    Raises:
        ConfigError: a URL that cannot be one.
    """
    return Suppliers([BlockingClient(url.rstrip("/"), token=token) for url in urls])


def _get(client: BlockingClient, path: str, limit_bytes: int) -> bytes:
    answer = client.get(path, limit_bytes=limit_bytes)
    if answer.status == 404:
        raise NotFoundError(f"{client.netloc} does not have {path}")
    if answer.status == 410:
        raise GoneError(f"{client.netloc}: {path} was taken down")
    if answer.status != 200:
        raise SourceUnavailableError(f"{client.netloc}: {path}: status {answer.status}")
    return bytes(answer.body)
