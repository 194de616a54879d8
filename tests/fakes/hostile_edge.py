"""An edge in an attacker's hands: answers for the trust bundle are what the attacker makes them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from wire.http_client import BlockingClient
from wire.paths import TRUST_BUNDLE
from wire.trust_bundle import TrustBundle, encode_bundle

_ENDLESS_PART = b" " * (1 << 20)
_MAX_PASSED = 1 << 28


@dataclass(slots=True)
class HostileEdge:
    """A running server. Its fields may be changed while it runs."""

    url: str = ""
    answer: Callable[[int], bytes] = lambda _: b""
    """Root version that is asked with → body of the trust bundle."""
    endless: bool = False
    """The bundle never ends: no Content-Length, bytes until the client hangs up."""
    passed_to: str = ""
    """URL of an honest tier for everything else; 404 where there is none."""
    damage: Callable[[bytes], bytes] = lambda body: body
    """What is done to bodies that are passed on."""
    sent_bytes: int = 0
    asked: list[str] = field(default_factory=list)

    def serve(self, bundle: TrustBundle) -> None:
        """Answer with this bundle from now on."""
        body = encode_bundle(bundle)
        self.answer = lambda _: body


@contextmanager
def hostile_edge() -> Iterator[HostileEdge]:
    """A hostile edge on a free port of this machine."""
    edge = HostileEdge()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            with suppress(ConnectionError):
                self._answer()
                return
            self.close_connection = True

        def _answer(self) -> None:
            edge.asked.append(self.path)
            target = urlsplit(self.path)
            if target.path != TRUST_BUNDLE:
                self._send(*_from_upstream(edge, self.path))
            elif edge.endless:
                self._send_for_ever()
            else:
                version = int(parse_qs(target.query).get("root", ["0"])[0])
                self._send(200, edge.answer(version))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _send_for_ever(self) -> None:
            self.send_response(200)
            self.send_header("Connection", "close")
            self.end_headers()
            while True:
                self.wfile.write(_ENDLESS_PART)
                edge.sent_bytes += len(_ENDLESS_PART)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    edge.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), name="hostile-edge")
    thread.start()
    try:
        yield edge
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _from_upstream(edge: HostileEdge, path: str) -> tuple[int, bytes]:
    if not edge.passed_to or path.startswith("/events"):
        return 404, b"{}"
    client = BlockingClient(edge.passed_to)
    try:
        answer = client.get(path, limit_bytes=_MAX_PASSED)
        return answer.status, edge.damage(bytes(answer.body))
    finally:
        client.close()
