"""Caches in a temporary folder, over a source in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from edge_tier.cache.documents import DocumentConfig, DocumentStore
from edge_tier.cache.fill import CachingSource
from edge_tier.cache.fill_config import FillConfig
from edge_tier.cache.store import ChunkStore, StoreConfig
from tests.fakes.cache import EdgeFactory, FaultyDisk, StoreFactory
from tests.fakes.clock import ManualClock
from tests.fakes.source import MemorySource


@pytest.fixture
def disk() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def wall_clock() -> ManualClock:
    return ManualClock(1_700_000_000.0)


@pytest.fixture
def upstream() -> MemorySource:
    return MemorySource("origin")


@pytest.fixture
def open_store(tmp_path: Path, disk: FaultyDisk) -> StoreFactory:
    """Opens the store of this test; opening it again is a restart."""

    @contextlib.asynccontextmanager
    async def open_it(
        cache_bytes: int = 1024 * 1024, pinned_share: float = 1.0
    ) -> AsyncIterator[ChunkStore]:
        config = StoreConfig(
            cache_bytes=cache_bytes, pinned_share=pinned_share, read_threads=2, write_threads=2
        )
        store = ChunkStore(tmp_path / "chunks", config, write=disk)
        await store.start()
        try:
            yield store
        finally:
            await store.aclose()

    return open_it


@pytest.fixture
async def store(open_store: StoreFactory) -> AsyncIterator[ChunkStore]:
    async with open_store() as opened:
        yield opened


@pytest.fixture
def open_edge(
    tmp_path: Path,
    disk: FaultyDisk,
    upstream: MemorySource,
    clock: ManualClock,
    wall_clock: ManualClock,
) -> EdgeFactory:
    """Opens the edge of this test; opening it again is a restart."""

    @contextlib.asynccontextmanager
    async def open_it(
        *,
        verify: Callable[[bytes], None] = lambda _: None,
        fill: FillConfig | None = None,
        cache_bytes: int = 1024 * 1024,
        members: Sequence[MemorySource] = (),
    ) -> AsyncIterator[CachingSource]:
        config = StoreConfig(cache_bytes=cache_bytes, read_threads=2, write_threads=2)
        edge = CachingSource(
            upstream,
            ChunkStore(tmp_path / "chunks", config, write=disk),
            DocumentStore(
                tmp_path / "documents",
                DocumentConfig(fsync=False),
                wall_clock=wall_clock,
                write=disk,
            ),
            fill or FillConfig(),
            verify=verify,
            members=members,
            clock=clock,
            wall_clock=wall_clock,
        )
        await edge.start()
        try:
            yield edge
        finally:
            await edge.aclose()

    return open_it


@pytest.fixture
async def edge(open_edge: EdgeFactory) -> AsyncIterator[CachingSource]:
    async with open_edge() as opened:
        yield opened
