"""Where in a policy file something stands, for errors. Pure.

A TOML reader gives values without their lines, so the line is looked for again, by table and key.
It is found as long as the file is written in tables, as the examples are; else errors name the
policy and the key only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_HEADER = re.compile(
    r"\s*\[\[?\s*policies\s*\.\s*\"?([^\s\".\]]+)\"?\s*(?:\.\s*(\w+))?[\s.\w\"]*\]"
)
_PAIR = re.compile(r"\s*\"?(\w+)\"?\s*=\s*(.*)")
_UNKNOWN = re.compile(r"unknown field `([^`]+)`")
_PATH = re.compile(r"at `\$(?:\.(\w+))?(?:\[(\d+)\])?(?:\.(\w+))?")
_NAMED = re.compile(r"(?:route (row)s?|content (rule)|named) (?:'([^']+)'|\"([^\"]+)\")")
_NO_KIND = re.compile(r"personal_kinds has no kind '([^']+)'")
_FIRST_WORD = re.compile(r"\w+")
_LOOKED_AT = 256
"""Characters of a line; keys and names stand at its beginning."""


class _Place(NamedTuple):
    """A key in a policy."""

    key: str
    table: str = ""
    """Within the policy; empty: the policy's own."""
    number: int | None = None
    """Which of several such tables; None: any."""
    value: str = ""
    """How the value begins, as a pattern."""


def line_of(text: str, policies: Iterable[str], problem: str) -> int | None:
    """The line, from 1 on, of what an error complains about; None where it is not found.

    Args:
        policies: the policy with the problem, then those that it extends, nearest first.
        problem: msgspec's words, or ours about a row, a rule or a key.
    """
    policies = tuple(policies)
    place = _place(problem)
    for policy in policies:
        line = _find(text, policy, place)
        if line is not None:
            return line
    return _find(text, policies[0], _Place(""))


def _place(problem: str) -> _Place:
    if (kind := _NO_KIND.search(problem)) is not None:
        return _Place(kind[1], "personal_kinds")
    if (named := _NAMED.search(problem)) is not None:
        value = rf"[\"']{re.escape(named[3] or named[4])}[\"']"
        return _Place("name", "content" if named[2] else "routes", value=value)
    path, unknown = _PATH.search(problem), _UNKNOWN.search(problem)
    if path is None:
        word = _FIRST_WORD.match(problem)
        return _Place(unknown[1] if unknown is not None else word[0] if word is not None else "")
    table, number, key = path[1] or "", path[2], path[3] or ""
    key = unknown[1] if unknown is not None else key
    if number is None and not key:
        return _Place(table)
    return _Place(key, table, int(number) if number else None)


def _find(text: str, policy: str, place: _Place) -> int | None:
    """The line of the key, or else of its table; without a key, of the policy."""
    here, table = "", ""
    seen: Counter[str] = Counter()
    value = re.compile(place.value)
    table_line = None
    for line, content in enumerate(text.splitlines(), 1):
        head = content[:_LOOKED_AT]
        if (header := _HEADER.match(head)) is not None:
            here, table = header[1], header[2] or ""
            if here == policy:
                if not place.table and table and table == place.key:
                    return line
                seen[table] += 1
                if not place.value and _is_table(place, table, seen[table]):
                    table_line = table_line or line
        elif here == policy and (pair := _PAIR.match(head)) is not None:
            inside = _is_table(place, table, seen[table])
            if inside and pair[1] == place.key and value.match(pair[2]):
                return line
            if place.table and not table and pair[1] == place.table:
                return line  # written inline: personal_kinds = { ... }
    return table_line if place.table or not place.key else None


def _is_table(place: _Place, table: str, count: int) -> bool:
    return table == place.table and (place.number is None or count == place.number + 1)
