"""Sends chunks, and files put together from chunks, as answers with ranges (RFC 9110 section 14).

Shared by every route that gives bytes: our own paths, and the facades that speak to stock clients.
Bytes go from the cache's files to the socket without passing through Python (``http_sendfile``).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from aiohttp import web

from wire.chunk import Chunk, ChunkId
from wire.http_range import applies, parse_range
from wire.http_sendfile import FilePart, send_parts
from wire.manifest import FileEntry
from wire.source import ChunkServer, Delivery, StoredChunk

OCTETS = "application/octet-stream"
_RUN_BYTES = 64 * 1024 * 1024
_RUN_CHUNKS = 256
"""Bounds of what is handed to a thread at once."""
_READ_AHEAD = 4
"""Chunks that a cache is told of in advance."""


class Counter(Protocol):
    """Where served bytes are counted."""

    def served(self, kind: str, size: int, cache_status: str) -> None:
        """``kind`` is ``chunk`` or ``file``; ``size`` in bytes."""
        ...


def add_cache_status(
    headers: MutableMapping[str, str], cache_name: str | None, status: str
) -> None:
    """``Cache-Status`` (RFC 9211), where the server is a cache and has something to say."""
    if cache_name is not None and status:
        headers["Cache-Status"] = f"{cache_name}; {status}"


@dataclass(frozen=True, slots=True)
class FileSender:
    """Answers with the bytes that a server of chunks gives.

    Args:
        server: what gives the bytes.
        executor: threads for file I/O.
        cache_name: the name in ``Cache-Status``; None where the server is no cache.
        counter: told of every chunk and file served.
    """

    server: ChunkServer
    executor: Executor
    cache_name: str | None = None
    counter: Counter | None = None

    async def send_chunk(
        self,
        request: web.Request,
        chunk: ChunkId,
        headers: MutableMapping[str, str],
        *,
        revalidate: bool,
    ) -> web.StreamResponse:
        """The answer with one chunk, or the range of it that was asked for.

        Args:
            headers: of the answer; ``ETag`` must be among them.

        Raises:
            RangeNotSatisfiableError: the range starts past the end.
            HeadwaterError: as ``ChunkServer.deliver``, before anything was sent.
        """
        delivery = await self.server.deliver(chunk, revalidate=revalidate)
        add_cache_status(headers, self.cache_name, delivery.cache_status)
        size = len(delivery.body) if isinstance(delivery.body, Chunk) else delivery.body.size
        response, start, end = ranged(request, headers, size)
        await response.prepare(request)
        if request.method != "HEAD":
            await self._send(request, response, delivery, start, end)
            self._count("chunk", end - start, delivery.cache_status)
        await response.write_eof()
        return response

    async def send_file(
        self, request: web.Request, entry: FileEntry, headers: Mapping[str, str]
    ) -> web.StreamResponse:
        """The answer with a file of a revision, or the range of it that was asked for.

        Headers leave with the first chunk at hand, so a bad start is an error answer and not a
        broken body. Arguments and errors as :meth:`send_chunk`.
        """
        response, start, end = ranged(request, headers, entry.size)
        if request.method == "HEAD" or start == end:
            await response.prepare(request)
        else:
            await self._send_span(request, response, _Span(entry, start, end))
        await response.write_eof()
        return response

    def send_held(
        self, request: web.Request, data: bytes, headers: MutableMapping[str, str]
    ) -> web.Response:
        """The answer with a whole file that is in memory; ``headers`` as for :meth:`send_chunk`."""
        add_cache_status(headers, self.cache_name, "hit")
        if request.method != "HEAD":
            self._count("file", len(data), "hit")
        return web.Response(body=data, headers=headers)

    async def _send_span(
        self, request: web.Request, response: web.StreamResponse, span: _Span
    ) -> None:
        """What lies on this disk goes out in long runs, without coming back here in between; what
        does not is fetched, and what follows it is announced to the cache meanwhile."""
        index, sent_bytes, first_status = span.first, 0, ""
        try:
            while index <= span.last:
                run = self._at_hand(span, index)
                self.server.expect(span.following(index + len(run)))
                if run and not response.prepared:
                    first_status = "hit"
                    await self._prepare(request, response, first_status)
                done = await send_parts(request, response, run, self.executor) if run else 0
                sent_bytes += sum(part.count for part in run[:done])
                index += done
                if done < len(run) or not run:
                    delivery = await self.server.deliver(span.chunk(index))
                    if not response.prepared:
                        first_status = delivery.cache_status
                        await self._prepare(request, response, first_status)
                    low, high = span.inside(index)
                    await self._send(request, response, delivery, low, high)
                    sent_bytes += high - low
                    index += 1
        finally:
            self._count("file", sent_bytes, first_status)

    async def _prepare(
        self, request: web.Request, response: web.StreamResponse, status: str
    ) -> None:
        add_cache_status(response.headers, self.cache_name, status)
        await response.prepare(request)

    def _at_hand(self, span: _Span, index: int) -> list[FilePart]:
        """The files of the next chunks, up to the first that is not at hand."""
        run: list[FilePart] = []
        size = 0
        while index <= span.last and size < _RUN_BYTES and len(run) < _RUN_CHUNKS:
            stored = self.server.at_hand(span.chunk(index))
            if stored is None:
                break
            low, high = span.inside(index)
            run.append(FilePart(stored.path, low, high - low))
            size += high - low
            index += 1
        return run

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        delivery: Delivery,
        start: int,
        end: int,
    ) -> None:
        if start == end:
            return
        body = delivery.body
        if isinstance(body, StoredChunk):
            part = FilePart(body.path, start, end - start)
            if await send_parts(request, response, [part], self.executor):
                return
            # Evicted since it was delivered, and nothing of it was sent: take the long way.
            body = await self.server.chunk(body.id)
        await response.write(memoryview(body.data)[start:end])

    def _count(self, kind: str, size: int, cache_status: str) -> None:
        if self.counter is not None:
            self.counter.served(kind, size, cache_status)


class _Span:
    """Bytes ``start`` to ``end`` (exclusive, not empty) of a file, as chunks of it."""

    def __init__(self, entry: FileEntry, start: int, end: int) -> None:
        self._refs = entry.chunks
        self._ends = chunk_ends(entry)
        self._start, self._end = start, end
        self.first = bisect_right(self._ends, start)
        self.last = bisect_left(self._ends, end)

    def chunk(self, index: int) -> ChunkId:
        return self._refs[index].id

    def inside(self, index: int) -> tuple[int, int]:
        """The bytes of this chunk that belong to the span."""
        size = self._refs[index].size
        offset = self._ends[index] - size
        return max(self._start - offset, 0), min(self._end - offset, size)

    def following(self, index: int) -> list[ChunkId]:
        """The chunks from here on that will be needed soon."""
        return [ref.id for ref in self._refs[index : min(index + _READ_AHEAD, self.last + 1)]]


@lru_cache(maxsize=32)
def chunk_ends(entry: FileEntry) -> array[int]:
    """Where each chunk of the file ends, in bytes; for a search by offset. Kept for the files asked
    for last, since a client that asks for many ranges would otherwise pay for it at each."""
    return array("Q", accumulate(ref.size for ref in entry.chunks))


def ranged(
    request: web.Request, headers: Mapping[str, str], size: int
) -> tuple[web.StreamResponse, int, int]:
    """A 200 or 206 with its length set, and the bytes to send: start, and end (exclusive).

    Args:
        headers: of the answer; ``If-Range`` is compared with its ``ETag``. Without a
            ``Content-Type`` they are bytes of no known kind.

    Raises:
        RangeNotSatisfiableError: the range starts past the end.
    """
    span = None
    if applies(request.headers.get("If-Range"), headers["ETag"]):
        span = parse_range(request.headers.get("Range"), size)
    if span is None:
        response = web.StreamResponse(status=200, headers=headers)
        start, end = 0, size
    else:
        start, end = span
        response = web.StreamResponse(status=206, headers=headers)
        response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    response.content_length = end - start
    if "Content-Type" not in response.headers:
        response.content_type = OCTETS
    return response, start, end
