"""Stands between a tier and its source: counts, holds back and damages chunks on their way."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from wire.paths import CHUNKS, EVENTS

_PASSED_ON = ("Cache-Control", "If-None-Match")
_GIVEN_BACK = ("Content-Type", "ETag", "Cache-Status")
_Answer: TypeAlias = tuple[int, dict[str, str], bytes]


@dataclass(slots=True)
class ArtifactProxy:
    """A running proxy. Its fields may be changed while it runs.

    Events are not passed on (503), so whoever listens has to look for himself.
    """

    url: str = ""
    asked: list[str] = field(default_factory=list)
    """Ids of chunks, as they were asked for."""
    given: list[str] = field(default_factory=list)
    """Ids of chunks that were sent whole."""
    free: int = 1 << 30
    """So many more chunks pass at once; of the others only the first half, until ``gate``."""
    gate: threading.Event = field(default_factory=threading.Event)
    flip: set[str] = field(default_factory=set)
    """Ids of chunks in which one bit changes on the way."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def may_pass(self) -> bool:
        """Whether the next chunk passes at once."""
        with self._lock:
            self.free -= 1
            return self.free >= 0


@contextmanager
def artifact_proxy(target: str) -> Iterator[ArtifactProxy]:
    """A proxy before ``http://host:port`` on a free port of this machine."""
    proxy = ArtifactProxy()
    netloc = urlsplit(target).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):
                self._answer()
                return
            self.close_connection = True

        def _answer(self) -> None:
            answer: _Answer = (503, {}, b"")
            if not self.path.startswith(EVENTS):
                answer = self._asked_upstream()
            status, headers, body = answer
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status == 200 and self.path.startswith(CHUNKS):
                self._send_chunk(self.path.rpartition("/")[2], body)
            else:
                self.wfile.write(body)

        def _send_chunk(self, chunk: str, body: bytes) -> None:
            proxy.asked.append(chunk)
            if chunk in proxy.flip:
                body = flipped(body, len(body) // 3)
            if not proxy.may_pass():
                half = len(body) // 2
                self.wfile.write(body[:half])
                proxy.gate.wait()
                body = body[half:]
            self.wfile.write(body)
            proxy.given.append(chunk)

        def _asked_upstream(self) -> _Answer:
            link = http.client.HTTPConnection(netloc, timeout=30)
            try:
                sent = {n: v for n in _PASSED_ON if (v := self.headers.get(n)) is not None}
                link.request("GET", self.path, headers=sent)
                answer = link.getresponse()
                body = answer.read()
            finally:
                link.close()
            found = {n: v for n in _GIVEN_BACK if (v := answer.headers.get(n)) is not None}
            return answer.status, found, body

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    proxy.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="artifact-proxy")
    thread.start()
    try:
        yield proxy
    finally:
        proxy.gate.set()
        server.shutdown()
        thread.join()
        server.server_close()


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with one bit of byte ``at`` changed."""
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
