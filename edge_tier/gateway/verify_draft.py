"""Reads answers out of streams, sans-IO: the local draft, and what the cloud says about it."""

from __future__ import annotations

from dataclasses import dataclass

from edge_tier.gateway.event_blocks import EventBlocks, data_of
from wire.chat import DONE_DATA, Usage, decode_chunk
from wire.errors import SourceUnavailableError
from wire.sse import MAX_EVENT_BYTES

MAX_DRAFT_CHARS = 32 * 1024
MAX_SILENT_EVENTS = 4_096
"""So many events in a row that say nothing are a flood, no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A local answer that nobody has seen yet.

    ``whole``: the model came to its end (or to the client's ``max_tokens``). One that is not whole
    broke, or was too long to be held, and is of no use.
    """

    text: str = ""
    finish_reason: str = "stop"
    tokens: int = 0
    whole: bool = False


class AnswerReader:
    """Follows one stream of chunks (of the first choice only)."""

    def __init__(self) -> None:
        self.finish_reason = ""
        """Empty until the stream has named one."""
        self.ended = False
        """``[DONE]`` was seen."""
        self.broken = False
        """The stream reported an error, or is none of chunks. Nothing is read after that."""
        self._blocks = EventBlocks(max_block_bytes=MAX_EVENT_BYTES)
        self._pieces = self._silent = 0
        self._usage: Usage | None = None

    @property
    def tokens(self) -> int:
        """Tokens of the answer: the engine's own count, else the pieces that came."""
        return max(self._pieces, self._usage.completion_tokens if self._usage is not None else 0)

    def feed(self, data: bytes) -> list[str]:
        """The pieces of text that ``data`` completes."""
        if self.broken or self.ended:
            return []
        texts = []
        for block in self._blocks.feed(data):
            event = data_of(block)
            self._silent += 1
            if event == DONE_DATA.encode():
                self.ended = True
            elif event is not None and (text := self._chunk(event)):
                texts.append(text)
                self._silent = 0
            elif self._silent > MAX_SILENT_EVENTS:
                self.broken = True
            if self.broken or self.ended:
                break
        self.broken = self.broken or self._blocks.oversized
        self._pieces += len(texts)
        return texts

    def _chunk(self, data: bytes) -> str:
        try:
            chunk = decode_chunk(data)
        except SourceUnavailableError:
            self.broken = True
            return ""
        if chunk.failed:
            self.broken = True
            return ""
        if chunk.usage is not None:
            self._usage = chunk.usage
        text = ""
        for choice in chunk.choices:
            if choice.index == 0:
                self.finish_reason = choice.finish_reason or self.finish_reason
                text += (choice.delta.content if choice.delta is not None else choice.text) or ""
        return text


class DraftCollector:
    """Holds a local answer, bounded, until it is whole."""

    def __init__(self, *, max_chars: int = MAX_DRAFT_CHARS) -> None:
        self.useless = False
        """The stream broke or is too long: it need not be read any further."""
        self._max_chars = max_chars
        self._reader = AnswerReader()
        self._texts: list[str] = []
        self._chars = 0

    @property
    def ended(self) -> bool:
        """Nothing more is to be expected."""
        return self.useless or self._reader.ended

    def feed(self, data: bytes) -> None:
        """Take a piece of the local stream."""
        if self.useless:
            return
        texts = self._reader.feed(data)
        self._texts += texts
        self._chars += sum(map(len, texts))
        self.useless = self._reader.broken or self._chars > self._max_chars

    def draft(self) -> Draft:
        """What came, when the stream is over."""
        if self.useless or not self._reader.finish_reason:
            return Draft(tokens=self._reader.tokens)
        text = "".join(self._texts)
        reason, tokens = self._reader.finish_reason, self._reader.tokens
        return Draft(text=text, finish_reason=reason, tokens=tokens, whole=bool(text.strip()))
