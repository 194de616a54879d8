"""Sends a file's bytes on a response without copying them through Python, on any event loop.

``loop.sendfile`` is missing in uvloop, and on the stock loop it blocks the loop on a cold disk. So
``os.sendfile`` runs on a duplicate of the socket in a worker thread until the socket would block;
the loop then waits for it to drain. A slow reader costs a file descriptor, not a thread.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Executor
from pathlib import Path

from aiohttp import web

_POLL_S = 0.001


async def send_file(
    request: web.Request,
    response: web.StreamResponse,
    path: Path,
    offset: int,
    count: int,
    executor: Executor,
) -> None:
    """Write ``count`` bytes of ``path`` from ``offset`` as (a part of) the response's body.

    The response must be prepared, with a Content-Length and no compression.

    Raises:
        ConnectionError: the client went away, or the file ended early.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client is gone")
    if transport.get_extra_info("sslcontext") is not None:
        await _send_copied(response, path, offset, count, executor)
        return
    loop = asyncio.get_running_loop()
    await response.write(b"")
    await _drained(transport)
    sock = transport.get_extra_info("socket")
    out = os.dup(sock.fileno())
    try:
        file = await loop.run_in_executor(executor, os.open, path, os.O_RDONLY)
        try:
            while count > 0:
                sent = await loop.run_in_executor(executor, _send_some, out, file, offset, count)
                offset, count = offset + sent, count - sent
                if count > 0:
                    await _writable(loop, out)
        finally:
            os.close(file)
    finally:
        os.close(out)


def _send_some(out: int, file: int, offset: int, count: int) -> int:
    """Send until done or until the socket would block; the bytes sent."""
    total = 0
    while total < count:
        try:
            sent = os.sendfile(out, file, offset + total, count - total)
        except BlockingIOError:
            break
        if sent == 0:
            raise ConnectionAbortedError("file is shorter than announced")
        total += sent
    return total


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
    response: web.StreamResponse, path: Path, offset: int, count: int, executor: Executor
) -> None:
    """The same through memory, where TLS must see the bytes; 256 KiB at a time."""
    loop = asyncio.get_running_loop()
    file = await loop.run_in_executor(executor, os.open, path, os.O_RDONLY)
    try:
        while count > 0:
            data = await loop.run_in_executor(executor, os.pread, file, min(count, 1 << 18), offset)
            if not data:
                raise ConnectionAbortedError("file is shorter than announced")
            await response.write(data)
            offset, count = offset + len(data), count - len(data)
    finally:
        os.close(file)
