"""Puts personal data back in an answer where the model wrote their placeholders. Sans-IO.

A placeholder may be split over any number of events, so the end of a piece is held back as long as
it could still become one: at most the longest placeholder but one character, and only from a
``[`` on.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Mapping

_CANDIDATE = re.compile(r"\[[A-Z][A-Za-z0-9_]{0,62}\]")


class Restorer:
    """Restores one stream of text.

    Args:
        mapping: placeholder → value, as ``sanitize`` gave it.
        in_json: the text is JSON in which placeholders stand inside strings (arguments of a
            call), so values are written as JSON wants them.
    """

    blocked = ""
    flagged: tuple[str, ...] = ()
    """Restoring ends no answer and reports nothing."""

    def __init__(self, mapping: Mapping[str, str], *, in_json: bool = False) -> None:
        self._values = {
            placeholder: json.dumps(value)[1:-1] if in_json else value
            for placeholder, value in mapping.items()
        }
        self._sorted = sorted(mapping)
        self._held = ""

    @property
    def holding(self) -> bool:
        return bool(self._held)

    def feed(self, text: str) -> str:
        """The text that may go on now."""
        if not self._held and "[" not in text:
            return text
        text = self._held + text
        at = text.rfind("[")
        if at < 0 or not self._may_become_one(text[at:]):
            at = len(text)
        self._held = text[at:]
        return _CANDIDATE.sub(self._value, text[:at])

    def flush(self) -> str:
        """What was held back; the text has ended."""
        held, self._held = self._held, ""
        return held

    def _may_become_one(self, tail: str) -> bool:
        place = bisect_left(self._sorted, tail)
        if place == len(self._sorted) or not self._sorted[place].startswith(tail):
            return False
        return self._sorted[place] != tail

    def _value(self, match: re.Match[str]) -> str:
        return self._values.get(match[0], match[0])


def restored(text: str, mapping: Mapping[str, str], *, in_json: bool = False) -> str:
    """A whole text with its values put back."""
    restorer = Restorer(mapping, in_json=in_json)
    return restorer.feed(text) + restorer.flush()
