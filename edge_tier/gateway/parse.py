"""The parse stage: the JSON body of a request to a checked ``Prompt``.

Decoding goes into allow-listed structs (OpenAI API reference: chat completions, completions and
embeddings), so a field that is not named here never goes further:

- *taken*: the fields of ``Prompt`` and ``Sampling``, each checked for type and range
  (``parse_fields``), tools and response formats written anew (``parse_tools``);
- *refused* (400, ``unsupported_parameter``): fields that would change the answer in a way this
  version cannot honour (audio, images, ``functions``, …), unless they ask for the default;
- *dropped*: everything else, both what is harmless (``metadata``, ``store``, ``service_tier``,
  ``prediction``, a message's ``name``) and what is hostile (``n_discard``, ``slot_id``, ``lora``).
  What is sent upstream is written anew from the ``Prompt``.

Nothing here loops over the body in Python before its counts are known, so a hostile megabyte costs
milliseconds (``tests/edge_tier/gateway/test_parse.py`` holds the bound).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from edge_tier.gateway.parse_errors import (
    ParameterInvalidError,
    ParameterUnsupportedError,
    RequestTooLargeError,
    decode,
)
from edge_tier.gateway.parse_fields import (
    Common,
    ParseConfig,
    check_chars,
    check_range,
    checked_model,
    checked_user,
    choices,
    include_usage,
    max_tokens,
    sampling,
)
from edge_tier.gateway.parse_tools import (
    NULL,
    Call,
    check_name,
    parse_calls,
    parse_response_format,
    parse_tool_choice,
    parse_tools,
)
from edge_tier.gateway.request import Message, Prompt, ToolCall

__all__ = ["ParseConfig", "parse_chat", "parse_completion", "parse_embedding"]

_MAX_TOP_LOGPROBS = 20
_MAX_DIMENSIONS = 65_536


class _Part(msgspec.Struct):
    type: str
    text: str | None = None


class _Message(msgspec.Struct):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[_Part] | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    function_call: msgspec.Raw = NULL
    audio: msgspec.Raw = NULL


class _Chat(Common, kw_only=True):
    messages: list[_Message]
    logprobs: bool | None = None
    tools: msgspec.Raw = NULL
    tool_choice: msgspec.Raw = NULL
    parallel_tool_calls: bool | None = None
    response_format: msgspec.Raw = NULL
    functions: msgspec.Raw = NULL
    function_call: msgspec.Raw = NULL
    modalities: msgspec.Raw = NULL
    audio: msgspec.Raw = NULL
    reasoning_effort: msgspec.Raw = NULL
    verbosity: msgspec.Raw = NULL
    web_search_options: msgspec.Raw = NULL


class _Completion(Common, kw_only=True):
    prompt: msgspec.Raw
    logprobs: int | None = None
    best_of: msgspec.Raw = NULL
    echo: msgspec.Raw = NULL
    suffix: msgspec.Raw = NULL


class _Embedding(msgspec.Struct):
    model: str
    input: msgspec.Raw
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


_HARMLESS: dict[str, tuple[object, ...]] = {
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": (["text"],),
    "audio": (),
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""Unsupported fields, and the values that ask for no more than what happens anyway."""
_MAX_HARMLESS_BYTES = 64

_CHAT = msgspec.json.Decoder(_Chat)
_COMPLETION = msgspec.json.Decoder(_Completion)
_EMBEDDING = msgspec.json.Decoder(_Embedding)
_TEXTS: msgspec.json.Decoder[str | list[str]] = msgspec.json.Decoder(str | list[str])
_ANY: msgspec.json.Decoder[Any] = msgspec.json.Decoder()

_CHAT_UNSUPPORTED = tuple(name for name in _Chat.__struct_fields__ if name in _HARMLESS)
_COMPLETION_UNSUPPORTED = tuple(name for name in _Completion.__struct_fields__ if name in _HARMLESS)
_MESSAGE_UNSUPPORTED = ("function_call", "audio")


