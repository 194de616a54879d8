"""One source among several: what it gave is counted, timed and told to whoever keeps score."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from wire.chunk import Chunk, ChunkId
from wire.errors import (
    ChunkMismatchError,
    ConfigError,
    GoneError,
    HeadwaterError,
    ManifestInvalidError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.source import Source

OutcomeKind = Literal["delivered", "missing", "mismatch", "unavailable", "abandoned"]
"""``missing``: does not have it, which is no fault. ``abandoned``: the caller stopped waiting."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request to one source: how it ended, after how long, with how many bytes."""

    kind: OutcomeKind
    seconds: float
    size_bytes: int = 0
    is_chunk: bool = False
    wanted_bytes: int = 0
    """What was asked for, as far as it is known."""
    sharing: float = 1.0
    """How many requests for chunks shared the source meanwhile, this one included; on average."""


@dataclass(frozen=True, slots=True)
class SourceStats:
    """What one source gave so far; for metrics and the boot waterfall."""

    name: str
    chunks: int = 0
    bytes: int = 0
    """Of chunks and documents."""
    mismatches: int = 0
    failures: int = 0
    """Times it was unavailable or broke the protocol."""
    missing: int = 0
    busy_s: float = 0.0
    """Summed over all requests, so it exceeds the wall clock where they run in parallel."""
    probes: int = 0
    """Requests that only measured it, beside one to a better source."""
    hedges: int = 0
    """Times it was asked because the answer of another source was overdue."""
    hedge_wins: int = 0
    """Hedges whose answer was the first."""
    abandoned: int = 0
    """Requests given up before they were answered: another source was faster, or nobody waited."""
    wasted_bytes: int = 0
    """Of chunks that came although another source's was taken; part of ``bytes``."""


SOURCE_COUNTERS = {
    "bytes": "Bytes of chunks and documents that a source gave.",
    "chunks": "Chunks that a source gave.",
    "mismatches": "Answers of a source that were not what was asked for; none was used.",
    "failures": "Times a source was not reachable or broke the protocol.",
    "probes": "Requests that only measured a source.",
    "hedges": "Times a source was asked because another one's answer was overdue.",
    "hedge_wins": "Hedges whose answer was the first.",
    "abandoned": "Requests to a source given up before they were answered.",
    "wasted_bytes": "Bytes of chunks that came although another source's was taken.",
}
"""The counters of ``SourceStats`` that metrics show, with their help."""

Observer = Callable[[str, Outcome], None]
"""Told the name of a source and the outcome of a request to it."""


class _Sized(Protocol):
    def __len__(self) -> int: ...


S = TypeVar("S", bound=_Sized)
T = TypeVar("T")


