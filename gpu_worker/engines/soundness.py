"""The first question to an engine that has loaded: does it answer, and with numbers?

Greedy, with log-probabilities: broken weights give NaN, which is null in JSON.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from gpu_worker.engine import (
    EngineError,
    Finish,
    Generation,
    Message,
    Probe,
    ProbeFailedError,
    Sampling,
    Token,
    TokenStream,
)
from wire.chat import TokenLogprob

PROMPT = "The capital of France is"
_FEW_TOKENS = 2


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: so many tokens, at most so many seconds."""

    tokens: int
    timeout_s: float
    generation: Generation
    enough_s: float = 0.1
    """After the first token: who has said at least two by then has shown that it answers. A large
    model on a small machine need not say all of them while nobody is served."""

    @classmethod
    def of(
        cls,
        tokens: int,
        timeout_s: float,
        *,
        prompt: str | tuple[Message, ...] = PROMPT,
        logprobs: bool = True,
    ) -> Question:
        """The usual one; engines that take or give less are asked for less."""
        sampling = Sampling(temperature=0.0, logprobs=logprobs)
        request = Generation(prompt=prompt, max_tokens=tokens, sampling=sampling)
        return cls(tokens, timeout_s, request)


async def probe(
    name: str,
    ask: Callable[[Generation], TokenStream],
    question: Question,
    clock: Callable[[], float],
) -> Probe:
    """Ask, and check what comes.

    Raises:
        ProbeFailedError: no answer in time, none at all, or numbers that are no probabilities.
    """
    try:
        async with asyncio.timeout(question.timeout_s):
            return await _probe(ask(question.generation), question, clock)
    except TimeoutError as error:
        raise ProbeFailedError(f"{name}: probe: no answer in time") from error
    except EngineError as error:
        raise ProbeFailedError(f"{name}: probe: {error.message}") from error


async def _probe(stream: TokenStream, question: Question, clock: Callable[[], float]) -> Probe:
    began, first_s, text, seen = clock(), 0.0, "", 0
    try:
        async for batch in stream:
            passed_s = clock() - began
            first_s = first_s or passed_s
            for event in batch:
                if isinstance(event, Token):
                    text, seen = text + event.text, seen + 1
                    _check_logprobs(event.logprobs or [])
                    if seen >= _FEW_TOKENS and passed_s - first_s >= question.enough_s:
                        return Probe(text, seen, first_s, passed_s)
                elif isinstance(event, Finish) and event.completion_tokens:
                    return Probe(text, event.completion_tokens, first_s, clock() - began)
    finally:
        await stream.aclose()
    raise ProbeFailedError("it answered with no tokens")


def _check_logprobs(logprobs: list[TokenLogprob]) -> None:
    """Raise unless these are logarithms of probabilities (a little over 0 is rounding)."""
    for entry in logprobs:
        if not (math.isfinite(entry.logprob) and entry.logprob <= 1e-3):
            raise ProbeFailedError(f"the probe gave a log-probability of {entry.logprob}")
