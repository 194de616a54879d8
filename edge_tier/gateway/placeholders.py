"""Reversible placeholders: ``[EMAIL_1]`` goes on for an address, which the answer gets back.

The same value has the same placeholder wherever it stands in a request, numbered per kind in order
of appearance, so that a growing chat keeps its numbers and the engine its cached prefix. Where the
client itself wrote something that looks like a placeholder, all of them carry a random tag, so that
his is not taken for one of ours.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable

_LOOKS_LIKE_ONE = re.compile(r"\[[A-Z][A-Z_]*_\d")
_TAG_BYTES = 3


def _random_tag() -> str:
    return secrets.token_hex(_TAG_BYTES)


class Placeholders:
    """Gives out the placeholders of one request.

    Args:
        texts: everything the client sent, in which no placeholder may occur.
        tag: makes a random tag of letters and digits.
    """

    def __init__(self, texts: Iterable[str], tag: Callable[[], str] = _random_tag) -> None:
        taken = [text for text in texts if "[" in text and _LOOKS_LIKE_ONE.search(text)]
        self._suffix = ""
        while taken and (not self._suffix or any(self._suffix in text for text in taken)):
            self._suffix = f"_{tag()}]"
        self._suffix = self._suffix or "]"
        self._of: dict[tuple[str, str], str] = {}
        self._counts: dict[str, int] = {}

    def of(self, kind: str, value: str) -> str:
        """The placeholder of a value."""
        known = self._of.get((kind, value))
        if known is None:
            count = self._counts[kind] = self._counts.get(kind, 0) + 1
            known = self._of[kind, value] = f"[{kind.upper()}_{count}{self._suffix}"
        return known

    @property
    def restore(self) -> dict[str, str]:
        """Placeholder → value."""
        return {placeholder: value for (_, value), placeholder in self._of.items()}
