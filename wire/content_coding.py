"""Which compressed form of a content a client is given (RFC 9110 section 12.5.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

IDENTITY = "identity"
_MAX_ELEMENTS = 32
"""Elements of a field that are read; a browser sends four."""
_ELEMENT = re.compile(
    r"[ \t]*(?P<coding>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,40})[ \t]*"
    r"(?:;[ \t]*[qQ]=(?P<q>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
_ALIASES = {"x-gzip": "gzip"}
"""Names that are equivalent (section 8.4.1.3)."""


def accepted(field: str) -> dict[str, float]:
    """The weight of each coding that an ``Accept-Encoding`` field names, from 0 to 1. An element
    that is malformed is no element; of a coding that is named twice the first counts."""
    weights: dict[str, float] = {}
    for element in field.split(",", _MAX_ELEMENTS)[:_MAX_ELEMENTS]:
        found = _ELEMENT.fullmatch(element)
        if found is None:
            continue
        coding = found["coding"].lower()
        weights.setdefault(_ALIASES.get(coding, coding), float(found["q"] or 1))
    return weights


def choose(field: str | None, offered: Sequence[str]) -> str | None:
    """The coding to answer with; ``identity`` for none.

    A client that says nothing gets the content as it is. Otherwise the heaviest coding wins, and
    the first of those that weigh the same; the content as it is only where the client says that it
    prefers it, or takes nothing else.

    Args:
        field: the ``Accept-Encoding`` field, or None where there is none.
        offered: codings that are at hand, the best first; without ``identity``.

    Returns:
        None where the client takes nothing that there is (406).
    """
    if field is None:
        return IDENTITY
    weights = accepted(field)
    best, best_weight = IDENTITY, weights.get(IDENTITY, 0.0)
    for coding in offered:
        weight = _weight(weights, coding)
        if weight > best_weight or (weight == best_weight > 0 and best == IDENTITY):
            best, best_weight = coding, weight
    if best_weight > 0:
        return best
    return IDENTITY if _takes_identity(weights) else None


def _weight(weights: Mapping[str, float], coding: str) -> float:
    return weights.get(coding, weights.get("*", 0.0))


def _takes_identity(weights: Mapping[str, float]) -> bool:
    """It always is, unless it is excluded by name, or by a ``*`` that nothing more special
    corrects."""
    return weights.get(IDENTITY, weights.get("*", 1.0)) > 0
