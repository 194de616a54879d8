"""The link does what it says: figures over it mean nothing otherwise."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.fakes.delay_proxy import delay_proxy
from tests.fakes.tier import Canned, stub_tier

BODY = bytes(range(256)) * 20_000
DELAY_S = 0.05


@pytest.fixture
def link() -> Iterator[str]:
    with (
        stub_tier({"GET /body": Canned(BODY)}) as tier,
        delay_proxy(urlsplit(tier.url).netloc, DELAY_S) as netloc,
    ):
        yield netloc


def ask(client: http.client.HTTPConnection) -> float:
    """Seconds to the whole body."""
    started = time.monotonic()
    client.request("GET", "/body")
    assert client.getresponse().read() == BODY
    return time.monotonic() - started


def test_each_request_takes_a_round_trip(link: str) -> None:
    client = http.client.HTTPConnection(link, timeout=30)
    ask(client)
    took = [ask(client) for _ in range(3)]
    assert min(took) >= DELAY_S
    # What the server sends does not wait: the parts of this body would for seconds.
    assert min(took) < 30 * DELAY_S
    client.close()


def test_requests_at_once_wait_together() -> None:
    """No answer begins before all requests have come."""
    met = threading.Barrier(4)

    class Meeting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            met.wait(30)
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Meeting) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            with delay_proxy(f"127.0.0.1:{server.server_port}", DELAY_S) as netloc:
                clients = [http.client.HTTPConnection(netloc, timeout=40) for _ in range(4)]
                with ThreadPoolExecutor(len(clients)) as pool:
                    assert min(pool.map(ask, clients)) >= DELAY_S
                for client in clients:
                    client.close()
        finally:
            server.shutdown()


def test_where_nobody_listens_the_connection_ends() -> None:
    with delay_proxy("127.0.0.1:9", 0.0) as netloc:
        client = http.client.HTTPConnection(netloc, timeout=30)
        with pytest.raises(OSError):
            ask(client)
