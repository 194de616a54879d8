"""The link does what it says: figures over it mean nothing otherwise."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
    client = http.client.HTTPConnection(link, timeout=10)
    ask(client)
    assert DELAY_S <= ask(client) < 5 * DELAY_S
    client.close()


def test_requests_at_once_wait_together(link: str) -> None:
    clients = [http.client.HTTPConnection(link, timeout=10) for _ in range(4)]
    for client in clients:
        ask(client)
    started = time.monotonic()
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(ask, clients))
    assert time.monotonic() - started < len(clients) * DELAY_S
    for client in clients:
        client.close()


def test_where_nobody_listens_the_connection_ends() -> None:
    with delay_proxy("127.0.0.1:9", 0.0) as netloc:
        client = http.client.HTTPConnection(netloc, timeout=10)
        with pytest.raises(OSError):
            ask(client)
