"""Garbage collection: removes what no signed revision and no upload needs.

What holds at every moment, whatever else goes on: a stored manifest has all its chunks, and a
signed revision that was not taken down has its manifest. Three things see to it.

1. A manifest goes before its chunks, and only where it is not signed and older than the grace, or
   was taken down. Chunks stay for every stored manifest, signed or not.
2. An upload that asks which chunks are missing takes a lease of all it asked for, before it is
   answered; a chunk that it is about to rely on stays as long as the lease.
3. The collector decides and removes a few objects at a time, alone in the gate: a lease, a manifest
   or a signature came either before, and is seen, or after, and finds what was removed missing.

Where several origins share a bucket the gate of one does not hold the others. There leases,
manifests and the signed list are read from the bucket again before every removal, and the grace
does the rest: only what is older than it can go.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field

import msgspec
import structlog

from origin.announce import Publisher
from origin.errors import StoreError
from origin.stores.objects import Stat
from origin.upkeep.policy import GcConfig, garbage, unsigned
from wire.errors import HeadwaterError
from wire.manifest import decode
from wire.paths import revision_key

_log = structlog.get_logger("gc")
_MAX_NAMED = 1_000
"""Revisions that a report names."""


class GcReport(msgspec.Struct, kw_only=True):
    """What a collection removed, or would remove. Sizes in bytes."""

    dry_run: bool
    revisions: list[str] = []
    """Whose manifests are removed; at most 1,000 are named."""
    removed_revisions: int = 0
    removed_chunks: int = 0
    removed_bytes: int = 0
    kept_revisions: int = 0
    kept_chunks: int = 0
    kept_bytes: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Collector:
    """One collection.

    Args:
        publisher: the origin's own.
        clock: seconds since 1970.
    """

    publisher: Publisher
    config: GcConfig
    dry_run: bool = False
    clock: Callable[[], float] = time.time
    _needed: set[str] = field(default_factory=set)
    """Chunks of the manifests that have been read."""
    _read: set[str] = field(default_factory=set)
    """Revisions whose manifests these are."""
    _leases: dict[str, set[str]] = field(default_factory=dict)

    async def steps(self) -> AsyncIterator[GcReport]:
        """Collect, step by step; the report so far after each. Each step is atomic towards uploads,
        and between two of them anything may happen.

        Raises:
            StoreError: a manifest cannot be read, so nobody knows what it needs: no chunk is
                removed then. Or the store fails.
        """
        began, report = self.clock(), GcReport(dry_run=self.dry_run)
        await self._drop_manifests(report)
        yield report
        async for page in self.publisher.store.chunk_pages():
            candidates = garbage(page, self._needed, self.config, self.clock())
            removed = await self._remove_chunks(candidates) if candidates else []
            report.removed_chunks += len(removed)
            report.removed_bytes += sum(stat.size for stat in removed)
            report.kept_chunks += len(page) - len(removed)
            report.kept_bytes += sum(stat.size for stat in page)
            report.kept_bytes -= sum(stat.size for stat in removed)
            report.seconds = self.clock() - began
            yield report
        await self._end_leases()
        _log.info("garbage collected", **msgspec.to_builtins(report))

    async def _drop_manifests(self, report: GcReport) -> None:
        publisher, store = self.publisher, self.publisher.store
        async with publisher.gate.alone():
            if store.shared:
                await publisher.refresh()
            stored = await store.manifests()
            view, gone = publisher.repository.view, publisher.gone
            drop = unsigned(stored, view, gone, self.config, self.clock())
            if not self.dry_run:
                await store.remove([f"manifests/{revision}" for revision in drop])
        signed = {r for _, r in view.revisions if revision_key(r) not in gone}
        if lost := sorted(signed - stored.keys()):
            raise StoreError(
                f"no chunk was removed: the manifest of signed revision {lost[0]} is not stored, "
                "so nobody knows what it needs; repair the store with `headwater verify`"
            )
        # What stays need not be read alone: it can only become more, and that is read later.
        await self._read_manifests(stored.keys() - set(drop))
        report.revisions = drop[:_MAX_NAMED]
        report.removed_revisions = len(drop)
        report.kept_revisions = len(stored) - len(drop)

    async def _remove_chunks(self, candidates: list[Stat]) -> list[Stat]:
        store = self.publisher.store
        async with self.publisher.gate.alone():
            stored = await store.manifests()
            if not self.dry_run:
                await self._read_manifests(stored.keys() - self._read)
            await self._read_leases()
            leased = set[str]().union(*self._leases.values())
            doomed = [
                stat
                for stat in candidates
                if (name := stat.key.rpartition("/")[2]) not in self._needed and name not in leased
            ]
            if not self.dry_run:
                await store.remove([stat.key for stat in doomed])
        return doomed

    async def _read_manifests(self, revisions: Iterable[str]) -> None:
        for revision in sorted(revisions):
            try:
                data = await self.publisher.store.manifest(revision)
                manifest = await asyncio.to_thread(decode, data, revision)
            except HeadwaterError as error:
                raise StoreError(
                    f"nothing was removed from here on, because it is not known what revision "
                    f"{revision} needs: {error.message}; publish it again"
                ) from error
            self._needed.update(manifest.chunk_refs())
            self._read.add(revision)

    async def _read_leases(self) -> None:
        """Those in force; one that ended protects no longer, one that is known is not read again:
        its name is its content's."""
        store, now = self.publisher.store, self.clock()
        held = await store.leases()
        valid = {name for name, at in held.items() if now - at < self.config.grace_s}
        for name in valid - self._leases.keys():
            self._leases[name] = await store.leased(name)
        for name in self._leases.keys() - valid:
            del self._leases[name]

    async def _end_leases(self) -> None:
        if self.dry_run:
            return
        store = self.publisher.store
        async with self.publisher.gate.alone():
            now, held = self.clock(), await store.leases()
            ended = [name for name, at in held.items() if now - at >= self.config.grace_s]
            await store.remove([f"leases/{name}" for name in ended])


async def collect(
    collector: Collector, progress: Callable[[str, int, int], None] = lambda *_: None
) -> GcReport:
    """A whole collection. Raises as ``Collector.steps``.

    Args:
        progress: told of the bytes looked at; the total is not known before (0).
    """
    report = GcReport(dry_run=collector.dry_run)
    async for report in collector.steps():
        progress("gc", report.kept_bytes + report.removed_bytes, 0)
    return report
