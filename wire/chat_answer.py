"""A whole answer, put together from the events of a stream.

Choices, and calls within them, arrive interleaved; each is kept by its index. Everything that a
backend could make long is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wire.chat import (
    DONE_DATA,
    ChunkChoice,
    FunctionCall,
    Kind,
    TokenLogprob,
    ToolCall,
    Usage,
    decode_chunk,
    logprobs_shape,
    token_logprobs,
    usage_of,
)
from wire.errors import SourceUnavailableError

_DONE_BYTES = DONE_DATA.encode()
MAX_CHOICES = 128
MAX_CALLS = 128
"""Calls of one choice."""
MAX_ANSWER_CHARS = 4 * 1024 * 1024
"""Default bound on the text of one accumulated answer."""

_encode = msgspec.json.Encoder().encode


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
        self._chars = 0
        self._choices = {0: _Choice()}
        self._usage: Usage | None = None

    @property
    def finished(self) -> bool:
        return all(choice.finish_reason is not None for choice in self._choices.values())

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
        for choice in chunk.choices:
            self._take(choice)
        if chunk.usage is not None:
            self._usage = chunk.usage

    def text(
        self, text: str, logprobs: Sequence[TokenLogprob] | None = None, index: int = 0
    ) -> None:
        """Append a run of text. Raises ``SourceUnavailableError`` beyond the bound."""
        self._count(len(text))
        choice = self._at(index)
        choice.texts.append(text)
        if logprobs:
            choice.logprobs += logprobs

    def call(
        self,
        call: int,
        id: str | None,  # noqa: A002 - the field's own name
        name: str | None,
        arguments: str,
        index: int = 0,
    ) -> None:
        """Append a piece of a call. Raises ``SourceUnavailableError`` beyond the bounds."""
        self._count(len(arguments) + len(name or ""))
        calls = self._at(index).calls
        if call not in calls and len(calls) >= MAX_CALLS:
            raise SourceUnavailableError(f"the engine makes more than {MAX_CALLS} calls")
        piece = calls.setdefault(call, _Call())
        piece.id = piece.id or id or ""
        piece.name = piece.name or name or ""
        piece.arguments.append(arguments)

    def finish(self, reason: str, index: int = 0) -> None:
        self._at(index).finish_reason = reason

    def usage(self, prompt_tokens: int, completion_tokens: int) -> None:
        self._usage = usage_of(prompt_tokens, completion_tokens)

    def body(self) -> bytes:
        """The answer: ``chat.completion`` or ``text_completion``."""
        answer = {
            "id": self._id,
            "object": "chat.completion" if self._kind == "chat" else "text_completion",
            "created": self._created,
            "model": self._model,
            "choices": [self._shape(index) for index in sorted(self._choices)],
            "usage": self._usage or Usage(),
        }
        return _encode(answer)

    def _shape(self, index: int) -> dict[str, object]:
        choice = self._choices[index]
        text = "".join(choice.texts)
        logprobs = logprobs_shape(self._kind, choice.logprobs) if choice.logprobs else None
        ending = {"logprobs": logprobs, "finish_reason": choice.finish_reason}
        if self._kind != "chat":
            return {"index": index, "text": text, **ending}
        message: dict[str, object] = {"role": "assistant", "content": text, "refusal": None}
        if choice.calls:
            message["content"] = text or None
            message["tool_calls"] = [choice.calls[at].whole() for at in sorted(choice.calls)]
        return {"index": index, "message": message, **ending}

    def _at(self, index: int) -> _Choice:
        if not 0 <= index < MAX_CHOICES:
            raise SourceUnavailableError(f"the engine gives more than {MAX_CHOICES} choices")
        return self._choices.setdefault(index, _Choice())

    def _count(self, chars: int) -> None:
        self._chars += chars
        if self._chars > self._max_answer_chars:
            raise SourceUnavailableError(
                f"the engine's answer is longer than {self._max_answer_chars} characters"
            )

    def _take(self, choice: ChunkChoice) -> None:
        content = choice.delta.content if choice.delta is not None else None
        text = choice.text if self._kind == "completion" else content
        logprobs = token_logprobs(choice.logprobs) if choice.logprobs is not None else None
        if text or logprobs:
            self.text(text or "", logprobs, choice.index)
        for call in (choice.delta.tool_calls if choice.delta is not None else None) or ():
            function = call.function
            self.call(call.index, call.id, function.name, function.arguments or "", choice.index)
        if choice.finish_reason is not None:
            self.finish(choice.finish_reason, choice.index)


class _Call:
    """A call whose pieces arrive one after the other."""

    __slots__ = ("arguments", "id", "name")

    def __init__(self) -> None:
        self.id = self.name = ""
        self.arguments: list[str] = []

    def whole(self) -> ToolCall:
        return ToolCall(self.id, FunctionCall(self.name, "".join(self.arguments)))


class _Choice:
    """What has arrived of one choice."""

    __slots__ = ("calls", "finish_reason", "logprobs", "texts")

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.logprobs: list[TokenLogprob] = []
        self.calls: dict[int, _Call] = {}
        self.finish_reason: str | None = None
