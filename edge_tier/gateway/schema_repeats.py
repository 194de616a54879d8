"""What a schema repeats: lengths, counts and patterns, checked before a grammar is made of them.

A grammar writes a counted repeat out. Seen of llama.cpp (2026-10): a ``minItems`` above its
``maxItems`` and ``a{5,2}`` take gigabytes and never end, because the difference is taken unsigned;
``(a|){1000}`` never ends, because each of the thousand may be nothing. Meanwhile every other
request of that engine waits, and its ``/health`` says that all is well.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

from edge_tier.gateway.parse_errors import ParameterInvalidError

_RANGES = (
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minimum", "maximum"),
    ("exclusiveMinimum", "exclusiveMaximum"),
    ("minimum", "exclusiveMaximum"),
    ("exclusiveMinimum", "maximum"),
)
_COUNTS = frozenset({"minLength", "maxLength", "minItems", "maxItems", "minProperties"})
_BRACES = re.compile(r"\{(\d{0,9})(,?)(\d{0,9})\}")
_UNWRITTEN = 2_000
"""A longer repeat is not written out."""


def check_ranges(schema: dict[str, Any], at: str) -> int:
    """Check the pairs of bounds of one schema; how much a grammar writes out for them.

    Raises:
        ParameterInvalidError: a lower bound above its upper one, or a bound that is no number.
    """
    for low, high in _RANGES:
        least, most = schema.get(low), schema.get(high)
        if least is None or most is None:
            continue
        if not (_is_number(least) and _is_number(most)):
            _refuse(at, f"{low} and {high} must be numbers")
        if least > most:
            _refuse(at, f"{low} is above {high}")
    counts = [schema[name] for name in _COUNTS & schema.keys()]
    return sum(min(int(count), _UNWRITTEN) for count in counts if _is_number(count) and count > 0)


def check_repeats(pattern: str, at: str) -> int:
    """Check the quantifiers of a regular expression; how much a grammar writes out for them.

    Raises:
        ParameterInvalidError: a group that looks around, ``{5,2}``, or a repeat of what may be
            nothing.
    """
    written = 0
    open_groups = [_Group()]
    nullable, index = True, 0
    while index < len(pattern):
        char = pattern[index]
        if char == "(":
            index = _behind_opening(pattern, index, at)
            open_groups.append(_Group())
            continue
        group = open_groups[-1]
        if char == "|":
            group.next_alternative()
            index += 1
            continue
        if char == ")" and len(open_groups) > 1:
            nullable, index = open_groups.pop().nullable, index + 1
        else:
            nullable, index = _atom(pattern, index)
        least, most, index = _quantifier(pattern, index, at)
        if nullable and most > 1:
            _refuse(at, "a pattern repeats what may be nothing")
        written += most if most > 1 else 0
        open_groups[-1].append(nullable or least == 0)
    return written


class _Group:
    """Whether the alternatives of a group that is being read may be nothing."""

    __slots__ = ("_any", "_current")

    def __init__(self) -> None:
        self._any, self._current = False, True

    def append(self, nullable: bool) -> None:
        self._current = self._current and nullable

    def next_alternative(self) -> None:
        self._any, self._current = self._any or self._current, True

    @property
    def nullable(self) -> bool:
        return self._any or self._current


def _behind_opening(pattern: str, index: int, at: str) -> int:
    if pattern[index + 1 : index + 2] != "?":
        return index + 1
    if pattern[index + 1 : index + 3] != "?:":
        _refuse(at, "a pattern with a group that looks around cannot be held to")
    return index + 3


def _atom(pattern: str, index: int) -> tuple[bool, int]:
    """Whether the atom at ``index`` may be nothing, and where it ends."""
    char = pattern[index]
    if char == "\\":
        return pattern[index + 1 : index + 2] in {"b", "B", ""}, index + 2
    if char != "[":
        return char in "^$", index + 1
    end = index + 1
    while end < len(pattern) and pattern[end] != "]":
        end += 2 if pattern[end] == "\\" else 1
    return False, end + 1


def _quantifier(pattern: str, index: int, at: str) -> tuple[int, int, int]:
    """Least and most repeats of the atom before ``index``, and where it goes on behind them.

    More than one quantifier on an atom, as ``a?{3}``, repeats what the first gives.
    """
    least = most = 1
    while index < len(pattern):
        low, high, end = _one_quantifier(pattern, index)
        if end == index:
            break
        if low > high:
            _refuse(at, "a pattern repeats something at least more often than at most")
        if least == 0 and high > 1:
            _refuse(at, "a pattern repeats what may be nothing")
        least, most, index = least * low, most * max(1, high), end
    return least, most, index


def _one_quantifier(pattern: str, index: int) -> tuple[int, int, int]:
    char = pattern[index]
    if char in "?*+":
        return (1 if char == "+" else 0), (1 if char == "?" else 2), index + 1
    braces = _BRACES.match(pattern, index)
    if braces is None:
        return 1, 1, index
    low = int(braces[1] or 0)
    high = int(braces[3]) if braces[3] else max(low, 2) if braces[2] else low
    return low, high, braces.end()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _refuse(at: str, why: str) -> NoReturn:
    raise ParameterInvalidError(f"{at}: {why}", at)
