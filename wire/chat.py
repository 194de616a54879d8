"""The OpenAI shapes that edge and worker share: chunks, answers, usage, model list, errors.

Field names follow the OpenAI API reference (chat completions, completions, models). Decoding drops
fields it does not know and gives absent ones their defaults, because every engine leaves out
others. Streaming is the hot path: ``ChunkEncoder`` builds all bytes around the text once per stream
and only escapes the text per token.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from itertools import zip_longest
from struct import pack
from typing import Literal

import msgspec

from wire.errors import SourceUnavailableError

Kind = Literal["chat", "completion"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

DONE = b"data: [DONE]\n\n"
"""Ends a stream, and only one whose answer is whole."""

DONE_DATA = "[DONE]"


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0


class TopLogprob(msgspec.Struct, frozen=True):
    """One alternative for a token. ``bytes`` is its UTF-8, which may be part of a character."""

    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """A chosen token with its natural-log probability, finite, and its alternatives."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Logprobs(msgspec.Struct, frozen=True):
    """Per-token logprobs, in chat form (``content``) or completion form (the other fields)."""

    content: list[TokenLogprob] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class FunctionCall(msgspec.Struct, frozen=True):
    """What is called. ``arguments`` is JSON as the model wrote it."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call in a message."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class FunctionDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of a call: the name comes once, the arguments in pieces."""

    name: str | None = None
    arguments: str | None = None


class ToolCallDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    """A piece of the ``index``-th call of a choice; the first one has the id and the name."""

    index: int = 0
    id: str | None = None
    function: FunctionDelta = FunctionDelta()


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChunkChoice(msgspec.Struct, frozen=True):
    """A choice of a streamed chunk: ``delta`` in chat, ``text`` in a plain completion."""

    index: int = 0
    delta: Delta | None = None
    text: str | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class ChatChunk(msgspec.Struct, frozen=True):
    """A streamed chunk as an engine sent it; ``error`` stands in place of the rest."""

    id: str = ""
    model: str = ""
    choices: list[ChunkChoice] = []
    usage: Usage | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")

    @property
    def failed(self) -> bool:
        return bytes(self.error) != b"null"


class ModelCard(msgspec.Struct, frozen=True):
    """One entry of ``GET /v1/models``. ``created`` is in Unix seconds."""

    id: str
    created: int
    owned_by: str = "headwater"
    object: Literal["model"] = "model"


class ModelList(msgspec.Struct, frozen=True):
    data: list[ModelCard]
    object: Literal["list"] = "list"


