"""Tools, calls and response formats of a request, checked and written anew as compact JSON.

Only the fields below are taken (OpenAI API reference, chat completions); the JSON that goes on is
made of them, so nothing else in a client's JSON ever reaches an engine. A function's name stands in
the prompt between control tokens, so it must be of OpenAI's own plain form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import msgspec

from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
    decode,
)
from edge_tier.gateway.parse_schema import SchemaConfig, check_schema
from edge_tier.gateway.request import ToolCall
from edge_tier.gateway.schema_growth import GrowthConfig, check_growth

NULL = msgspec.Raw(b"null")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_ALIKE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(code for code in range(256) if code not in b"[]{}")
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
_MAX_SMALL_BYTES = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolsConfig:
    """Bounds on what a request says of tools and formats."""

    max_tools: int = 64
    """Of one request; more are refused (413)."""
    max_bytes: int = 65_536
    """Of the whole ``tools`` list."""
    max_description_chars: int = 4_096
    """Of one tool."""
    max_calls: int = 32
    """Calls of one message."""
    max_arguments_chars: int = 65_536
    """Of one call."""
    schema: SchemaConfig = field(default_factory=SchemaConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)


class _Function(msgspec.Struct, omit_defaults=True):
    name: str
    description: str | None = None
    parameters: Any = None
    strict: bool | None = None


class _Tool(msgspec.Struct):
    type: str
    function: _Function | None = None


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    type: str
    function: _Named | None = None


class _JsonSchema(msgspec.Struct, omit_defaults=True):
    name: str
    description: str | None = None
    schema: Any = None
    strict: bool | None = None


class _Format(msgspec.Struct, omit_defaults=True):
    type: str
    json_schema: _JsonSchema | None = None


class CallFunction(msgspec.Struct):
    name: str
    arguments: str = ""


class Call(msgspec.Struct):
    """A call in a message, as it is decoded."""

    id: str
    function: CallFunction
    type: Literal["function"] = "function"


_TOOLS = msgspec.json.Decoder(list[_Tool])
_CHOICE: msgspec.json.Decoder[str | _Choice] = msgspec.json.Decoder(str | _Choice)
_FORMAT = msgspec.json.Decoder(_Format)
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode


def parse_tools(raw: msgspec.Raw, config: ToolsConfig) -> tuple[str, frozenset[str]]:
    """The ``tools`` list as JSON (empty: none), and the names of its functions.

    Raises:
        ParameterInvalidError, ParameterUnsupportedError, RequestTooLargeError: see ``param``.
    """
    if is_null(raw):
        return "", frozenset()
    _check_bytes(raw, "tools", config.max_bytes)
    tools = decode(_TOOLS, raw, "tools")
    if len(tools) > config.max_tools:
        raise RequestTooLargeError(f"tools holds more than {config.max_tools} tools", "tools")
    names: set[str] = set()
    cost = written_out = 0
    for index, tool in enumerate(tools):
        weight = _check_tool(tool, f"tools[{index}]", config)
        cost, written_out = cost + weight.patterns, written_out + weight.written_out
        if cost > config.schema.max_pattern_cost:
            raise ParameterInvalidError(
                f"patterns of all tools cost more than {config.schema.max_pattern_cost}", "tools"
            )
        if written_out > config.growth.max_written_out:
            raise ParameterInvalidError(
                f"all tools together repeat more than {config.growth.max_written_out} times",
                "tools",
            )
        assert tool.function is not None
        if tool.function.name in names:
            raise ParameterInvalidError("two tools have the same name", f"tools[{index}]")
        names.add(tool.function.name)
    return (_encode(tools).decode() if tools else ""), frozenset(names)


def _check_tool(tool: _Tool, at: str, config: ToolsConfig) -> _Weight:
    if tool.type != "function":
        raise ParameterUnsupportedError(f"{at}: only tools of type function are supported", at)
    function = tool.function
    if function is None:
        raise ParameterInvalidError(f"{at}.function is required", f"{at}.function")
    check_name(function.name, f"{at}.function.name")
    if len(function.description or "") > config.max_description_chars:
        raise RequestTooLargeError(
            f"a tool's description has at most {config.max_description_chars} characters",
            f"{at}.function.description",
        )
    # Templates and engines expect a schema also where a function takes nothing.
    parameters = _NO_PARAMETERS if function.parameters is None else function.parameters
    function.parameters = parameters
    where = f"{at}.function.parameters"
    return _check_schema(parameters, where, config)


def parse_tool_choice(raw: msgspec.Raw, names: frozenset[str]) -> str:
    """``tool_choice`` as JSON; empty where the engine's default is meant.

    Raises:
        ParameterInvalidError, ParameterUnsupportedError: no choice among the tools.
    """
    if is_null(raw):
        return ""
    _check_bytes(raw, "tool_choice", _MAX_SMALL_BYTES)
    choice = decode(_CHOICE, raw, "tool_choice")
    if isinstance(choice, str):
        if choice not in {"none", "auto", "required"}:
            raise ParameterInvalidError(
                "tool_choice is none, auto, required or names a function", "tool_choice"
            )
        if not names:
            if choice == "required":
                raise ParameterInvalidError("tool_choice needs tools", "tool_choice")
            return ""
        return "" if choice == "auto" else f'"{choice}"'
    if choice.type != "function":
        raise ParameterUnsupportedError(
            "tool_choice names one function; other kinds are not supported", "tool_choice"
        )
    if choice.function is None or choice.function.name not in names:
        raise ParameterInvalidError("tool_choice names none of the tools", "tool_choice")
    return _encode(choice).decode()


def parse_response_format(raw: msgspec.Raw, config: ToolsConfig) -> str:
    """``response_format`` as JSON; empty where free text is meant.

    Raises:
        ParameterInvalidError, ParameterUnsupportedError, RequestTooLargeError: see ``param``.
    """
    at = "response_format"
    if is_null(raw):
        return ""
    _check_bytes(raw, at, config.schema.max_bytes + _MAX_SMALL_BYTES)
    form = decode(_FORMAT, raw, at)
    if form.type == "text":
        return ""
    if form.type == "json_object":
        return '{"type":"json_object"}'
    if form.type != "json_schema":
        raise ParameterUnsupportedError(
            f"{at}.type is text, json_object or json_schema", f"{at}.type"
        )
    at = f"{at}.json_schema"
    if form.json_schema is None:
        raise ParameterInvalidError(f"{at} is required", at)
    check_name(form.json_schema.name, f"{at}.name")
    _check_schema(form.json_schema.schema, f"{at}.schema", config)
    return _encode(form).decode()


def parse_calls(calls: Sequence[Call], at: str, config: ToolsConfig) -> tuple[ToolCall, ...]:
    """The calls that an assistant's turn made.

    Raises:
        ParameterInvalidError, RequestTooLargeError: see ``param``.
    """
    if len(calls) > config.max_calls:
        raise RequestTooLargeError(f"{at} holds more than {config.max_calls} calls", at)
    return tuple([_call(call, f"{at}[{i}]", config) for i, call in enumerate(calls)])


def _call(call: Call, at: str, config: ToolsConfig) -> ToolCall:
    check_name(call.id, f"{at}.id")
    check_name(call.function.name, f"{at}.function.name")
    arguments, where = call.function.arguments or "{}", f"{at}.function.arguments"
    if len(arguments) > config.max_arguments_chars:
        raise RequestTooLargeError(
            f"{where} has more than {config.max_arguments_chars} characters", where
        )
    # An engine that renders a call parses this, and fails as a whole where it is no JSON.
    decode(_OBJECT, arguments, where)
    _check_depth(arguments, where, config.schema.max_depth)
    return ToolCall(call.id, call.function.name, arguments)


def check_name(name: str, at: str) -> None:
    """Names and ids are of letters, digits, ``_`` and ``-``, at most 64.

    Raises:
        ParameterInvalidError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise ParameterInvalidError(f"{at} is 1 to 64 letters, digits, underscores and dashes", at)