def parse_chat(body: bytes, config: ParseConfig) -> Prompt:
    """Read the body of ``POST /v1/chat/completions``.

    Raises:
        ParameterInvalidError: not JSON, or a field of the wrong type or out of range (``param``).
        ParameterUnsupportedError: a field that this version cannot honour.
        RequestTooLargeError: the body, its text, or a list in it is beyond ``config``.
    """
    fields = decode(_CHAT, _bounded(body, config))
    _refuse_unsupported(fields, _CHAT_UNSUPPORTED, "")
    if fields.top_logprobs is not None and not fields.logprobs:
        raise ParameterInvalidError("top_logprobs needs logprobs to be true", "top_logprobs")
    tools, tool_choice, response_format = _tools(fields, config)
    return Prompt(
        kind="chat",
        model=checked_model(fields.model, config),
        messages=_messages(fields.messages, config),
        tools=tools,
        tool_choice=tool_choice,
        parallel_tool_calls=fields.parallel_tool_calls if tools else None,
        response_format=response_format,
        n=choices(fields, config),
        sampling=sampling(fields, bool(fields.logprobs), fields.top_logprobs, config),
        max_tokens=max_tokens(fields, config),
        stream=bool(fields.stream),
        include_usage=include_usage(fields),
        user=checked_user(fields.user, config),
    )


def parse_completion(body: bytes, config: ParseConfig) -> Prompt:
    """Read the body of ``POST /v1/completions``. Raises as ``parse_chat`` does."""
    fields = decode(_COMPLETION, _bounded(body, config))
    _refuse_unsupported(fields, _COMPLETION_UNSUPPORTED, "")
    check_range(fields.logprobs, "logprobs", 0, _MAX_TOP_LOGPROBS)
    return Prompt(
        kind="completion",
        model=checked_model(fields.model, config),
        text=_completion_text(fields.prompt, config),
        n=choices(fields, config),
        sampling=sampling(fields, fields.logprobs is not None, fields.logprobs, config),
        max_tokens=max_tokens(fields, config),
        stream=bool(fields.stream),
        include_usage=include_usage(fields),
        user=checked_user(fields.user, config),
    )


def parse_embedding(body: bytes, config: ParseConfig) -> Prompt:
    """Read the body of ``POST /v1/embeddings``. Raises as ``parse_chat`` does."""
    fields = decode(_EMBEDDING, _bounded(body, config))
    check_range(fields.dimensions, "dimensions", 1, _MAX_DIMENSIONS)
    return Prompt(
        kind="embedding",
        model=checked_model(fields.model, config),
        inputs=_inputs(fields.input, config),
        encoding_format=fields.encoding_format or "float",
        dimensions=fields.dimensions,
        user=checked_user(fields.user, config),
    )


def _bounded(body: bytes, config: ParseConfig) -> bytes:
    if len(body) > config.max_body_bytes:
        raise RequestTooLargeError(f"the body is larger than {config.max_body_bytes} B")
    return body


def _refuse_unsupported(fields: msgspec.Struct, names: Iterable[str], at: str) -> None:
    for name in names:
        raw = getattr(fields, name)
        if raw is NULL:
            continue
        path = f"{at}.{name}" if at else name
        # Every harmless value is short, so a long one need not be built to be refused.
        if len(bytes(raw)) > _MAX_HARMLESS_BYTES or not _is_harmless(name, raw, path):
            raise ParameterUnsupportedError(f"{path} is not supported by this server", path)


def _is_harmless(name: str, raw: msgspec.Raw, path: str) -> bool:
    value = decode(_ANY, raw, path)
    # The type counts too: JSON's true is not 1.
    return value is None or any(
        type(value) is type(allowed) and value == allowed for allowed in _HARMLESS[name]
    )


def _tools(fields: _Chat, config: ParseConfig) -> tuple[str, str, str]:
    """Tools, the choice among them, and the form of the answer."""
    if fields.tools is fields.tool_choice is fields.response_format is NULL:
        return "", "", ""
    tools, names = parse_tools(fields.tools, config.tools)
    tool_choice = parse_tool_choice(fields.tool_choice, names)
    return tools, tool_choice, parse_response_format(fields.response_format, config.tools)


