"""What is asked of a backend: request bodies, written anew from a ``Prompt``. Pure.

Plain chat goes to a worker as token ids; tools, structured output and whatever else the engine has
to render itself goes as messages. Nothing but what the parser allowed stands in a body.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edge_tier.gateway.parse_errors import ParameterUnsupportedError
from edge_tier.gateway.request import Message, Prompt
from wire.journal import JournalWanted

TOOLS, FORMAT, BOTH = "tools", "json_schema", "tools_with_json_schema"
CHOICES, LOGPROBS = "n", "logprobs"
EMBEDDINGS, DIMENSIONS = "embeddings", "dimensions"
TOKEN_IDS = "token_ids"  # noqa: S105 - a feature of workers
_PARAMETERS = {
    TOOLS: "tools",
    FORMAT: "response_format",
    BOTH: "response_format",
    CHOICES: "n",
    LOGPROBS: "logprobs",
    EMBEDDINGS: "input",
    DIMENSIONS: "dimensions",
}
"""Feature → the parameter that asks for it."""
_NOTHING: frozenset[str] = frozenset()
_CHOICES = frozenset({CHOICES})


def required_features(prompt: Prompt) -> frozenset[str]:
    """What a backend must be able to do beyond plain chat and completion, to answer this."""
    if prompt.kind == "embedding":
        return frozenset({EMBEDDINGS} if prompt.dimensions is None else {EMBEDDINGS, DIMENSIONS})
    plain = prompt.n == 1 and not prompt.sampling.logprobs
    if not prompt.engine_renders:
        if plain:
            return _NOTHING
        if not prompt.sampling.logprobs:
            return _CHOICES
    names = {
        CHOICES: prompt.n > 1,
        LOGPROBS: prompt.sampling.logprobs,
        FORMAT: bool(prompt.response_format),
        TOOLS: prompt.engine_renders and (bool(prompt.tools) or _has_calls(prompt)),
        BOTH: bool(prompt.response_format and prompt.tools and prompt.tool_choice != '"none"'),
    }
    return frozenset(name for name, wanted in names.items() if wanted)


def unsupported(model: str, missing: frozenset[str]) -> ParameterUnsupportedError:
    """The refusal of a request that asks for what nothing behind ``model`` can do."""
    param = next((_PARAMETERS[name] for name in _PARAMETERS if name in missing), "model")
    if EMBEDDINGS in missing:
        return ParameterUnsupportedError(f"no backend of {model} gives embeddings", param)
    if missing == {BOTH}:
        return ParameterUnsupportedError(
            f"{model} takes either tools or a response_format, not both", param
        )
    return ParameterUnsupportedError(f"{param} is not supported by any backend of {model}", param)


def by_ids(
    prompt: Prompt,
    model: str,
    ids: tuple[int, ...],
    *,
    max_tokens: int,
    revision: str,
    logprobs_first: int = 0,
    journal: JournalWanted | None = None,
) -> dict[str, Any]:
    """For a worker: token ids, which mean nothing but to the revision they were made for."""
    body = _generation(prompt, model, max_tokens)
    body["revision"] = revision
    if logprobs_first:
        body["logprobs_first"] = logprobs_first
    if journal is not None:
        body["journal"] = journal
    body["prompt_token_ids" if prompt.kind == "chat" else "prompt"] = ids
    return body


def by_text(prompt: Prompt, model: str, *, max_tokens: int) -> dict[str, Any]:
    """For whoever renders the template itself: OpenAI's own fields."""
    if prompt.kind == "embedding":
        body: dict[str, Any] = {"model": model, "input": prompt.inputs}
        body["encoding_format"] = prompt.encoding_format
        if prompt.dimensions is not None:
            body["dimensions"] = prompt.dimensions
        return body
    body = _generation(prompt, model, max_tokens)
    if prompt.kind == "completion":
        body["prompt"] = prompt.text
        return body
    body["messages"] = prompt.messages
    if prompt.engine_renders:
        body["messages"] = [_message(message) for message in prompt.messages]
        _add_tools(body, prompt)
    return body


def _generation(prompt: Prompt, model: str, max_tokens: int) -> dict[str, Any]:
    """The fields that every generation has."""
    body: dict[str, Any] = msgspec.to_builtins(prompt.sampling)
    if prompt.kind == "completion" and body.pop("logprobs", False):
        # The older API asks for a number of alternatives where chat has two fields.
        body["logprobs"] = body.pop("top_logprobs", 0)
    body |= {"model": model, "max_tokens": max_tokens, "stream": prompt.stream}
    if prompt.n > 1:
        body["n"] = prompt.n
    if prompt.stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _add_tools(body: dict[str, Any], prompt: Prompt) -> None:
    """What the parser has written as JSON goes on as it is."""
    for name in ("tools", "tool_choice", "response_format"):
        text: str = getattr(prompt, name)
        if text:
            body[name] = msgspec.Raw(text.encode())
    if prompt.parallel_tool_calls is not None:
        body["parallel_tool_calls"] = prompt.parallel_tool_calls


def _message(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn


def _has_calls(prompt: Prompt) -> bool:
    return any(message.tool_calls or message.tool_call_id for message in prompt.messages)