def is_null(raw: msgspec.Raw) -> bool:
    """Whether a field was left out, or is ``null``."""
    return raw is NULL or bytes(raw) == b"null"


class _Weight(NamedTuple):
    """What a schema asks of whoever makes a grammar of it."""

    patterns: int
    written_out: int


def _check_schema(schema: Any, at: str, config: ToolsConfig) -> _Weight:
    """First what bounds its size and depth, then how a grammar of it would grow."""
    cost = check_schema(schema, at, config.schema)
    if len(_encode(schema)) > config.schema.max_bytes:
        raise RequestTooLargeError(f"{at} is larger than {config.schema.max_bytes} B", at)
    return _Weight(cost, check_growth(schema, at, config.growth))


def _check_bytes(raw: msgspec.Raw, at: str, most: int) -> None:
    if len(memoryview(raw)) > most:
        raise RequestTooLargeError(f"{at} is larger than {most} B", at)


def _check_depth(text: str, at: str, most: int) -> None:
    """Of valid JSON, in passes over its brackets alone: each takes the innermost values away."""
    brackets = _STRINGS.sub(b"", text.encode(errors="replace")).translate(_ALIKE, _NO_BRACKETS)
    for _ in range(most):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise ParameterInvalidError(f"{at} is nested more than {most} deep", at)
