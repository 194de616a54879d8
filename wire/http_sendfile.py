"""Sends parts of files on a response without copying them through Python, on any event loop.

``loop.sendfile`` is missing in uvloop, and on the stock loop it blocks the loop on a cold disk. So
``os.sendfile`` runs on a duplicate of the socket in a worker thread, one part after the other, as
long as the client takes what is sent. A thread waits for a client a few milliseconds at most: a
fast reader is then served by one thread from beginning to end, and a slow one costs a file
descriptor, which the event loop watches, and no thread.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from wire.threads import in_thread

_POLL_S = 0.001
_PATIENCE_S = 0.02
"""Seconds in all that a thread waits for one client before it serves another."""
_COPY_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class FilePart:
    """``count`` bytes of a file, from ``offset``."""

    path: Path
    offset: int
    count: int


async def send_parts(
    request: web.Request,
    response: web.StreamResponse,
    parts: Sequence[FilePart],
    executor: Executor,
) -> int:
    """Write the parts, one after the other, as (a piece of) the response's body.

    The response must be prepared, with a Content-Length and no compression.

    Returns:
        How many parts were sent; fewer than given where the next one's file is not there any more:
        nothing of that one was sent.

    Raises:
        ConnectionError: the client went away, or a file ended early.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client is gone")
    if transport.get_extra_info("sslcontext") is not None:
        return await _send_copied(response, parts, executor)
    loop = asyncio.get_running_loop()
    await response.write(b"")
    await _drained(transport)
    sending = _Sending(os.dup(transport.get_extra_info("socket").fileno()), parts)
    try:
        while await in_thread(executor, sending.go_on):
            await _writable(loop, sending.out)
    finally:
        sending.close()
    return sending.sent


class _Sending:
    """Where a run of parts stands. Used by one thread at a time."""

    def __init__(self, out: int, parts: Sequence[FilePart]) -> None:
        self.out = out
        self.sent = 0
        """Parts sent whole."""
        self._parts = parts
        self._file = -1
        self._done = 0
        self._poll = select.poll()
        self._poll.register(out, select.POLLOUT)

    def go_on(self) -> bool:
        """Send until nothing is left or the client takes no more; whether there is more to send."""
        patience_s = _PATIENCE_S
        while self.sent < len(self._parts):
            part = self._parts[self.sent]
            if self._file < 0:
                try:
                    self._file = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
                except FileNotFoundError:
                    return False
            try:
                self._send_some(part)
            except BlockingIOError:
                started = time.monotonic()
                if patience_s <= 0 or not self._poll.poll(patience_s * 1000):
                    return True
                patience_s -= time.monotonic() - started
        return False

    def close(self) -> None:
        self._close_file()
        os.close(self.out)

    def _send_some(self, part: FilePart) -> None:
        left = part.count - self._done
        count = os.sendfile(self.out, self._file, part.offset + self._done, left) if left else 0
        if left and not count:
            raise ConnectionAbortedError("file is shorter than announced")
        self._done += count
        if self._done == part.count:
            self._close_file()
            self._done = 0
            self.sent += 1

    def _close_file(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def _drained(transport: asyncio.WriteTransport) -> None:
    """Headers must leave before the file does: both write to the same socket."""
    while transport.get_write_buffer_size() > 0:
        if transport.is_closing():
            raise ConnectionResetError("client is gone")
        await asyncio.sleep(_POLL_S)


async def _writable(loop: asyncio.AbstractEventLoop, fd: int) -> None:
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(fd, _resolve, ready)
    try:
        await ready
    finally:
        loop.remove_writer(fd)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _send_copied(
    response: web.StreamResponse, parts: Sequence[FilePart], executor: Executor
) -> int:
    """The same through memory, where TLS must see the bytes."""
    loop = asyncio.get_running_loop()
    for sent, part in enumerate(parts):
        try:
            file = await loop.run_in_executor(executor, os.open, part.path, os.O_RDONLY)
        except FileNotFoundError:
            return sent
        try:
            offset, end = part.offset, part.offset + part.count
            while offset < end:
                size = min(end - offset, _COPY_BYTES)
                data = await loop.run_in_executor(executor, os.pread, file, size, offset)
                if not data:
                    raise ConnectionAbortedError("file is shorter than announced")
                await response.write(data)
                offset += len(data)
        finally:
            os.close(file)
    return len(parts)
