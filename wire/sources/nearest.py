"""Several sources, the one with the best measured time first."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from wire.source import Source
from wire.sources.failover import Failover
from wire.sources.member import Member, Outcome, distinct
from wire.sources.scoreboard import Score, Scoreboard, ScoreConfig


class Nearest(Failover):
    """A Source over others, asked in the order of their scores (``Scoreboard``).

    Inside one call it fails over like ``Failover``. Chunks are what sources are probed with; small
    documents go where they are expected to be fastest.

    Raises:
        ConfigError: no source, or two of one name.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        name: str = "nearest",
        clock: Callable[[], float] = time.monotonic,
        config: ScoreConfig | None = None,
    ) -> None:
        found = distinct(sources)
        self._clock = clock
        self._board = Scoreboard((source.name for source in found), config or ScoreConfig())
        super().__init__(found, name=name, clock=clock, observe=self._learn)
        self._by_name = {member.source.name: member for member in self._members}

    def scores(self) -> tuple[Score, ...]:
        """How each source is seen now, in the order they were given."""
        return self._board.scores(self._clock())

    def _learn(self, source_name: str, outcome: Outcome) -> None:
        self._board.record(source_name, outcome, self._clock())

    def _for_document(self) -> Sequence[Member]:
        return [self._by_name[name] for name in self._board.rank(self._clock(), 0)]

    def _for_chunk(self) -> Sequence[Member]:
        return [self._by_name[name] for name in self._board.choose(self._clock())]
