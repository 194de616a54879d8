"""What llama.cpp is told of tools and of the form of an answer, sans-IO.

What was seen of it (2026-10): a template without a place for tools drops them silently, and a named
function is taken for a hint.
"""

from __future__ import annotations

from typing import Any

import msgspec

from gpu_worker.engine import EngineRefusedError, Generation


class _TemplateCaps(msgspec.Struct, frozen=True):
    supports_tools: bool = False
    supports_tool_calls: bool = False


class Props(msgspec.Struct, frozen=True):
    """The answer of ``GET /props``."""

    chat_template_caps: _TemplateCaps = _TemplateCaps()


class _Function(msgspec.Struct, frozen=True):
    name: str
    parameters: msgspec.Raw = msgspec.Raw(b'{"type":"object"}')


class _Tool(msgspec.Struct, frozen=True):
    function: _Function


class _NamedFunction(msgspec.Struct, frozen=True):
    name: str


class _Named(msgspec.Struct, frozen=True):
    """A ``tool_choice`` that names a function."""

    function: _NamedFunction


def features(props: Props, *, embeddings: bool) -> frozenset[str]:
    """What an engine with this template can do beyond plain chat."""
    caps = props.chat_template_caps
    names = {
        "logprobs": True,
        "token_ids": True,
        "json_schema": True,
        "tools": caps.supports_tools and caps.supports_tool_calls,
        "embeddings": embeddings,
    }
    return frozenset(name for name, can in names.items() if can)


def add_tools(fields: dict[str, Any], request: Generation) -> str:
    """Add tools and the form of the answer; returns the function that must be called, if one must.

    llama.cpp takes a named function for a hint. So its parameters become the grammar of the whole
    answer, and the answer its arguments.

    Raises:
        EngineRefusedError: tools together with a form, or a function that is none of the tools.
    """
    if request.response_format:
        fields["response_format"] = msgspec.Raw(request.response_format.encode())
    if not request.tools:
        return ""
    tools = _decode_tools(request.tools)
    fields["tools"] = msgspec.Raw(request.tools.encode())
    if request.tool_choice == '"none"':
        fields["tool_choice"] = "none"
        return ""
    if request.response_format:
        raise EngineRefusedError("give either tools or a response_format")
    forced = _forced(request.tool_choice, [tool.function.name for tool in tools])
    if forced:
        schema = next(tool.function.parameters for tool in tools if tool.function.name == forced)
        form = {"name": forced, "schema": schema}
        fields["tool_choice"] = "none"
        fields["response_format"] = {"type": "json_schema", "json_schema": form}
        return forced
    if request.tool_choice:
        fields["tool_choice"] = msgspec.Raw(request.tool_choice.encode())
    if request.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.parallel_tool_calls
    return ""


def _forced(choice: str, names: list[str]) -> str:
    """The one function that ``tool_choice`` leaves; empty: the model may choose."""
    if choice == '"required"' and len(names) == 1:
        return names[0]
    if not choice.startswith("{"):
        return ""
    try:
        name = msgspec.json.decode(choice, type=_Named).function.name
    except msgspec.DecodeError as error:
        raise EngineRefusedError("tool_choice cannot be read") from error
    if name not in names:
        raise EngineRefusedError("tool_choice names none of the tools")
    return name


def _decode_tools(text: str) -> list[_Tool]:
    try:
        return msgspec.json.decode(text, type=list[_Tool])
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineRefusedError("tools cannot be read") from error
