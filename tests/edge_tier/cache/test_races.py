"""Takedowns against fills (threat 13): whatever the order, nothing that was taken down is kept."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_tier.cache.documents import DocumentConfig, DocumentStore
from edge_tier.cache.fill import CachingSource
from edge_tier.cache.fill_config import FillConfig
from edge_tier.cache.store import ChunkStore, StoreConfig
from tests.fakes.cached_models import publish
from tests.fakes.source import MemorySource
from wire.chunk import MAX_CHUNK_BYTES, ChunkId
from wire.errors import GoneError, HeadwaterError
from wire.paths import revision_key

CHUNKS = 2
Step = tuple[str, int]

steps = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["deliver", "read", "revalidate", "warm", "expect", "purge", "cancel"]),
            st.integers(0, CHUNKS - 1),
        ),
        st.tuples(st.just("turns"), st.integers(1, 6)),
        st.tuples(st.sampled_from(["gate", "open", "purge_revision", "settle"]), st.just(0)),
    ),
    max_size=25,
)


class _Scenario:
    """One cache with room for one chunk, so that evictions race as well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.upstream = MemorySource()
        weights = [bytes([number]) * 5_000 for number in range(CHUNKS)]
        self.revision, ids = publish(self.upstream, {"": weights})
        self.ids = ids[""]
        self.edge = self._open()
        self.gone: set[ChunkId] = set()
        self.too_late: list[asyncio.Future[object]] = []
        """Requests that a purge overtook."""
        self.tasks: dict[int, list[asyncio.Future[object]]] = {}

    def _open(self) -> CachingSource:
        return CachingSource(
            self.upstream,
            ChunkStore(self.folder / "chunks", StoreConfig(cache_bytes=12_000)),
            DocumentStore(self.folder / "documents", DocumentConfig(fsync=False)),
            FillConfig(fill_bytes_in_flight=2 * MAX_CHUNK_BYTES),
            verify=lambda _: None,
        )

    async def run(self, script: list[Step]) -> None:
        await self.edge.start()
        await self.edge.manifest(self.revision)
        for name, number in script:
            await self._step(name, number)
        self._gate(held=False)
        ended = await asyncio.gather(*self._all(), return_exceptions=True)
        allowed = HeadwaterError | asyncio.CancelledError
        assert all(isinstance(e, allowed) for e in ended if isinstance(e, BaseException)), ended
        assert all(task.cancelled() or task.exception() for task in self.too_late)
        await self._check()
        await self.edge.aclose()
        self.edge = self._open()  # a restart finds nothing of it either
        await self.edge.start()
        await self._check()
        await self.edge.aclose()

    async def _step(self, name: str, number: int) -> None:
        id = self.ids[number % CHUNKS]  # noqa: A001
        asking: dict[str, Callable[[], Awaitable[object]]] = {
            "deliver": lambda: self.edge.deliver(id),
            "read": lambda: self.edge.chunk(id),
            "revalidate": lambda: self.edge.deliver(id, revalidate=True),
            "warm": lambda: self.edge.warm(id),
        }
        if name in asking:
            self.tasks.setdefault(number, []).append(asyncio.ensure_future(asking[name]()))
        elif name in ("purge", "purge_revision"):
            await self._purge(id, of_revision=name == "purge_revision")
        elif name == "expect":
            self.edge.expect([id])
        elif name == "cancel":
            for task in self.tasks.get(number, ()):
                task.cancel()
        elif name == "turns":
            for _ in range(number):
                await asyncio.sleep(0)
        else:
            self._gate(held=name == "gate")
            if name == "settle":
                await asyncio.gather(*self._all(), return_exceptions=True)

    async def _purge(self, id: ChunkId, *, of_revision: bool) -> None:  # noqa: A002
        if not of_revision:
            self.gone.add(id)
        key = revision_key(self.revision) if of_revision else f"chunk:{id}"
        await self.edge.purge([key], hard=True)
        if not of_revision:
            asked = self.tasks.get(self.ids.index(id), ())
            self.too_late += [task for task in asked if not task.done()]

    def _all(self) -> list[asyncio.Future[object]]:
        return [task for tasks in self.tasks.values() for task in tasks]

    def _gate(self, *, held: bool) -> None:
        if self.upstream.gate is not None:
            self.upstream.gate.set()
        self.upstream.gate = asyncio.Event() if held else None

    async def _check(self) -> None:
        files = {path.name for path in (self.folder / "chunks" / "chunks").rglob("*")}
        for id in self.gone:  # noqa: A001
            assert id not in self.edge.store
            assert id not in files
            try:
                await self.edge.deliver(id)
            except GoneError:
                continue
            raise AssertionError("what was taken down was served")


HELD: list[Step] = [("gate", 0), ("deliver", 0), ("turns", 6)]


@settings(deadline=None, max_examples=60)
@given(steps)
@example([*HELD, ("purge", 0), ("open", 0), ("settle", 0)])
@example([*HELD, ("deliver", 0), ("cancel", 0), ("read", 0), ("purge", 0), ("open", 0)])
@example([("gate", 0), ("warm", 1), ("turns", 6), ("revalidate", 1), ("purge", 1), ("open", 0)])
@example([("deliver", 0), ("turns", 3), ("purge", 0)])
@example([("deliver", 0), ("turns", 5), ("purge", 0), ("purge_revision", 0)])
def test_nothing_that_was_taken_down_is_ever_kept_or_served(script: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_Scenario(Path(folder)).run(script))
