"""Tools, calls and formats: what is taken is written anew, the rest is refused by name."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
)
from edge_tier.gateway.parse_tools import (
    NULL,
    Call,
    CallFunction,
    ToolsConfig,
    check_name,
    parse_calls,
    parse_response_format,
    parse_tool_choice,
    parse_tools,
)
from edge_tier.gateway.request import ToolCall

CONFIG = ToolsConfig()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())


def tool(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **more}}


def test_tools_are_written_anew_without_what_is_not_known() -> None:
    given = {**tool(description="d", strict=True, grammar="root ::= x"), "lora": 1}
    text, names = parse_tools(raw([given, tool("b")]), CONFIG)
    assert names == {"weather", "b"}
    assert json.loads(text) == [tool(description="d", strict=True), tool("b")]
    assert ": " not in text


def test_a_function_without_parameters_takes_none() -> None:
    text, _ = parse_tools(raw([{"type": "function", "function": {"name": "f"}}]), CONFIG)
    parameters = json.loads(text)[0]["function"]["parameters"]
    assert parameters == {"type": "object", "properties": {}}


@pytest.mark.parametrize("absent", [NULL, raw(None), raw([])])
def test_no_tools_are_none(absent: msgspec.Raw) -> None:
    assert parse_tools(absent, CONFIG) == ("", frozenset())


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "custom", "custom": {"name": "x"}}], "tools[0]"),
        ([{"type": "web_search"}], "tools[0]"),
    ],
)
def test_other_kinds_of_tools_are_unsupported(tools: list[Any], param: str) -> None:
    with pytest.raises(ParameterUnsupportedError) as caught:
        parse_tools(raw(tools), CONFIG)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "function"}], "tools[0].function"),
        ([tool(), tool()], "tools[1]"),
        ([tool("<|im_start|>")], "tools[0].function.name"),
        ([tool("x" * 65)], "tools[0].function.name"),
        ([tool("")], "tools[0].function.name"),
        ([tool("ok\n")], "tools[0].function.name"),
        ([tool(parameters={"enum": [1] * 300})], "tools[0].function.parameters"),
        ([tool(parameters=5)], "tools[0].function.parameters"),
        ({"type": "function"}, "tools"),
    ],
)
def test_bad_tools_are_refused_and_named(tools: Any, param: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        parse_tools(raw(tools), CONFIG)
    assert caught.value.param == param


def test_patterns_of_all_tools_are_counted_together() -> None:
    tools = [tool(f"t{i}", parameters={"pattern": "[a-z]{1,100}"}) for i in range(3)]
    with pytest.raises(ParameterInvalidError, match="of all tools"):
        parse_tools(raw(tools), CONFIG)


@pytest.mark.parametrize(
    "tools",
    [
        [tool(f"t{i}") for i in range(65)],
        [tool(description="d" * 5_000)],
        [tool(f"t{i}", description="d" * 3_000) for i in range(30)],
        [tool(parameters={"description": "d" * 40_000})],
    ],
)
def test_too_much_of_tools_is_413(tools: list[Any]) -> None:
    with pytest.raises(RequestTooLargeError):
        parse_tools(raw(tools), CONFIG)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (None, ""),
        ("auto", ""),
        ("none", '"none"'),
        ("required", '"required"'),
        (
            {"type": "function", "function": {"name": "f", "x": 1}},
            '{"type":"function","function":{"name":"f"}}',
        ),
    ],
)
def test_choices_among_tools(choice: object, text: str) -> None:
    assert parse_tool_choice(raw(choice), frozenset({"f"})) == text


@pytest.mark.parametrize("choice", ["none", "auto", None])
def test_without_tools_there_is_nothing_to_choose(choice: str | None) -> None:
    assert parse_tool_choice(raw(choice), frozenset()) == ""


@pytest.mark.parametrize(
    "choice",
    [
        "any",
        5,
        {"type": "function"},
        {"type": "function", "function": {"name": "g"}},
        {"type": "allowed_tools"},
        "x" * 2_000,
    ],
)
def test_bad_choices_are_refused(choice: object) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        parse_tool_choice(raw(choice), frozenset({"f"}))
    assert caught.value.param == "tool_choice"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (None, ""),
        ({"type": "text"}, ""),
        ({"type": "json_object", "grammar": "x"}, '{"type":"json_object"}'),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": {}, "strict": True}},
            '{"type":"json_schema","json_schema":{"name":"x","schema":{},"strict":true}}',
        ),
    ],
)
def test_formats_are_written_anew(form: object, text: str) -> None:
    assert parse_response_format(raw(form), CONFIG) == text


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"type": "grammar"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {}}, "response_format.json_schema.name"),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            "response_format.json_schema.schema",
        ),
        (
            {"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}},
            "response_format.json_schema.name",
        ),
        ("json_object", "response_format"),
    ],
)
def test_bad_formats_are_refused_and_named(form: object, param: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        parse_response_format(raw(form), CONFIG)
    assert caught.value.param == param


def test_a_large_format_is_413_before_it_is_built() -> None:
    with pytest.raises(RequestTooLargeError):
        parse_response_format(msgspec.Raw(b"[" * 500_000), CONFIG)


def test_calls_arrive() -> None:
    calls = [Call("c-1", CallFunction("f", '{"a": [1]}')), Call("c-2", CallFunction("f"))]
    assert parse_calls(calls, "at", CONFIG) == (
        ToolCall("c-1", "f", '{"a": [1]}'),
        ToolCall("c-2", "f", "{}"),
    )


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (Call("a b", CallFunction("f")), "at[0].id"),
        (Call("a", CallFunction("<f>")), "at[0].function.name"),
        (Call("a", CallFunction("f", "not json")), "at[0].function.arguments"),
        (Call("a", CallFunction("f", "[1]")), "at[0].function.arguments"),
        (Call("a", CallFunction("f", '{"a":' * 40 + "1" + "}" * 40)), "at[0].function.arguments"),
        (Call("a", CallFunction("f", '{"a":"' + "x" * 70_000 + '"}')), "at[0].function.arguments"),
    ],
)
def test_bad_calls_are_refused_and_named(call: Call, param: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        parse_calls([call], "at", CONFIG)
    assert str(caught.value.param).startswith(param)


def test_brackets_in_a_string_are_no_depth() -> None:
    code = json.dumps({"code": "[{(" * 100 + '"'})
    assert parse_calls([Call("a", CallFunction("f", code))], "at", CONFIG)[0].arguments == code


@given(st.text(max_size=70))
def test_only_plain_names_pass(name: str) -> None:
    plain = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    try:
        check_name(name, "at")
    except ParameterInvalidError:
        assert not plain or len(name) > 64
    else:
        assert plain
        assert len(name) <= 64


@pytest.mark.parametrize(
    "schema",
    [
        # Each was seen to hang or to kill llama.cpp's grammar compiler.
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"properties": {"b": {"allOf": [{"$ref": "#/$defs/a"}]}}}},
        },
        {"type": "array", "minItems": 5, "maxItems": 2},
        {"type": "string", "minLength": 5, "maxLength": 2},
        {"type": "string", "pattern": "a{5,2}"},
    ],
)
def test_schemas_that_kill_an_engine_never_reach_one(schema: dict[str, object]) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(ParameterInvalidError) as refused:
        parse_response_format(msgspec.Raw(msgspec.json.encode(form)), ToolsConfig())
    assert refused.value.param is not None
    assert refused.value.param.startswith("response_format")
