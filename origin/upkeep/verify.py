"""A full scrub of an origin's store: every chunk hashed, every manifest complete, trust verified.

Chunks come in pages and are read a few at a time, so memory is a few chunks, and the ids of those
that are needed. What is rotten is set aside by the store itself, as it is when it is served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from origin.announce import Publisher
from origin.signing import Repository
from origin.stores.objects import Stat
from origin.upkeep.pace import Pacer
from wire.chunk import ChunkId, is_digest
from wire.errors import ChunkMismatchError, ConflictError, HeadwaterError, NotFoundError
from wire.manifest import decode
from wire.paths import revision_key

_log = structlog.get_logger("verify")
_PARALLEL = 4
"""Chunks read at the same time; memory is this many times 8 MiB."""
_MAX_NAMED = 10_000
"""Chunks and revisions that a report names, of each kind."""
Progress = Callable[[str, int, int], None]


class VerifyReport(msgspec.Struct, kw_only=True):
    """What a scrub found. Sizes in bytes; lists name at most 10,000, the counts are of all."""

    chunks: int = 0
    bytes: int = 0
    revisions: int = 0
    rotten: list[str] = []
    rotten_chunks: int = 0
    """Their bytes were others; they were set aside, into ``corrupt/``."""
    missing: list[str] = []
    missing_chunks: int = 0
    """Needed by a stored manifest and not here, rotten ones included."""
    bad_manifests: dict[str, str] = {}
    """Revision → what is wrong with it: rotten, not here, or not as it was signed."""
    incomplete: list[str] = []
    """Revisions that lack chunks."""
    foreign: int = 0
    """Objects below ``chunks/`` that no chunk can have as its name."""
    trust: str = ""
    """What is wrong with the signed documents; empty where they verify."""
    seconds: float = 0.0

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.missing_chunks or self.rotten_chunks or self.bad_manifests or self.trust)


@dataclass(slots=True)
class Scrub:
    """One scrub of a publisher's store.

    Args:
        pacer: holds the reading back.
        progress: told of the bytes read, and of those that all manifests need.
        clock: seconds that only grow.
    """

    publisher: Publisher
    pacer: Pacer
    progress: Progress = lambda *_: None
    clock: Callable[[], float] = time.monotonic
    report: VerifyReport = field(default_factory=VerifyReport)
    _sizes: dict[str, int] = field(default_factory=dict)
    """Chunks that the manifests need, with their sizes, until they are found sound."""
    _total: int = 0

    async def run(self) -> VerifyReport:
        """The scrub.

        Raises:
            StoreError: the store itself fails; what one object is, never ends a scrub.
        """
        began = self.clock()
        await self._check_trust()
        manifests = await self._check_manifests()
        self._total = sum(self._sizes.values())
        async for page in self.publisher.store.chunk_pages():
            await self._check_page(page)
        await self._name_incomplete(manifests)
        self.report.seconds = self.clock() - began
        log = _log.info if self.report.sound else _log.error
        log(
            "store verified",
            chunks=self.report.chunks,
            rotten=self.report.rotten_chunks,
            missing=self.report.missing_chunks,
            bad_manifests=len(self.report.bad_manifests),
            trust=self.report.trust,
        )
        return self.report

    async def _check_trust(self) -> None:
        publisher = self.publisher
        try:
            documents = await publisher.store.trust_documents()
            key = publisher.repository.online_key
            await asyncio.to_thread(Repository.load, documents, key)
        except HeadwaterError as error:
            self.report.trust = error.message

    async def _check_manifests(self) -> list[str]:
        """Reads every manifest once; the revisions whose manifests are sound."""
        publisher, sound = self.publisher, []
        view, gone = publisher.repository.view, publisher.gone
        signed = {revision: (model, size) for (model, revision), size in view.revisions.items()}
        stored = await publisher.store.manifests()
        live = {revision for revision in signed if revision_key(revision) not in gone}
        for revision in sorted(stored.keys() | live):
            try:
                await self._check_manifest(revision, signed)
                sound.append(revision)
            except (HeadwaterError, ConflictError) as error:
                if len(self.report.bad_manifests) < _MAX_NAMED:
                    self.report.bad_manifests[revision] = error.message
        self.report.revisions = len(stored)
        return sound

    async def _check_manifest(self, revision: str, signed: Mapping[str, tuple[str, int]]) -> None:
        data = await self.publisher.store.manifest(revision)
        manifest = await asyncio.to_thread(decode, data, revision)
        named = (manifest.model, len(data))
        if signed.get(revision, named) != named:
            raise ConflictError(f"signed as {signed[revision]}, stored as {named}")
        for chunk, ref in manifest.chunk_refs().items():
            self._sizes[chunk] = ref.size

    async def _check_page(self, page: Sequence[Stat]) -> None:
        named = [(stat, ChunkId(stat.key.rpartition("/")[2])) for stat in page]
        known = [(stat, name) for stat, name in named if is_digest(name)]
        self.report.foreign += len(named) - len(known)
        for start in range(0, len(known), _PARALLEL):
            batch = known[start : start + _PARALLEL]
            await asyncio.gather(*(self._check_chunk(name) for _, name in batch))
            size = sum(stat.size for stat, _ in batch)
            self.report.bytes += size
            self.progress("verify", self.report.bytes, max(self._total, self.report.bytes))
            await self.pacer.spend(size)

    async def _check_chunk(self, name: ChunkId) -> None:
        try:
            found = await self.publisher.store.chunk(name)
        except NotFoundError:
            return  # removed since it was listed
        except ChunkMismatchError:
            self.report.rotten_chunks += 1
            if len(self.report.rotten) < _MAX_NAMED:
                self.report.rotten.append(name)
            return
        self.report.chunks += 1
        if self._sizes.get(name, len(found)) == len(found):
            self._sizes.pop(name, None)

    async def _name_incomplete(self, manifests: Sequence[str]) -> None:
        """What was not found sound may have been stored meanwhile, or belong to a revision that has
        been removed; so it is asked for once more."""
        store = self.publisher.store
        here = (await store.manifests()).keys()
        if not self._sizes:
            return
        missing = set(await store.missing_chunks(map(ChunkId, self._sizes)))
        lacking: set[str] = set()
        for revision in manifests:
            if revision not in here or not missing:
                continue
            manifest = await asyncio.to_thread(decode, await store.manifest(revision), revision)
            lacks = missing & manifest.chunk_refs().keys()
            if lacks:
                self.report.incomplete.append(revision)
                lacking |= lacks
        self.report.missing_chunks = len(lacking)
        self.report.missing = sorted(lacking)[:_MAX_NAMED]
