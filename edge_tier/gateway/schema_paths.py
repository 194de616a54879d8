"""In how many ways at once a schema can read a text, and whether that is bounded. Pure.

A grammar follows every alternative that fits what was written so far. Alternatives within
alternatives multiply, and references let a small schema nest them without end: llama.cpp of 2026-10
does not come back from 40 definitions that each offer the next one twice. Alternatives of different
types do not count together, because the first character of a value tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ALTERNATIVES = ("anyOf", "oneOf")
_ANY_TYPE = "any"
_MAX_FRAMES = 160
"""Values within values, references followed; each takes a frame of Python's stack."""

Refuse = Callable[[str], Exception]
"""Makes the error that says what is wrong."""


class Paths:
    """Counts the ways of one schema.

    Args:
        definitions: reference → the schema that it leads to, all of them there.
        most: ways that are taken at once.
    """

    def __init__(self, definitions: dict[str, Any], most: int, refuse: Refuse) -> None:
        self._definitions = definitions
        self._most = most
        self._refuse = refuse
        self._known: dict[str, int] = {}
        self._open: list[str] = []
        """References that are being followed, in order."""
        self._consumed: list[bool] = []
        """For each of them: whether something must be written before it is met again."""
        self._recursive: set[str] = set()

    def count(self, schema: Any, frames: int = 0) -> int:
        """Ways to read a value of ``schema``.

        Raises:
            Exception: as ``refuse`` makes it, where they are too many or not bounded.
        """
        if not isinstance(schema, dict):
            return 1
        if frames > _MAX_FRAMES:
            raise self._refuse("is nested too deeply, its $refs followed")
        if isinstance(ref := schema.get("$ref"), str):
            return self._followed(ref, frames)
        ways = max(
            [1, *(self._alternatives(schema[k], frames) for k in _ALTERNATIVES if k in schema)]
        )
        for branch in _list(schema.get("allOf")):
            ways *= self.count(branch, frames + 1)
        ways = max(ways, self._inside(schema, frames))
        if ways > self._most:
            raise self._refuse(f"can be read in more than {self._most} ways at once")
        return ways

    def _followed(self, ref: str, frames: int) -> int:
        if ref in self._open:
            at = self._open.index(ref)
            if not any(self._consumed[at:]):
                raise self._refuse("holds a $ref that leads back to itself")
            self._recursive.update(self._open[at:])
            return 1
        if ref not in self._known:
            self._open.append(ref)
            self._consumed.append(False)
            self._known[ref] = self.count(self._definitions[ref], frames + 1)
            self._open.pop()
            self._consumed.pop()
            if ref in self._recursive and self._known[ref] > 1:
                raise self._refuse("refers to itself and holds alternatives of the same type")
        return self._known[ref]

    def _alternatives(self, branches: Any, frames: int) -> int:
        """Alternatives of one type add up; those that may be of any type count with all."""
        ways: dict[str, int] = {}
        for branch in _list(branches):
            count = self.count(branch, frames + 1)
            for kind in self._types(branch):
                ways[kind] = ways.get(kind, 0) + count
        shared = ways.pop(_ANY_TYPE, 0)
        return shared + max(ways.values(), default=0)

    def _types(self, schema: Any) -> list[str]:
        followed = 0
        while isinstance(schema, dict) and "$ref" in schema and followed < _MAX_FRAMES:
            schema, followed = self._definitions.get(schema["$ref"]), followed + 1
        kind = schema.get("type", _ANY_TYPE) if isinstance(schema, dict) else _ANY_TYPE
        kinds = kind if isinstance(kind, list) else [kind]
        return ["number" if kind == "integer" else kind for kind in kinds]

    def _inside(self, schema: dict[str, Any], frames: int) -> int:
        """Values within an object or a list come one after the other."""
        children: list[Any] = [schema.get("additionalProperties"), schema.get("items")]
        children += _list(schema.get("items")) + _list(schema.get("prefixItems"))
        properties = schema.get("properties")
        if isinstance(properties, dict):
            children += properties.values()
        if self._consumed:
            before, self._consumed[-1] = self._consumed[-1], True
        ways = max([self.count(child, frames + 1) for child in children])
        if self._consumed:
            self._consumed[-1] = before
        return ways


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
