from __future__ import annotations

import pytest

from edge_tier.cache.bundles import Bundles
from tests.fakes.source import MemorySource
from wire.errors import NotFoundError, SourceUnavailableError, TrustError, TrustStateError


def only_signed(bundle: bytes) -> None:
    if bundle == b"full disk":
        raise TrustStateError("no room")
    if bundle != b"signed":
        raise TrustError("not signed")


def source(bundle: bytes | None) -> MemorySource:
    made = MemorySource()
    made.bundle = bundle
    return made


def bundles(upstream: MemorySource, *members: MemorySource, held: bool = False) -> Bundles:
    return Bundles(upstream, members, only_signed, lambda: held)


async def test_what_verifies_is_taken_and_nobody_else_asked() -> None:
    other = source(b"signed")
    assert await bundles(source(b"signed"), other).newest() == b"signed"
    assert other.call_count == 0


async def test_a_hostile_upstream_does_not_keep_an_honest_one_s_news_away() -> None:
    down = source(None)
    down.down = SourceUnavailableError("away")
    found = bundles(source(b"forged"), source(b"forged"), down, source(None), source(b"signed"))
    assert await found.newest() == b"signed"


async def test_where_nobody_s_verifies_the_upstream_s_fault_is_told() -> None:
    with pytest.raises(TrustError, match="not signed"):
        await bundles(source(b"forged"), source(b"forged")).newest()


async def test_a_full_disk_is_not_blamed_on_the_upstream() -> None:
    other = source(b"signed")
    with pytest.raises(TrustStateError):
        await bundles(source(b"full disk"), other).newest()
    assert other.call_count == 0


async def test_trust_that_was_held_is_not_lost_with_the_upstream_s() -> None:
    with pytest.raises(NotFoundError):
        await bundles(source(None)).newest()
    with pytest.raises(SourceUnavailableError):
        await bundles(source(None), held=True).newest()
