"""A proxy before a tier that is slow, narrow and faulty as told, and counts what it gives.

It runs on threads of its own, and whatever it waits for is the fault itself.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from wire.paths import EVENTS

Kind = Literal["reset", "truncate", "flip", "stall", "ignore-range", "wrong-range", "refuse"]
"""``reset``, ``truncate``, ``stall``: half of the body, and then a broken connection, a clean end,
or nothing more. ``ignore-range``: 200 and everything, whatever part was asked for. ``wrong-range``:
206 and another part than was asked for. ``refuse``: 503.
"""

_PASSED_ON = ("Cache-Control", "If-None-Match", "Range", "If-Range", "Authorization")
_GIVEN_BACK = ("Content-Type", "ETag", "Cache-Status", "Content-Range")
_SEGMENT = 64 * 1024
_Answer: TypeAlias = tuple[int, dict[str, str], bytes]


@dataclass(slots=True)
class Fault:
    """What goes wrong with some requests.

    Args:
        under: only paths that begin so.
        every: of those every n-th.
        first: of those only the first so many; None: all.
    """

    kind: Kind
    under: str = "/"
    every: int = 1
    first: int | None = None
    seen: int = 0
    done: int = 0

    def strikes(self, path: str) -> bool:
        """Whether this request is hit; counts it."""
        if not path.startswith(self.under):
            return False
        self.seen += 1
        if self.seen % self.every or (self.first is not None and self.done >= self.first):
            return False
        self.done += 1
        return True


@dataclass(slots=True)
class FaultProxy:
    """A running proxy. ``latency_s``, ``bytes_per_s`` and ``faults`` may be changed meanwhile.

    Events are not passed on (503), so whoever listens has to look for himself.
    """

    url: str = ""
    latency_s: float = 0.0
    """Before the first byte of each answer."""
    bytes_per_s: float | None = None
    """Of all answers together; None: as fast as it goes."""
    faults: tuple[Fault, ...] = ()
    """The first of them that fits a request hits it."""
    asked: list[str] = field(default_factory=list)
    """Paths, as they were asked for."""
    given_bytes: int = 0
    """Bytes of bodies that were sent."""
    struck: Counter[Kind] = field(default_factory=Counter)
    """Faults that happened."""
    _closing: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free_at: float = 0.0

    @property
    def name(self) -> str:
        """As a source of this URL is named."""
        return urlsplit(self.url).netloc

    def count(self, under: str) -> int:
        """Requests for paths that begin so."""
        return sum(path.startswith(under) for path in list(self.asked))

    def arrive(self, path: str) -> Kind | None:
        """Note a request; what goes wrong with it."""
        with self._lock:
            self.asked.append(path)
            struck = next((fault.kind for fault in self.faults if fault.strikes(path)), None)
            if struck is not None:
                self.struck[struck] += 1
            return struck

    def wait(self, seconds: float) -> bool:
        """Let time pass, but not once the proxy closes. Whether it does."""
        return self._closing.wait(seconds)

    def throttle(self, size: int) -> None:
        """Let the time pass that these bytes take on a link this narrow."""
        with self._lock:
            if self.bytes_per_s is None:
                return
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + size / self.bytes_per_s
            wait_s = self._free_at - now
        self._closing.wait(wait_s)

    def given(self, size: int) -> None:
        """Note bytes that are being sent."""
        with self._lock:
            self.given_bytes += size

    def close(self) -> None:
        """Let go of everybody who waits."""
        self._closing.set()


@contextmanager
def fault_proxy(
    target: str, *, latency_s: float = 0.0, bytes_per_s: float | None = None
) -> Iterator[FaultProxy]:
    """A proxy before ``http://host:port`` on a free port of this machine."""
    proxy = FaultProxy(latency_s=latency_s, bytes_per_s=bytes_per_s)
    upstream = urlsplit(target).netloc

    class Handler(_Handler):
        pass

    Handler.proxy, Handler.upstream = proxy, upstream
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="fault-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.close()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    proxy: FaultProxy
    upstream: str

    def do_GET(self) -> None:
        fault = self.proxy.arrive(self.path)
        with suppress(ConnectionError):
            self._answer(fault)
            return
        self.close_connection = True

    def _answer(self, fault: Kind | None) -> None:
        answer: _Answer = (503, {}, b"")
        if not self.path.startswith(EVENTS) and fault != "refuse":
            answer = self._asked_upstream(ranged=fault != "ignore-range")
        status, headers, body = answer
        if fault == "wrong-range":
            status, headers, body = _another_part(headers, body)
        self.proxy.wait(self.proxy.latency_s)
        if self._is_gone():
            raise ConnectionAbortedError
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._send(body, fault)

    def _send(self, body: bytes, fault: Kind | None) -> None:
        if fault == "flip":
            body = flipped(body, len(body) // 3)
        whole = fault not in {"reset", "truncate", "stall"}
        end = len(body) if whole else len(body) // 2
        for start in range(0, end, _SEGMENT):
            segment = body[start : min(start + _SEGMENT, end)]
            self.proxy.throttle(len(segment))
            self.proxy.given(len(segment))
            self.wfile.write(segment)
        if whole:
            return
        self.wfile.flush()
        if fault == "stall":
            self._wait_for_the_end()
        elif fault == "reset":
            linger = struct.pack("ii", 1, 0)  # of 0 s: closing sends RST (socket(7))
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            os.close(self.connection.detach())
        self.close_connection = True

    def _wait_for_the_end(self) -> None:
        """Until the client gives up, or the proxy closes."""
        while not self._is_gone() and not self.proxy.wait(0.01):
            pass

    def _is_gone(self) -> bool:
        """Whether the client has closed: it sends nothing while it waits for an answer."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def _asked_upstream(self, *, ranged: bool) -> _Answer:
        link = http.client.HTTPConnection(self.upstream, timeout=30)
        try:
            passed = [name for name in _PASSED_ON if ranged or "Range" not in name]
            sent = {name: v for name in passed if (v := self.headers.get(name)) is not None}
            link.request("GET", self.path, headers=sent)
            answer = link.getresponse()
            body = answer.read()
        finally:
            link.close()
        found = {n: v for n in _GIVEN_BACK if (v := answer.headers.get(n)) is not None}
        return answer.status, found, body

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Quiet."""


def _another_part(headers: dict[str, str], body: bytes) -> _Answer:
    """206 and the right length where there was a range, of other bytes; else the second half."""
    if "Content-Range" in headers:
        part, size = body[1:] + body[:1], headers["Content-Range"].rpartition("/")[2]
        start = 1
    else:
        start, size = len(body) // 2, str(len(body))
        part = body[start:]
    return 206, {**headers, "Content-Range": f"bytes {start}-{start + len(part) - 1}/{size}"}, part


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with one bit of byte ``at`` changed."""
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
