from __future__ import annotations

import asyncio

import pytest

from tests.fakes.source import MemorySource
from wire.errors import SourceUnavailableError
from wire.sources.coalescing import Coalescing


async def test_200_concurrent_misses_of_a_chunk_are_one_fetch() -> None:
    inner = MemorySource()
    chunk = inner.add_chunk(b"weights")
    inner.gate = asyncio.Event()
    source = Coalescing(inner)
    tasks = [asyncio.create_task(source.chunk(chunk)) for _ in range(200)]
    await inner.until_called(1)
    inner.gate.set()
    chunks = await asyncio.gather(*tasks)
    assert {bytes(one.data) for one in chunks} == {b"weights"}
    assert inner.call_count == 1


async def test_manifests_coalesce_too() -> None:
    inner = MemorySource()
    revision = inner.add_manifest(b"{}")
    source = Coalescing(inner)
    assert await asyncio.gather(*(source.manifest(revision) for _ in range(50))) == [b"{}"] * 50
    assert inner.call_count == 1


async def test_a_distrustful_caller_does_not_join_a_trusting_fetch() -> None:
    inner = MemorySource()
    chunk = inner.add_chunk(b"weights")
    source = Coalescing(inner)
    await asyncio.gather(source.chunk(chunk), source.chunk(chunk, revalidate=True))
    assert (inner.call_count, inner.revalidations) == (2, 1)


async def test_pointers_are_never_shared() -> None:
    inner = MemorySource()
    inner.channels["chat", "stable"] = b"pointer"
    inner.bundle = b"bundle"
    source = Coalescing(inner)
    await asyncio.gather(*(source.channel("chat", "stable") for _ in range(3)))
    await asyncio.gather(*(source.trust_bundle(4) for _ in range(3)))
    assert inner.call_count == 6
    assert inner.root_versions == [4, 4, 4]


async def test_a_waiter_retries_what_failed_for_the_leader() -> None:
    inner = MemorySource()
    chunk = inner.add_chunk(b"weights")
    inner.failures.append(SourceUnavailableError("connection reset"))
    source = Coalescing(inner)
    leader, *waiters = await asyncio.gather(
        *(source.chunk(chunk) for _ in range(5)), return_exceptions=True
    )
    assert isinstance(leader, SourceUnavailableError)
    assert not any(isinstance(one, BaseException) for one in waiters)
    assert inner.call_count == 2


async def test_coalescing_keeps_the_name_and_closes_the_inner_source() -> None:
    inner = MemorySource("origin")
    source = Coalescing(inner)
    assert source.name == "origin"
    await source.aclose()
    await source.aclose()
    assert inner.closed


async def test_closing_in_flight_does_not_hang() -> None:
    inner = MemorySource()
    chunk = inner.add_chunk(b"weights")
    inner.gate = asyncio.Event()
    source = Coalescing(inner)
    task = asyncio.create_task(source.chunk(chunk))
    await inner.until_called(1)
    await source.aclose()
    with pytest.raises(SourceUnavailableError, match="closed"):
        await task
