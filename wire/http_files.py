"""Sends chunks, and files put together from chunks, as answers with ranges (RFC 9110 section 14).

Shared by every route that gives bytes: our own paths, and the facades that speak to stock clients.
Bytes go from the cache's files to the socket without passing through Python (``http_sendfile``).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from wire.chunk import Chunk, ChunkId
from wire.http_range import applies, parse_range
from wire.http_sendfile import send_file
from wire.manifest import FileEntry
from wire.source import ChunkServer, Delivery, StoredChunk

OCTETS = "application/octet-stream"


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

        Chunk by chunk; headers leave with the first chunk at hand, so a bad start is an error
        answer and not a broken body. Arguments and errors as :meth:`send_chunk`.
        """
        response, start, end = ranged(request, headers, entry.size)
        if request.method == "HEAD":
            await response.prepare(request)
            await response.write_eof()
            return response
        for offset, ref in entry.placed():
            if offset + ref.size <= start or offset >= end:
                continue
            delivery = await self.server.deliver(ref.id)
            if not response.prepared:
                add_cache_status(response.headers, self.cache_name, delivery.cache_status)
                await response.prepare(request)
            low, high = max(start - offset, 0), min(end - offset, ref.size)
            await self._send(request, response, delivery, low, high)
            self._count("file", high - low, delivery.cache_status)
        if not response.prepared:
            await response.prepare(request)
        await response.write_eof()
        return response

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
            try:
                await send_file(request, response, body.path, start, end - start, self.executor)
            except FileNotFoundError:
                # Evicted since it was delivered, and nothing of it was sent: take the long way.
                body = await self.server.chunk(body.id)
        if isinstance(body, Chunk):
            await response.write(memoryview(body.data)[start:end])

    def _count(self, kind: str, size: int, cache_status: str) -> None:
        if self.counter is not None:
            self.counter.served(kind, size, cache_status)


def ranged(
    request: web.Request, headers: Mapping[str, str], size: int
) -> tuple[web.StreamResponse, int, int]:
    """A 200 or 206 with its length set, and the bytes to send: start, and end (exclusive).

    Args:
        headers: of the answer; ``If-Range`` is compared with its ``ETag``.

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
    response.content_type = OCTETS
    return response, start, end
