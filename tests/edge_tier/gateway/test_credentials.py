from __future__ import annotations

from edge_tier.gateway.credentials import CallerCache
from edge_tier.gateway.request import Caller

CALLER = Caller(key_id="k", tenant="t", scopes=frozenset({"chat"}))


def test_only_the_whole_header_finds_a_caller() -> None:
    cache = CallerCache(10)
    cache.put("Bearer abc", CALLER, 5.0)
    assert cache.get("Bearer abc", 4.9) is CALLER
    for other in ("Bearer ab", "Bearer abcd", "bearer abc", "Bearer abc "):
        assert cache.get(other, 0.0) is None


def test_an_entry_ends_with_its_credential() -> None:
    cache = CallerCache(10)
    cache.put("a", CALLER, 5.0)
    assert cache.get("a", 5.0) is None


def test_a_cache_stays_small_and_keeps_what_is_used() -> None:
    cache = CallerCache(100)
    cache.put("used", CALLER, 5.0)
    for number in range(1000):
        cache.put(f"once {number}", CALLER, 5.0)
        assert len(cache) <= 100
        assert cache.get("used", 0.0) is CALLER
    assert cache.get("once 0", 0.0) is None
