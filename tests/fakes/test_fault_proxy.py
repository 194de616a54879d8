"""The proxy does what it says: tests that rely on its faults prove nothing otherwise."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.fakes.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.fakes.tier import Canned, stub_tier

BODY = bytes(range(256)) * 1024
HALF = len(BODY) // 2


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    answers = {"GET /body": Canned(BODY), "GET /other": Canned(b"x")}
    with stub_tier(answers) as tier, fault_proxy(tier.url) as proxy:
        yield proxy


def get(proxy: FaultProxy, path: str = "/body", timeout_s: float = 30.0) -> tuple[int, bytes]:
    link = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=timeout_s)
    try:
        link.request("GET", path)
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def test_what_is_not_hit_passes_and_is_counted(proxy: FaultProxy) -> None:
    assert get(proxy) == (200, BODY)
    assert (proxy.asked, proxy.given_bytes, proxy.struck) == (["/body"], len(BODY), {})


def test_latency_and_bandwidth_take_their_time(proxy: FaultProxy) -> None:
    proxy.latency_s, proxy.bytes_per_s = 0.1, 2.0 * len(BODY)
    began = time.monotonic()
    get(proxy)
    assert time.monotonic() - began >= 0.6


@pytest.mark.parametrize(
    ("fault", "raised"),
    [
        (Fault("reset"), ConnectionResetError),
        (Fault("truncate"), http.client.IncompleteRead),
    ],
    ids=["reset", "truncate"],
)
def test_half_of_it_and_an_end(proxy: FaultProxy, fault: Fault, raised: type[Exception]) -> None:
    proxy.faults = (fault,)
    with pytest.raises(raised):
        get(proxy)
    assert proxy.given_bytes == HALF


def test_half_of_it_and_silence(proxy: FaultProxy) -> None:
    proxy.faults = (Fault("stall"),)
    with pytest.raises(TimeoutError):
        get(proxy, timeout_s=0.2)


def test_one_bit(proxy: FaultProxy) -> None:
    proxy.faults = (Fault("flip"),)
    status, body = get(proxy)
    changed = [(a ^ b).bit_count() for a, b in zip(body, BODY, strict=True) if a != b]
    assert (status, changed) == (200, [1])


def test_other_statuses(proxy: FaultProxy) -> None:
    proxy.faults = (Fault("wrong-range"),)
    assert get(proxy) == (206, BODY[HALF:])
    proxy.faults = (Fault("refuse"),)
    assert get(proxy) == (503, b"")


def test_faults_choose_by_path_number_and_count(proxy: FaultProxy) -> None:
    proxy.faults = (Fault("refuse", under="/body", every=2, first=2), Fault("refuse", under="/no"))
    assert get(proxy, "/other")[0] == 200
    assert [get(proxy)[0] for _ in range(6)] == [200, 503, 200, 503, 200, 200]
    assert proxy.struck == {"refuse": 2}
    assert proxy.count("/body") == 6
