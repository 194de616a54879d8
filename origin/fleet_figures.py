"""What the edges counted of each revision's requests, summed up so that no restart loses a count.

An edge counts from its start. The counts of its last lives are kept apart, by when each started, so
that two processes of one name are counted once each, however they take turns; older lives are added
up. Pure state.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec.structs import replace

from wire.fleet import FIRST_TOKEN_BOUNDS_MS, MAX_FIGURES, RevisionFigures

_MAX_RETIRED = 1_024
_MAX_LIVES = 4
"""Of an edge, whose counts are kept apart."""
_BUCKETS = len(FIRST_TOKEN_BOUNDS_MS) + 1
_ByRevision = dict[tuple[str, str], RevisionFigures]


class LifeKept(msgspec.Struct, frozen=True, kw_only=True):
    """What a life of an edge counted, in a snapshot."""

    started: float
    figures: tuple[RevisionFigures, ...]


class Figures:
    """The counts of all edges."""

    def __init__(self) -> None:
        self._lives: dict[str, dict[float, _ByRevision]] = {}
        """Edge → start → counts; the life that reported last is the last."""
        self._retired: _ByRevision = {}
        """Of lives that are long over."""

    def knows(self, edge: str, started: float) -> bool:
        """Whether this life is one of the last of its edge."""
        return started in self._lives.get(edge, {})

    def count(self, edge: str, started: float, figures: Iterable[RevisionFigures]) -> None:
        """Take what a life of an edge counted so far."""
        lives = self._lives.setdefault(edge, {})
        life = lives.pop(started, {}) | _by_revision(figures)
        while len(life) > 4 * MAX_FIGURES:
            del life[next(iter(life))]
        lives[started] = life
        while len(lives) > _MAX_LIVES:
            self._retire(lives.pop(next(iter(lives))))

    def forget(self, edge: str) -> None:
        """An edge is gone for good; what it counted stays counted."""
        for life in self._lives.pop(edge, {}).values():
            self._retire(life)

    def total(self, model: str, revision: str) -> RevisionFigures:
        """The sum over all edges and all their lives."""
        key = model, revision
        lives = [life for lives in self._lives.values() for life in lives.values()]
        found = [life[key] for life in (self._retired, *lives) if key in life]
        return _sum(RevisionFigures(model=model, revision=revision), found)

    def lives(self, edge: str) -> tuple[LifeKept, ...]:
        """An edge's counts, to be kept."""
        return tuple(
            LifeKept(started=started, figures=tuple(life.values()))
            for started, life in self._lives.get(edge, {}).items()
        )

    def retired(self) -> tuple[RevisionFigures, ...]:
        """The counts of lives that are long over, to be kept."""
        return tuple(self._retired.values())

    def restore(self, edge: str, lives: Iterable[LifeKept]) -> None:
        """Begin with an edge's counts as they were kept."""
        for life in lives:
            self.count(edge, life.started, life.figures)

    def restore_retired(self, figures: Iterable[RevisionFigures]) -> None:
        """The same of lives that are long over."""
        self._retire(_by_revision(figures))

    def _retire(self, life: _ByRevision) -> None:
        for key, figures in life.items():
            before = self._retired.pop(key, None)
            self._retired[key] = _sum(figures, [before]) if before is not None else figures
        while len(self._retired) > _MAX_RETIRED:
            del self._retired[next(iter(self._retired))]


def _by_revision(figures: Iterable[RevisionFigures]) -> _ByRevision:
    return {(one.model, one.revision): one for one in figures}


def _sum(first: RevisionFigures, others: Iterable[RevisionFigures]) -> RevisionFigures:
    """Counts added up; ``first`` names the revision."""
    figures = [first, *others]
    rows = [one.first_token + (0,) * (_BUCKETS - len(one.first_token)) for one in figures]
    return replace(
        first,
        answered=sum(one.answered for one in figures),
        failed=sum(one.failed for one in figures),
        first_token=tuple(map(sum, zip(*rows, strict=True))),
    )
