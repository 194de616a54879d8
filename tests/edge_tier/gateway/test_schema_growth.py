"""Schemas of ordinary clients, and small ones of which an engine would never finish a grammar."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.parse_errors import ParameterInvalidError
from edge_tier.gateway.schema_growth import GrowthConfig, check_growth
from tests.fakes.cpu import least_cpu_s

Schema = dict[str, Any]
STRING: Schema = {"type": "string"}
NULL: Schema = {"type": "null"}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def defined(**defs: Schema) -> Schema:
    """A schema that begins with the first of its definitions."""
    return {**ref(next(iter(defs))), "$defs": defs}


def chained(depth: int, link: Any) -> Schema:
    """Definitions of which each is made of the next by ``link``."""
    chain = {f"d{i}": link(ref(f"d{i + 1}")) for i in range(depth)}
    return defined(**chain, **{f"d{depth}": {"type": "object", "properties": {"x": STRING}}})


def list_of(item: Schema) -> Schema:
    return {"type": "array", "items": item}


def one_of(*alternatives: Schema) -> Schema:
    return {"anyOf": list(alternatives)}


def with_member(**members: Schema) -> Schema:
    return {"type": "object", "properties": members, "required": list(members)}


ANY_JSON = one_of(
    STRING,
    {"type": ["number", "boolean", "null"]},
    list_of(ref("value")),
    {"type": "object", "additionalProperties": ref("value")},
)

ORDINARY = {
    "nothing said": {},
    "an object": with_member(name=STRING, age={"type": "integer", "minimum": 0, "maximum": 150}),
    "optional members": with_member(**{f"m{i}": one_of(STRING, NULL) for i in range(60)}),
    "an enum": {"enum": [f"{i}" for i in range(256)]},
    "a tree": defined(tree=with_member(children=list_of(ref("tree")))),
    "a tree at the root": with_member(children=list_of({"$ref": "#"})),
    "a linked list": defined(node=with_member(next=one_of(ref("node"), NULL))),
    "an expression": defined(
        e=one_of(with_member(left=ref("e"), right=ref("e")), {"type": "number"})
    ),
    "any JSON": defined(value=ANY_JSON),
    "events by kind": list_of(one_of(*(with_member(kind={"const": f"{i}"}) for i in range(40)))),
    "one allOf, as pydantic writes it": {
        "$defs": {"a": with_member(x=STRING)},
        **with_member(a={"allOf": [ref("a")], "description": "d"}),
    },
    "a member named $ref": with_member(**{"$ref": STRING, "anyOf": STRING}),
    "values that look like schemas": {"const": {"$ref": "nowhere", "anyOf": [{}]}},
    "shared definitions": chained(20, lambda d: with_member(p=d, q=d)),
}

ENDLESS = {
    # Each of these hangs or kills an engine process of llama.cpp, and was seen to.
    "lists of itself, twice": (defined(a=one_of(list_of(ref("a")), list_of(ref("a")))), "alike"),
    "types that overlap": (
        defined(a=one_of(list_of(ref("a")), {"type": ["array", "null"], "items": ref("a")})),
        "alike",
    ),
    "doubled references": (chained(30, lambda d: one_of(d, d)), "open at once"),
    "doubled lists": (chained(30, lambda d: one_of(list_of(d), list_of(d))), "open at once"),
    "doubled allOf": (
        chained(20, lambda d: with_member(p={"allOf": [d]}, q={"allOf": [d]})),
        "by allOf",
    ),
    "an allOf of itself inside": (defined(a=with_member(b={"allOf": [ref("a")]})), "copies"),
    "an anyOf of itself in an allOf": (
        defined(a=with_member(b={"allOf": [one_of(ref("a"))]})),
        "copies",
    ),
    "one type twice": (
        {"type": ["array", "array"], "items": {"type": ["array", "array"], "items": STRING}},
        "a type twice",
    ),
    "bounds that cross": (list_of({"type": "array", "minItems": 5, "maxItems": 2}), "is above"),
    "a pattern that crosses": (with_member(a={"pattern": "a{5,2}"}), "at least more often"),
    "a pattern of nothing": (one_of({"pattern": "(a|){1000}"}), "nothing"),
    "bounded numbers": (
        one_of(*({"type": "integer", "minimum": i, "maximum": 10**17 + i} for i in range(400))),
        "open at once",
    ),
    # These only take long.
    "many alternatives": (one_of(*({"const": i} for i in range(1_000))), "alternatives"),
    "strings beside strings": (one_of(*([{"enum": ["a", "b"]}] * 200)), "open at once"),
    "long patterns": ({"pattern": "a{0,200}b{0,200}"}, "pattern of more"),
    "long strings": (
        with_member(**{f"m{i}": {"type": "string", "minLength": 1_000} for i in range(101)}),
        "repeats",
    ),
    # These no grammar can hold to.
    "nothing but itself": (defined(a=one_of(ref("a"), NULL)), "nothing in between"),
    "a circle of references": (defined(a=ref("b"), b=ref("a")), "nothing in between"),
    "no such definition": (ref("a"), "nowhere"),
    "another document": ({"items": {"$ref": "https://example.com/a.json"}}, "nowhere"),
    "a reference that is no text": ({"$ref": 5}, "nowhere"),
}


@pytest.mark.parametrize("schema", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_schemas_are_taken(schema: Schema) -> None:
    assert check_growth(schema, "s") == 0


@pytest.mark.parametrize(("schema", "why"), ENDLESS.values(), ids=ENDLESS)
def test_schemas_that_grow_are_refused(schema: Schema, why: str) -> None:
    with pytest.raises(ParameterInvalidError, match=why) as caught:
        check_growth(schema, "response_format")
    assert caught.value.param == "response_format"


def test_repeats_are_summed_for_a_bound_on_several_schemas() -> None:
    assert check_growth(with_member(a={"minLength": 3}, b={"pattern": "a{4}"}), "s") == 7


def test_bounds_are_configured() -> None:
    schema = {**one_of(STRING, {"type": "string", "maxLength": 9}), "allOf": [STRING]}
    exact = {"max_ways": 3, "max_alternatives": 3, "max_written_out": 9, "max_copies": 4}
    check_growth(schema, "s", GrowthConfig(**exact))

    for name, most in exact.items():
        with pytest.raises(ParameterInvalidError):
            check_growth(schema, "s", GrowthConfig(**{**exact, name: most - 1}))


SAID = ["type", "anyOf", "allOf", "$ref", "properties", "items", "enum", "const", "pattern"]
BOUNDS = ["minItems", "maxItems", "minimum", "additionalProperties", "$defs", "a"]
KEYWORDS = st.sampled_from([*SAID, *BOUNDS])
VALUES = st.recursive(
    st.sampled_from([None, True, 3, -1, 2.5, "a", "array", "object", "#", "#/$defs/a", "(a|)*"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYWORDS, inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(KEYWORDS, VALUES, max_size=6))
def test_whatever_stands_in_a_schema_is_taken_or_refused(schema: Schema) -> None:
    with suppress(ParameterInvalidError):
        assert check_growth(schema, "s") >= 0


@pytest.mark.parametrize(
    "schema",
    [
        one_of(*({} for _ in range(1_000))),
        one_of(*(list_of({}) for _ in range(500))),
        {**with_member(**{f"m{i}": {} for i in range(250)}), **one_of(*({} for _ in range(500)))},
        {"$defs": {f"d{i}": {"prefixItems": [ref(f"d{j}") for j in range(22)]} for i in range(22)}}
        | ref("d0"),
    ],
    ids=["alternatives", "lists", "members", "dense"],
)
def test_the_check_itself_is_short(schema: Schema) -> None:
    def check() -> None:
        with suppress(ParameterInvalidError):
            check_growth(schema, "s")

    assert least_cpu_s(check, 0.02) < 0.02
