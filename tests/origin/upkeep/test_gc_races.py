"""The collector against uploads, step by step in any order: no revision ever becomes incomplete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from origin.upkeep.gc import Collector, GcReport
from origin.upkeep.policy import GcConfig
from tests.fakes.revisions import Revision, chunk_of, make_revision
from tests.fakes.upkeep import Shelf
from wire.chunk import Chunk, ChunkId
from wire.errors import NotFoundError

T = TypeVar("T")
GRACE_S = 100.0
# Neighbours share chunks, so that what one revision loses another one may need.
REVISIONS = [
    make_revision({"m.gguf": [chunk_of(number + part, 20) for part in range(3)]})
    for number in range(4)
]
numbers = st.integers(0, len(REVISIONS) - 1)


class Races(RuleBasedStateMachine):
    """One origin: uploads in their steps, a collector in its steps, and time."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.shelf = Shelf()
        self.publisher = self.run(self.shelf.origin())
        self.to_send: dict[int, set[ChunkId]] = {}
        self.asked_at: dict[int, float] = {}
        self.stored_at: dict[int, float] = {}
        self.collection: AsyncIterator[GcReport] | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.finish_and_find_nothing_left_over()
        self.runner.close()

    @rule(number=numbers, steps=st.integers(1, 4))
    def upload(self, number: int, steps: int) -> None:
        """The next steps of an upload: ask, send, send, store the manifest, sign."""
        for _ in range(steps):
            if number in self.stored_at:
                self.sign(number)
            elif number not in self.to_send:
                self.ask(number)
            elif self.to_send[number]:
                self.send(number)
            else:
                self.store_manifest(number)

    def ask(self, number: int) -> None:
        ids = [ChunkId(name) for name in REVISIONS[number].chunks]
        self.to_send[number] = set(self.run(self.publisher.missing(ids)))
        self.asked_at[number] = self.shelf.now

    def send(self, number: int) -> None:
        """The first half of what is left."""
        waiting = sorted(self.to_send[number])
        for name in waiting[: (len(waiting) + 1) // 2]:
            self.run(self.publisher.put_chunk(Chunk.of(REVISIONS[number].chunks[name])))
            self.to_send[number].discard(name)

    def store_manifest(self, number: int) -> None:
        revision = REVISIONS[number]
        del self.to_send[number]
        try:
            self.run(self.publisher.put_manifest(revision.id, revision.data))
        except NotFoundError:
            late = self.shelf.now - self.asked_at[number] >= GRACE_S
            assert late, "an upload within the grace lost a chunk"
        else:
            self.stored_at[number] = self.shelf.now

    def sign(self, number: int) -> None:
        revision = REVISIONS[number]
        stored_at = self.stored_at.pop(number)
        if self.is_signed(revision):
            return
        try:
            self.run(self.publisher.publish(self.shelf.sign(self.publisher, revision)))
        except NotFoundError:
            assert self.shelf.now - stored_at >= GRACE_S, "a young manifest was removed"

    @rule(number=numbers)
    def remove_signature(self, number: int) -> None:
        revision = REVISIONS[number]
        if self.is_signed(revision):
            shorter = self.shelf.sign(self.publisher, remove=[revision])
            self.run(self.publisher.prune(shorter))

    @rule(seconds=st.sampled_from([1.0, GRACE_S * 0.6, GRACE_S * 2]))
    def wait(self, seconds: float) -> None:
        self.shelf.now += seconds

    @precondition(lambda self: self.collection is None)
    @rule()
    def start_collection(self) -> None:
        self.collection = self.collector().steps()
        self.step()

    @precondition(lambda self: self.collection is not None)
    @rule()
    def step(self) -> None:
        assert self.collection is not None
        if self.run(self._next(self.collection)) is None:
            self.collection = None

    @invariant()
    def every_stored_manifest_is_complete(self) -> None:
        stored = self.shelf.manifests
        for revision in REVISIONS:
            if revision.id in stored:
                assert revision.chunks.keys() <= self.shelf.chunks

    @invariant()
    def every_signed_revision_has_its_manifest(self) -> None:
        assert {r.id for r in REVISIONS if self.is_signed(r)} <= self.shelf.manifests

    def drain(self) -> None:
        while self.collection is not None:
            self.step()

    def finish_and_find_nothing_left_over(self) -> None:
        self.drain()
        self.shelf.now += 2 * GRACE_S
        self.start_collection()
        self.drain()
        signed = [r for r in REVISIONS if self.is_signed(r)]
        assert self.shelf.manifests == {r.id for r in signed}
        assert self.shelf.chunks == {name for r in signed for name in r.chunks}
        assert not [key for key in self.shelf.objects.kept if key.startswith("leases/")]

    def collector(self) -> Collector:
        config = GcConfig(grace_s=GRACE_S)
        return Collector(self.publisher, config, clock=lambda: self.shelf.now)

    def is_signed(self, revision: Revision) -> bool:
        return (revision.model, revision.id) in self.publisher.repository.view.revisions

    @staticmethod
    async def _next(collection: AsyncIterator[GcReport]) -> GcReport | None:
        return await anext(collection, None)


Races.TestCase.settings = settings(
    max_examples=50,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestRaces = Races.TestCase
