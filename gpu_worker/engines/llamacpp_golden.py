"""What llama.cpp is asked for a golden probe, and what it answers, sans-IO.

One short exchange for each prompt, not a stream: the native ``/completion`` names every chosen
token by its id there, the control token that ends an answer too (llama.cpp
``tools/server/README.md``, ``n_probs``; checked against xllamacpp 2026.10). The log-probabilities
are the model's own, before any sampling. What is not a number is ``null`` in JSON, and so a
malformed answer.

What was seen of it: a token that is only a part of a character has no entry, so an answer counts up
to the first of those; ``tokens`` tells where that is.
"""

from __future__ import annotations

from itertools import takewhile

import msgspec

from gpu_worker.engine import EngineBrokenError
from wire.golden import ALTERNATIVES, GoldenToken, SeenToken

PATH = "/completion"
_FIELDS = ("tokens", "completion_probabilities")


class _Likely(msgspec.Struct, frozen=True):
    id: int
    logprob: float


class _Entry(msgspec.Struct, frozen=True):
    id: int
    logprob: float
    bytes: list[int] = []
    top_logprobs: list[_Likely] = []


class _Answer(msgspec.Struct, frozen=True):
    completion_probabilities: list[_Entry] = []
    tokens: list[int] = []


_decoder = msgspec.json.Decoder(_Answer)


def question(prompt: tuple[int, ...], max_tokens: int) -> bytes:
    """The body that asks for a greedy answer. The cache of prompts is left out: what an earlier
    request left there would be another order of sums."""
    return msgspec.json.encode(
        {
            "prompt": prompt,
            "n_predict": max_tokens,
            "temperature": 0.0,
            "n_probs": ALTERNATIVES,
            "cache_prompt": False,
            "return_tokens": True,
            "response_fields": _FIELDS,
        }
    )


def seen_tokens(answer: bytes) -> tuple[SeenToken, ...]:
    """The tokens of an answer, for a comparison. Raises ``EngineBrokenError``."""
    return tuple(
        SeenToken(
            entry.id, entry.logprob, {likely.id: likely.logprob for likely in entry.top_logprobs}
        )
        for entry in _entries(answer)
    )


def golden_tokens(answer: bytes, digits: int) -> tuple[GoldenToken, ...]:
    """The tokens of an answer, to be published. Raises ``EngineBrokenError``.

    Args:
        digits: of a log-probability, after the point.
    """
    try:
        return tuple(
            GoldenToken(entry.id, bytes(entry.bytes), round(entry.logprob, digits) + 0.0)
            for entry in _entries(answer)
        )
    except ValueError as error:
        raise EngineBrokenError(f"the engine sent bytes that are none: {error}") from error


def _entries(answer: bytes) -> list[_Entry]:
    try:
        found = _decoder.decode(answer)
    except (msgspec.DecodeError, RecursionError) as error:
        raise EngineBrokenError(f"the engine sent a malformed answer: {error}") from error
    pairs = zip(found.completion_probabilities, found.tokens, strict=False)
    return [entry for entry, _ in takewhile(lambda pair: pair[0].id == pair[1], pairs)]
