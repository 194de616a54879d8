"""The first look at every text: one RE2 automaton over the triggers of all that the sanitizer
knows, so that most texts are found clean in a single pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import re2

from edge_tier.gateway import hidden, homoglyphs, personal_data
from edge_tier.gateway.json_text import escaped
from edge_tier.gateway.personal_data import DETECTORS, Match

CONTROL_LITERAL = "control_literal"
HIDDEN, HOMOGLYPHS, OTHER_DIGITS, FIRST_DETECTOR = 0, 1, 2, 3
LITERAL = FIRST_DETECTOR + len(DETECTORS)
_MEMORY_BYTES = 64 * 1024 * 1024
_MAX_LITERALS = 100


class ControlLiterals:
    """Finds the literals of a model's control tokens, and everything else that may be suspicious.
    Build it once per tokenizer.
    """

    def __init__(self, literals: Iterable[str]) -> None:
        given = tuple(filter(None, literals))
        # In JSON a literal with a quote or a line end looks otherwise.
        longest_first = sorted({*given, *map(escaped, given)}, key=len, reverse=True)
        either = "|".join(map(re2.escape, longest_first))
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        self._pattern = re2.compile(either, options) if either else None
        self._screen = re2.Set.SearchSet(options)
        triggers = (hidden.TRIGGER, homoglyphs.TRIGGER, personal_data.OTHER_DIGITS)
        for trigger in (*triggers, *(detector.trigger for detector in DETECTORS)):
            self._screen.Add(trigger)
        if either:
            self._screen.Add(either)
        self._screen.Compile()

    def suspicions(self, text: str) -> list[int]:
        """Numbers of the triggers that occur: those above, and the detectors' in their order.

        A lone surrogate, which UTF-8 cannot hold, is a hidden character.
        """
        try:
            data = text.encode()
        except UnicodeEncodeError:
            return [HIDDEN]
        found: list[int] = self._screen.Match(data) or []
        return found

    def occur(self, text: str) -> bool:
        """Whether any literal occurs."""
        data = text.encode(errors="replace")
        return self._pattern is not None and self._pattern.search(data) is not None

    def find(self, text: str) -> list[Match]:
        """The first occurrences; they are a sign, and more of them say no more."""
        found = self._pattern.finditer(text) if self._pattern is not None else ()
        return [Match(CONTROL_LITERAL, *match.span()) for match in islice(found, _MAX_LITERALS)]