class Member:
    """A Source with counters and a second chance.

    Args:
        clock: seconds, monotonic.
        observe: told the source's name and every outcome; a scoreboard, for example.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], float],
        observe: Observer | None = None,
    ) -> None:
        self.source = source
        self._clock = clock
        self._observe = observe
        self._stats = SourceStats(source.name)
        self._in_flight = 0

    @property
    def stats(self) -> SourceStats:
        return self._stats

    def count(
        self, *, probes: int = 0, hedges: int = 0, hedge_wins: int = 0, wasted: int = 0
    ) -> None:
        """Add to the figures that only who asks several sources can know; ``wasted``: bytes."""
        stats = self._stats
        self._stats = replace(
            stats,
            probes=stats.probes + probes,
            hedges=stats.hedges + hedges,
            hedge_wins=stats.hedge_wins + hedge_wins,
            wasted_bytes=stats.wasted_bytes + wasted,
        )

    async def trust_bundle(self, root_version: int) -> bytes:
        return await self._measured(self.source.trust_bundle(root_version))

    async def channel(self, model: str, channel: str) -> bytes:
        return await self._measured(self.source.channel(model, channel))

    async def manifest(self, revision: str) -> bytes:
        return await self._measured(self.source.manifest(revision))

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool,
        into: memoryview | None = None,
    ) -> Chunk:
        """The chunk. After a mismatch the source is asked once more, to check what it stores: bytes
        that rotted in its cache heal that way, for everybody."""
        try:
            return await self.attempt(id, revalidate=revalidate, into=into)
        except ChunkMismatchError:
            if revalidate:
                raise
            return await self.attempt(id, revalidate=True, into=into)

    async def attempt(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool,
        into: memoryview | None = None,
        wanted_bytes: int = 0,
    ) -> Chunk:
        """The chunk, without a second chance; ``wanted_bytes``: about its size."""
        self._in_flight += 1
        at_start = self._in_flight
        try:
            return await self._measured(
                self.source.chunk(id, revalidate=revalidate, into=into),
                is_chunk=True,
                wanted_bytes=wanted_bytes,
                sharing=lambda: (at_start + self._in_flight) / 2,
            )
        finally:
            self._in_flight -= 1

    async def _measured(
        self,
        answer: Awaitable[S],
        *,
        is_chunk: bool = False,
        wanted_bytes: int = 0,
        sharing: Callable[[], float] = lambda: 1.0,
    ) -> S:
        started = self._clock()

        def note(kind: OutcomeKind, size_bytes: int = 0) -> None:
            seconds = max(0.0, self._clock() - started)
            self._note(Outcome(kind, seconds, size_bytes, is_chunk, wanted_bytes, sharing()))

        try:
            value = await answer
        except asyncio.CancelledError:
            note("abandoned")
            raise
        except (NotFoundError, GoneError):
            note("missing")
            raise
        except (ChunkMismatchError, ManifestInvalidError):
            note("mismatch")
            raise
        except HeadwaterError:
            note("unavailable")
            raise
        note("delivered", len(value))
        return value

    def _note(self, outcome: Outcome) -> None:
        stats, kind = self._stats, outcome.kind
        self._stats = replace(
            stats,
            chunks=stats.chunks + (outcome.is_chunk and kind == "delivered"),
            bytes=stats.bytes + outcome.size_bytes,
            mismatches=stats.mismatches + (kind == "mismatch"),
            failures=stats.failures + (kind == "unavailable"),
            missing=stats.missing + (kind == "missing"),
            abandoned=stats.abandoned + (kind == "abandoned"),
            busy_s=stats.busy_s + outcome.seconds,
        )
        if self._observe is not None:
            self._observe(self.source.name, outcome)


async def first_of(
    members: Iterable[Member], ask: Callable[[Member], Awaitable[T]], what: str
) -> T:
    """The first answer, asking one member after the other.

    Raises:
        GoneError: one of them says that the content was taken down; that is final.
        NotFoundError: none of them has it.
        ChunkMismatchError, ManifestInvalidError: all who have it gave bad bytes.
        SourceUnavailableError: anything else. The message names every source and its reason.
    """
    failures: list[tuple[str, HeadwaterError]] = []
    for member in members:
        try:
            return await ask(member)
        except GoneError:
            raise
        except HeadwaterError as error:
            failures.append((member.source.name, error))
    raise exhausted(what, failures) from failures[-1][1]


def distinct(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Check that there is a source at all, and that names tell them apart."""
    found = tuple(sources)
    names = [source.name for source in found]
    if not found:
        raise ConfigError("at least one source is needed")
    if len(set(names)) != len(names):
        raise ConfigError(f"sources need different names: {', '.join(names)}")
    return found


def exhausted(what: str, failures: Sequence[tuple[str, HeadwaterError]]) -> HeadwaterError:
    """The error that tells why nobody gave ``what``; ``failures``: sources and their reasons."""
    reasons = "; ".join(f"{name}: {error.message}" for name, error in failures)
    message = f"{what} is not to be had: {reasons}"
    kinds = {type(error) for _, error in failures if not isinstance(error, NotFoundError)}
    if not kinds:
        return NotFoundError(message)
    if kinds == {ChunkMismatchError}:
        return ChunkMismatchError(message)
    if kinds == {ManifestInvalidError}:
        return ManifestInvalidError(message)
    return SourceUnavailableError(message)
