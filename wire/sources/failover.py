"""Several sources in a fixed order: where one fails, the next is asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from wire.chunk import Chunk, ChunkId
from wire.source import Source
from wire.sources.member import Member, Observer, SourceStats, distinct, first_of


class Failover:
    """A Source over others, asked in order.

    Missing, unavailable or bad bytes move on to the next; a chunk with bad bytes is first asked for
    again at the same source, with ``revalidate``. ``GoneError`` is final: a takedown is a takedown.
    The wrapper owns the sources and closes them.

    Args:
        clock: seconds, monotonic; times the requests.
        observe: told of every outcome.

    Raises:
        ConfigError: no source, or two of one name.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        name: str = "failover",
        clock: Callable[[], float] = time.monotonic,
        observe: Observer | None = None,
    ) -> None:
        self._name = name
        self._members = tuple(
            Member(source, clock=clock, observe=observe) for source in distinct(sources)
        )

    @property
    def name(self) -> str:
        return self._name

    def stats(self) -> tuple[SourceStats, ...]:
        """What each source gave so far, in order."""
        return tuple(member.stats for member in self._members)

    async def trust_bundle(self, root_version: int) -> bytes:
        return await self._document(lambda m: m.trust_bundle(root_version), "the trust bundle")

    async def channel(self, model: str, channel: str) -> bytes:
        return await self._document(
            lambda m: m.channel(model, channel), f"channel {model}@{channel}"
        )

    async def manifest(self, revision: str) -> bytes:
        return await self._document(lambda m: m.manifest(revision), f"manifest {revision}")

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        return await first_of(
            self._members,
            lambda m: m.chunk(id, revalidate=revalidate, into=into),
            f"chunk {id}",
        )

    async def aclose(self) -> None:
        for member in self._members:
            await member.source.aclose()

    async def _document(
        self, ask: Callable[[Member], Coroutine[Any, Any, bytes]], what: str
    ) -> bytes:
        """A small document, by the name ``what`` in errors."""
        return await first_of(self._members, ask, what)
