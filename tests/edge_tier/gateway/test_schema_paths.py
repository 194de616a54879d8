"""Alternatives within alternatives: counted, and bounded."""

from __future__ import annotations

from typing import Any

import pytest

from edge_tier.gateway.schema_paths import Paths


class TooMuchError(Exception):
    """What the counting refuses."""


def ways(schema: dict[str, Any], most: int = 64) -> int:
    named = {f"#/$defs/{name}": value for name, value in schema.get("$defs", {}).items()}
    return Paths(named, most, TooMuchError).count(schema)


def fan(depth: int, step: str = "anyOf") -> dict[str, Any]:
    """Each definition offers the next one twice."""
    links = {
        f"d{i}": {
            step: [
                {"type": "object", "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}}}
                for _ in range(2)
            ]
        }
        for i in range(depth)
    }
    return {"$defs": {**links, f"d{depth}": {"type": "string"}}, "$ref": "#/$defs/d0"}


STRINGS = {"anyOf": [{"type": "string"}, {"type": "string", "maxLength": 3}]}
ANY_JSON = {
    "$defs": {
        "value": {
            "anyOf": [
                {"type": "array", "items": {"$ref": "#/$defs/value"}},
                {"type": "object", "additionalProperties": {"$ref": "#/$defs/value"}},
                {"type": ["string", "null", "number", "boolean"]},
            ]
        }
    },
    "$ref": "#/$defs/value",
}


@pytest.mark.parametrize(
    ("schema", "count"),
    [
        ({}, 1),
        ({"type": "string"}, 1),
        (STRINGS, 2),
        ({"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}]}, 1),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, 2),
        ({"anyOf": [{"type": "string"}, {"enum": ["x"]}, {"type": "null"}]}, 2),
        ({"anyOf": [STRINGS, STRINGS]}, 4),
        ({"allOf": [STRINGS, STRINGS]}, 4),
        ({"type": "object", "properties": {"a": STRINGS, "b": STRINGS}}, 2),
        ({"type": "array", "items": {"anyOf": [STRINGS, {"type": "array", "items": STRINGS}]}}, 4),
        (fan(5), 32),
        (ANY_JSON, 1),
    ],
)
def test_ways_are_counted(schema: dict[str, Any], count: int) -> None:
    assert ways(schema) == count


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (fan(7), "more than 64 ways"),
        (fan(100), "nested too deeply"),
        ({"anyOf": [{"type": "string"}] * 65}, "more than 64 ways"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "back to itself"),
        (
            {
                "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}},
                "$ref": "#/$defs/a",
            },
            "back to itself",
        ),
        (
            {
                "$defs": {"a": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/a"}}] * 2}},
                "$ref": "#/$defs/a",
            },
            "refers to itself",
        ),
        (
            {
                "$defs": {
                    "a": {"type": "array", "items": {"$ref": "#/$defs/b"}},
                    "b": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]},
                },
                "$ref": "#/$defs/b",
            },
            "refers to itself",
        ),
    ],
)
def test_what_multiplies_is_refused(schema: dict[str, Any], why: str) -> None:
    with pytest.raises(TooMuchError, match=why):
        ways(schema)
