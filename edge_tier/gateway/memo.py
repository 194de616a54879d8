"""What the sanitizer remembers from request to request: compiled content rules, and clean texts.

A chat grows by a turn at a time and sends all earlier ones again. A text in which nothing was found
under the same rules and literals is remembered whole, as itself: a hash could be made to collide.
All of it is bounded in bytes, and what was not seen for long is forgotten.
"""

from __future__ import annotations

import sys
from typing import Generic, TypeVar

from edge_tier.gateway.content import Screens
from edge_tier.gateway.request import Rules

T = TypeVar("T")

_ENTRY_BYTES = 200
"""Of a dictionary's entry and its key, besides the text."""


class CleanTexts:
    """A bounded set of texts, in two generations: a full one becomes the old one, whose texts are
    forgotten unless they are seen again. Threads may share it; a race costs at most a repetition.
    """

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._young: dict[tuple[int, str], None] = {}
        self._old: dict[tuple[int, str], None] = {}
        self._young_bytes = 0

    def holds(self, known: int, text: str) -> bool:
        """Whether the text was found clean by rules number ``known``."""
        key = (known, text)
        if key in self._young:
            return True
        if key not in self._old:
            return False
        self._keep(key)
        return True

    def add(self, known: int, text: str) -> None:
        self._keep((known, text))

    def _keep(self, key: tuple[int, str]) -> None:
        size = sys.getsizeof(key[1]) + _ENTRY_BYTES
        if size > self._half:
            return
        if self._young_bytes + size > self._half:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[key] = None
        self._young_bytes += size


class Known(Generic[T]):
    """Rules and literals with what is compiled of them. ``number`` names them to the memo."""

    __slots__ = ("content", "literals", "number", "output", "rules")

    def __init__(
        self, rules: Rules, literals: T, number: int, screens: Screens | None = None
    ) -> None:
        self.rules = rules
        self.literals = literals
        self.number = number
        self.content, self.output = screens or Screens.of(rules.content)


class Memo(Generic[T]):
    """Build one per process. Rules and literals are told apart by identity, so the caller must hand
    in the same objects from request to request.

    Args:
        max_bytes: bound on the remembered texts.
        min_chars: shorter texts are not worth remembering.
        max_rules: bound on the pairs of rules and literals.
    """

    def __init__(
        self, *, max_bytes: int = 64 * 1024 * 1024, min_chars: int = 256, max_rules: int = 1_024
    ) -> None:
        self.min_chars = min_chars
        self.clean = CleanTexts(max_bytes)
        self._max_rules = max_rules
        self._known: dict[tuple[int, int], Known[T]] = {}
        self._count = 0

    def known(self, rules: Rules, literals: T, screens: Screens | None = None) -> Known[T]:
        """What is compiled of these rules, now or earlier.

        Args:
            screens: the rules' own, where they are compiled already: many words take a while.

        Raises:
            ConfigError: a content rule that cannot be compiled.
        """
        key = (id(rules), id(literals))
        known = self._known.get(key)
        # An entry keeps its objects alive, so an id cannot have passed on to others.
        if known is None:
            self._count += 1
            known = Known(rules, literals, self._count, screens)
            while len(self._known) >= self._max_rules:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = known
        return known
