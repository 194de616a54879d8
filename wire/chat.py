"""The OpenAI shapes that edge and worker share: chunks, answers, usage, model list, errors.

Field names follow the OpenAI API reference (chat completions, completions, models). Decoding drops
fields it does not know and gives absent ones their defaults, because every engine leaves out
others. Streaming is the hot path: ``ChunkEncoder`` builds all bytes around the text once per stream
and only escapes the text per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Literal

import msgspec

from wire.errors import SourceUnavailableError

Kind = Literal["chat", "completion"]
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]

DONE = b"data: [DONE]\n\n"
"""Ends a stream, and only one whose answer is whole."""

DONE_DATA = "[DONE]"
_DONE_BYTES = b"[DONE]"
MAX_ANSWER_CHARS = 4 * 1024 * 1024
"""Default bound on the text of one accumulated answer."""


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


class Delta(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str | None = None
    content: str | None = None


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
    """

    __slots__ = ("_close", "_finish", "_head", "_kind", "_open", "_tail")

    def __init__(self, id: str, model: str, created: int, kind: Kind = "chat") -> None:  # noqa: A002 - the field's own name
        obj = b"chat.completion.chunk" if kind == "chat" else b"text_completion"
        self._kind = kind
        self._head = b'data: {"id":%b,"object":"%b","created":%d,"model":%b,"choices":[' % (
            _encode(id),
            obj,
            created,
            _encode(model),
        )
        opened = b'{"index":0,"delta":{"content":' if kind == "chat" else b'{"index":0,"text":'
        self._close = b"}" if kind == "chat" else b""
        self._open = self._head + opened
        self._tail = self._close + b',"logprobs":null,"finish_reason":null}]}\n\n'
        self._finish = b'{"index":0,"delta":{}' if kind == "chat" else b'{"index":0,"text":""'

    def role(self) -> bytes:
        """The first chunk of a chat; a plain completion has none (empty bytes)."""
        if self._kind == "completion":
            return b""
        choice = b'{"index":0,"delta":{"role":"assistant","content":""}'
        return self._head + choice + b',"logprobs":null,"finish_reason":null}]}\n\n'

    def delta(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> bytes:
        """A run of text, with the logprobs of its tokens where the client asked for them."""
        if logprobs is None:
            return self._open + _encode(text) + self._tail
        shape = _logprobs(self._kind, logprobs)
        return b'%b%b%b,"logprobs":%b,"finish_reason":null}]}\n\n' % (
            self._open,
            _encode(text),
            self._close,
            _encode(shape),
        )

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
            _encode(_usage(prompt_tokens, completion_tokens)),
        )


class AnswerAccumulator:
    """Builds the non-streaming answer from the events of a stream.

    Fill it with ``feed`` (the data of an engine's events) or with ``text``, ``finish`` and
    ``usage``; then ``body`` gives the JSON. ``finished`` says whether the stream named a finish
    reason: an answer without one is broken and must not be sent as whole.
    """

    def __init__(
        self,
        id: str,  # noqa: A002 - the field's own name
        model: str,
        created: int,
        kind: Kind = "chat",
        *,
        max_answer_chars: int = MAX_ANSWER_CHARS,
    ) -> None:
        self._id = id
        self._model = model
        self._created = created
        self._kind = kind
        self._max_answer_chars = max_answer_chars
        self._texts: list[str] = []
        self._chars = 0
        self._logprobs: list[TokenLogprob] = []
        self._finish_reason: str | None = None
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        return self._finish_reason is not None

    def feed(self, data: str | bytes) -> None:
        """Take the data of one event; ``[DONE]`` is allowed and changes nothing.

        Raises:
            SourceUnavailableError: not a chunk, an error event, or an answer beyond
                ``max_answer_chars``.
        """
        if data in (DONE_DATA, _DONE_BYTES):
            return
        chunk = decode_chunk(data)
        if chunk.failed:
            raise SourceUnavailableError("the engine broke off with an error event")
        for choice in chunk.choices[:1]:
            self._choice(choice)
        if chunk.usage is not None:
            self._usage = chunk.usage

    def text(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> None:
        """Append a run of text. Raises ``SourceUnavailableError`` beyond the bound."""
        self._chars += len(text)
        if self._chars > self._max_answer_chars:
            raise SourceUnavailableError(
                f"the engine's answer is longer than {self._max_answer_chars} characters"
            )
        self._texts.append(text)
        if logprobs:
            self._logprobs += logprobs

    def finish(self, reason: str) -> None:
        self._finish_reason = reason

    def usage(self, prompt_tokens: int, completion_tokens: int) -> None:
        self._usage = _usage(prompt_tokens, completion_tokens)

    def body(self) -> bytes:
        """The answer: ``chat.completion`` or ``text_completion``."""
        text = "".join(self._texts)
        logprobs = _logprobs(self._kind, self._logprobs) if self._logprobs else None
        ending = {"logprobs": logprobs, "finish_reason": self._finish_reason}
        if self._kind == "chat":
            message = {"role": "assistant", "content": text, "refusal": None}
            name, choice = "chat.completion", {"index": 0, "message": message, **ending}
        else:
            name, choice = "text_completion", {"index": 0, "text": text, **ending}
        answer = {
            "id": self._id,
            "object": name,
            "created": self._created,
            "model": self._model,
            "choices": [choice],
            "usage": self._usage or Usage(),
        }
        return _encode(answer)

    def _choice(self, choice: ChunkChoice) -> None:
        content = choice.delta.content if choice.delta is not None else None
        text = choice.text if self._kind == "completion" else content
        logprobs = _token_logprobs(choice.logprobs) if choice.logprobs is not None else None
        if text or logprobs:
            self.text(text or "", logprobs)
        if choice.finish_reason is not None:
            self.finish(choice.finish_reason)


def _usage(prompt_tokens: int, completion_tokens: int) -> Usage:
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)


def _logprobs(kind: Kind, logprobs: Sequence[TokenLogprob]) -> dict[str, object]:
    """The ``logprobs`` object in the form of the endpoint."""
    if kind == "chat":
        return {"content": list(logprobs), "refusal": None}
    return {
        "tokens": [entry.token for entry in logprobs],
        "token_logprobs": [entry.logprob for entry in logprobs],
        "top_logprobs": [{top.token: top.logprob for top in e.top_logprobs} for e in logprobs],
        "text_offset": None,
    }


def _token_logprobs(logprobs: Logprobs) -> list[TokenLogprob]:
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
