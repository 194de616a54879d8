"""Schemas that a grammar compiler may be given, and those that it must never see."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.parse_errors import ParameterInvalidError, ParameterUnsupportedError
from edge_tier.gateway.parse_schema import SchemaConfig, check_pattern, check_schema
from tests.fakes.cpu import least_cpu_s

CONFIG = SchemaConfig()
TREE = {
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
        }
    },
    "$ref": "#/$defs/tree",
}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


def objects(properties: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {} for i in range(properties)}}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        TREE,
        nested(20),
        objects(256),
        {"type": ["string", "null"], "maxLength": 1_000_000},
        {"enum": list(range(256))},
        {"type": "object", "properties": {"enum": {"type": "string"}, "$ref": {}, "type": {}}},
        {"const": {"type": "banana", "$ref": 5}},
        {"type": "integer", "minimum": -5, "maximum": 10**12},
        {"type": "string", "pattern": r"^[a-z+*]{2,8}-(?:\d{4}|x)\.(y|z)?$"},
    ],
)
def test_sensible_schemas_are_taken(schema: dict[str, Any]) -> None:
    check_schema(schema, "s", CONFIG)


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        (True, "an object"),
        (None, "an object"),
        (nested(10_000), "deep"),
        (objects(257), "properties"),
        ({"enum": ["x"] * 257}, "enum"),
        ({"anyOf": [{"enum": [1] * 200}, {"enum": [1] * 200}]}, "enum"),
        ({"anyOf": [{"type": "string"}] * 2_000}, "values"),
        ({"type": "array", "minItems": 100_000}, "minItems"),
        ({"type": "array", "maxItems": 10**9}, "maxItems"),
        ({"type": "string", "minLength": -1}, "minLength"),
        ({"type": "string", "minLength": "x"}, "minLength"),
        ({"type": "banana"}, "type"),
        ({"type": 5}, "type"),
        ({"$ref": "#/$defs/nowhere"}, "not there"),
        (
            {
                "$ref": "#/$defs/a",
                "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
            },
            "back to itself",
        ),
        ({"pattern": "x" * 257}, "256 characters"),
        ({"pattern": 5}, "pattern"),
    ],
)
def test_schemas_beyond_a_bound_are_refused(schema: Any, why: str) -> None:
    with pytest.raises(ParameterInvalidError, match=why) as caught:
        check_schema(schema, "response_format", CONFIG)
    assert (caught.value.param, caught.value.status) == ("response_format", 400)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "http://127.0.0.1/x.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": ["#/$defs/a"]},
        {"patternProperties": {"^x": {}}},
    ],
)
def test_what_no_grammar_can_hold_to_is_unsupported(schema: dict[str, Any]) -> None:
    with pytest.raises(ParameterUnsupportedError) as caught:
        check_schema(schema, "s", CONFIG)
    assert "passwd" not in caught.value.message


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("^(a+)+$", "itself repeats"),
        ("((a{1,5}){1,5}){1,5}", "itself repeats"),
        ("(x(a*)b)*", "itself repeats"),
        ("(?:a?){2}", "itself repeats"),
        ("a*" * 9, "8 quantifiers"),
        (".*" * 30, "8 quantifiers"),
    ],
)
def test_patterns_that_multiply_are_refused(pattern: str, why: str) -> None:
    with pytest.raises(ParameterInvalidError, match=why):
        check_pattern(pattern, "s", CONFIG)


@pytest.mark.parametrize(
    "patterns",
    [
        ["a{1,100000}"],
        ["a{" + "9" * 200 + "}"],
        ["(a|b|.){0,33}"],
        ["[ -~]{0,128}"] * 3,
        [".*" * 4] * 65,
    ],
)
def test_patterns_of_a_schema_are_counted_together(patterns: list[str]) -> None:
    schema = {"allOf": [{"pattern": pattern} for pattern in patterns]}
    with pytest.raises(ParameterInvalidError, match="cost more than 256"):
        check_schema(schema, "s", CONFIG)


@pytest.mark.parametrize(
    "pattern", [r"\(a+\)+", "[(a+)]+x", "(a+)", "(ab)+", "(a|b){2,3}", "a{x", r"[\]+]*", "(?:ab)*"]
)
def test_what_only_looks_like_them_is_taken(pattern: str) -> None:
    check_pattern(pattern, "s", CONFIG)


@given(st.text("ab()[]{}*+?\\|,0129", max_size=60))
def test_any_pattern_is_taken_or_refused(pattern: str) -> None:
    def check() -> None:
        with suppress(ParameterInvalidError):
            check_pattern(pattern, "s", CONFIG)

    assert least_cpu_s(check, 0.02) < 0.02


def test_many_references_are_followed_in_linear_time() -> None:
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(100)}
    schema = {"$defs": {**links, "d100": {}}, "allOf": [{"$ref": "#/$defs/d0"}] * 100}
    assert least_cpu_s(lambda: check_schema(schema, "s", CONFIG), 0.02) < 0.02