def _messages(turns: list[_Message], config: ParseConfig) -> tuple[Message, ...]:
    if not turns:
        raise ParameterInvalidError("messages must hold at least one message", "messages")
    if len(turns) > config.max_messages:
        raise RequestTooLargeError(f"more than {config.max_messages} messages", "messages")
    calls = [call for turn in turns for call in turn.tool_calls or ()]
    chars = sum([len(call.function.arguments) for call in calls])
    if calls:
        # Each is looked through, so what is too much is refused before.
        check_chars(chars, "messages", config)
    messages = tuple([_message(turn, index, config) for index, turn in enumerate(turns)])
    check_chars(chars + sum([len(m.content) for m in messages]), "messages", config)
    return messages


def _message(turn: _Message, index: int, config: ParseConfig) -> Message:
    if turn.function_call is not NULL or turn.audio is not NULL:
        _refuse_unsupported(turn, _MESSAGE_UNSUPPORTED, f"messages[{index}]")
    content = turn.content
    if turn.tool_calls or turn.tool_call_id is not None:
        calls, call_id = _calls(turn, f"messages[{index}]", config)
        if content is None and calls:
            content = ""
        text = content if isinstance(content, str) else _parts(content, index, config)
        return Message(turn.role, text, calls, call_id)
    return Message(
        turn.role, content if isinstance(content, str) else _parts(content, index, config)
    )


def _calls(turn: _Message, at: str, config: ParseConfig) -> tuple[tuple[ToolCall, ...], str]:
    """Calls of an assistant's turn, and which call a tool's turn answers."""
    calls: tuple[ToolCall, ...] = ()
    if turn.tool_calls:
        if turn.role != "assistant":
            raise ParameterInvalidError(
                f"{at}: only an assistant makes tool calls", f"{at}.tool_calls"
            )
        calls = parse_calls(turn.tool_calls, f"{at}.tool_calls", config.tools)
    if turn.role != "tool" or turn.tool_call_id is None:
        return calls, ""
    check_name(turn.tool_call_id, f"{at}.tool_call_id")
    return calls, turn.tool_call_id


def _parts(parts: list[_Part] | None, index: int, config: ParseConfig) -> str:
    """Text parts are joined by a line end, as llama.cpp and vLLM join them."""
    at = f"messages[{index}].content"
    if parts is None:
        raise ParameterInvalidError(f"{at} is required", at)
    if len(parts) > config.max_parts:
        raise RequestTooLargeError(f"{at} holds more than {config.max_parts} parts", at)
    return "\n".join(_part_text(part, f"{at}[{i}]") for i, part in enumerate(parts))


def _part_text(part: _Part, at: str) -> str:
    if part.type != "text":
        # Images, audio and files too: nothing that a prompt names is ever fetched.
        raise ParameterUnsupportedError(f"{at}: only text parts are supported", at)
    if part.text is None:
        raise ParameterInvalidError(f"{at}.text is required", f"{at}.text")
    return part.text


def _completion_text(raw: msgspec.Raw, config: ParseConfig) -> str:
    # Token ids from outside could be control tokens, so a prompt is text only.
    value = decode(_TEXTS, raw, "prompt")
    if isinstance(value, list):
        if len(value) != 1:
            raise ParameterUnsupportedError("prompt must be one string", "prompt")
        value = value[0]
    check_chars(len(value), "prompt", config)
    return value


def _inputs(raw: msgspec.Raw, config: ParseConfig) -> tuple[str, ...]:
    value = decode(_TEXTS, raw, "input")
    inputs = (value,) if isinstance(value, str) else tuple(value)
    if len(inputs) > config.max_inputs:
        raise RequestTooLargeError(f"input holds more than {config.max_inputs} texts", "input")
    if not inputs or not all(inputs):
        raise ParameterInvalidError("input is one or more texts, none of them empty", "input")
    check_chars(sum(map(len, inputs)), "input", config)
    return inputs
