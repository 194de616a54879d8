"""A tier for tests of its clients: answers what it was given, over real HTTP, and remembers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Canned:
    """An answer. A body that is no bytes becomes JSON."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True, slots=True)
class Received:
    """A request that came in. Header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class StubTier:
    """A running stub. ``answers`` may be changed while it runs; what is not there is a 404."""

    answers: dict[str, Canned]
    received: list[Received] = field(default_factory=list)
    url: str = ""


@contextmanager
def stub_tier(answers: dict[str, Canned]) -> Iterator[StubTier]:
    """Serve ``{"GET /path": Canned(...)}`` on a free port of this machine."""
    stub = StubTier(answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path = self.path.partition("?")[0]
            names = {name.lower(): value for name, value in self.headers.items()}
            stub.received.append(Received(self.command, path, names, body))
            missing = Canned({"status": 404, "code": "not_found", "detail": "no such path"}, 404)
            canned = stub.answers.get(f"{self.command} {path}", missing)
            self.send_response(canned.status)
            for name, value in canned.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(canned.content)))
            self.end_headers()
            self.wfile.write(canned.content)

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="stub-tier")
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