class _Error(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | None


_encode = msgspec.json.Encoder().encode
_decode_chunk = msgspec.json.Decoder(ChatChunk).decode


def decode_chunk(data: str | bytes) -> ChatChunk:
    """Read the data of one streamed event.

    Raises:
        SourceUnavailableError: not a chunk. The message holds no text of the answer.
    """
    try:
        return _decode_chunk(data)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise SourceUnavailableError("the engine sent an event that is not a chunk") from error


def encode_models(models: Sequence[ModelCard]) -> bytes:
    return _encode(ModelList(list(models)))


def error_body(message: str, type: str, code: str | None, param: str | None = None) -> bytes:  # noqa: A002 - the field's own name
    """OpenAI's error envelope."""
    return _encode({"error": _Error(message, type, param, code)})


def error_event(message: str, type: str, code: str | None, param: str | None = None) -> bytes:  # noqa: A002 - the field's own name
    """The error envelope as an event: how a stream that broke ends, without ``[DONE]``."""
    return b"data: " + error_body(message, type, code, param) + b"\n\n"


class ChunkEncoder:
    """Encodes the events of one stream. Each method returns one whole event.

    Args:
        id: the answer's id, the same in every chunk.
        model: the model's name as the client shall see it.
        created: Unix seconds.
        kind: ``chat`` gives ``chat.completion.chunk``, ``completion`` gives ``text_completion``.
        index: which of several choices this encodes.
    """

    __slots__ = ("_choice", "_close", "_finish", "_head", "_kind", "_naming", "_open", "_tail")

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's own name
        model: str,
        created: int,
        kind: Kind = "chat",
        index: int = 0,
    ) -> None:
        self._naming = id, model, created, kind, index
        obj = b"chat.completion.chunk" if kind == "chat" else b"text_completion"
        self._kind = kind
        self._head = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":[' % (
            _encode(id),
            obj,
            created,
            _encode(model),
        )
        self._choice = b'{"index":%d,' % index
        opened = self._choice + (b'"delta":{"content":' if kind == "chat" else b'"text":')
        self._close = b"}" if kind == "chat" else b""
        self._open = self._head + opened
        self._tail = self._close + b',"logprobs":null,"finish_reason":null}]}\n\n'
        self._finish = self._choice + (b'"delta":{}' if kind == "chat" else b'"text":""')

    def next(self) -> ChunkEncoder:
        """The encoder of the choice after this one."""
        id_, model, created, kind, index = self._naming
        return ChunkEncoder(id_, model, created, kind, index + 1)

    def role(self) -> bytes:
        """The first chunk of a chat; a plain completion has none (empty bytes)."""
        if self._kind == "completion":
            return b""
        choice = b'"delta":{"role":"assistant","content":""}'
        return self._head + self._choice + choice + b',"logprobs":null,"finish_reason":null}]}\n\n'

    def delta(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> bytes:
        """A run of text, with the logprobs of its tokens where the client asked for them."""
        if logprobs is None:
            return self._open + _encode(text) + self._tail
        shape = logprobs_shape(self._kind, logprobs)
        return b'%b%b%b,"logprobs":%b,"finish_reason":null}]}\n\n' % (
            self._open,
            _encode(text),
            self._close,
            _encode(shape),
        )

    def call(self, index: int, id: str | None, name: str | None, arguments: str) -> bytes:  # noqa: A002 - the field's own name
        """A piece of the ``index``-th call; id and name are given with the first one only."""
        opened = b""
        if id is not None:
            opened = b'"id":%b,"type":"function",' % _encode(id)
        named = b'"name":%b,' % _encode(name) if name is not None else b""
        call = b'"delta":{"tool_calls":[{"index":%d,%b"function":{%b"arguments":%b}}]}' % (
            index,
            opened,
            named,
            _encode(arguments),
        )
        ending = b',"logprobs":null,"finish_reason":null}]}\n\n'
        return self._head + self._choice + call + ending

    def finish(self, reason: str) -> bytes:
        """The last chunk with a choice."""
        return b'%b%b,"logprobs":null,"finish_reason":%b}]}\n\n' % (
            self._head,
            self._finish,
            _encode(reason),
        )

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        """The usage chunk, without choices, as ``stream_options.include_usage`` asks for."""
        return b'%b],"usage":%b}\n\n' % (
            self._head,
            _encode(usage_of(prompt_tokens, completion_tokens)),
        )


def encode_embeddings(
    model: str, vectors: Sequence[Sequence[float]], prompt_tokens: int, *, base64: bool = False
) -> bytes:
    """The answer of ``/v1/embeddings``; in base64 a vector is 32-bit floats, little-endian."""
    shown: Sequence[object] = vectors
    if base64:
        shown = [b64encode(pack(f"<{len(vector)}f", *vector)).decode() for vector in vectors]
    data = [
        {"object": "embedding", "index": index, "embedding": vector}
        for index, vector in enumerate(shown)
    ]
    usage = {"prompt_tokens": prompt_tokens, "total_tokens": prompt_tokens}
    return _encode({"object": "list", "data": data, "model": model, "usage": usage})


def usage_of(prompt_tokens: int, completion_tokens: int) -> Usage:
    """Tokens of prompt and answer, and their sum."""
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)


def logprobs_shape(kind: Kind, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
    """The ``logprobs`` object in the form of the endpoint."""
    if kind == "chat":
        return {"content": list(logprobs), "refusal": None}
    return {
        "tokens": [entry.token for entry in logprobs],
        "token_logprobs": [entry.logprob for entry in logprobs],
        "top_logprobs": [{top.token: top.logprob for top in e.top_logprobs} for e in logprobs],
        "text_offset": None,
    }


def token_logprobs(logprobs: Logprobs) -> list[TokenLogprob]:
    """Per-token logprobs, whichever of the two forms the engine used."""
    if logprobs.content is not None:
        return logprobs.content
    tops = logprobs.top_logprobs or []
    rows = zip_longest(logprobs.tokens or [], logprobs.token_logprobs or [], tops)
    return [
        TokenLogprob(token, value, None, [TopLogprob(t, p) for t, p in (top or {}).items()])
        for token, value, top in rows
        if token is not None and value is not None
    ]
