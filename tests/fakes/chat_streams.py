"""Streams of chat chunks as our worker writes them, and pieces of them as a network gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import strategies as st

from wire.chat import DONE, ChunkEncoder, TokenLogprob

ENCODER = ChunkEncoder("chatcmpl-1", "edge-small", 1_700_000_000)


def event(text: str, *logprobs: float) -> bytes:
    """One event of text, with the logprobs of its tokens where there are any."""
    if not logprobs:
        return ENCODER.delta(text)
    return ENCODER.delta(text, [TokenLogprob(text, value, [1, 2]) for value in logprobs])


def stream(*events: bytes, finish: str = "stop", usage: tuple[int, int] | None = None) -> bytes:
    """A whole answer."""
    counts = ENCODER.usage(*usage) if usage is not None else b""
    return ENCODER.role() + b"".join(events) + ENCODER.finish(finish) + counts + DONE


def answer(texts: Iterable[str], logprob: float | None = None) -> bytes:
    """A whole answer, a token each."""
    values = () if logprob is None else (logprob,)
    return stream(*(event(text, *values) for text in texts))


def read(events: bytes) -> tuple[str, str, bool]:
    """The text of a stream, its finish reason, and whether it ended as a whole one does."""
    text, reason, done = "", "", False
    for block in events.split(b"\n\n"):
        data = block.removeprefix(b"data: ")
        if data == b"[DONE]":
            done = True
        elif data and not data.startswith(b":"):
            for choice in json.loads(data).get("choices", []):
                text += choice["delta"].get("content") or ""
                reason = choice["finish_reason"] or reason
    return text, reason, done


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """``data`` cut at ``places``; no piece is empty, as none from a socket is."""
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges) if start < end]


PLACES = st.lists(st.integers(0, 10_000), max_size=12)
