"""Asks an engine the golden prompts of its revision, before the revision may serve.

What is expected and what is borne is :mod:`wire.golden`'s business; here the questions are asked,
all at once, so that an engine with several slots reads its weights once for all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from gpu_worker.engine import EngineError, ProbeFailedError
from wire.golden import Expectations, GoldenPrompt, SeenToken, Verdict, compare, compare_texts

_T = TypeVar("_T")
AskIds = Callable[[tuple[int, ...], int], Awaitable[tuple[SeenToken, ...]]]
"""Token ids of a prompt, and how many tokens to say → what the engine said, greedily."""
AskText = Callable[[GoldenPrompt, int], Awaitable[str]]
"""The same for an engine that takes and gives text."""


async def probe_ids(golden: Expectations, ask: AskIds) -> Verdict:
    """What the comparison found; see ``wire.golden.compare``.

    Raises:
        ProbeFailedError: this is not the model that was published; says where, and by how much.
        EngineError: the engine could not be asked.
    """
    golden = _asked(golden)
    asked = zip(golden.prompts, golden.answers, strict=True)
    seen = await _all([ask(prompt.ids, len(answer)) for prompt, answer in asked])
    return _passed(compare(golden, seen))


async def probe_texts(golden: Expectations, ask: AskText) -> Verdict:
    """The weaker probe, by texts alone; see ``wire.golden.compare_texts``.

    Raises:
        ProbeFailedError, EngineError: as :func:`probe_ids`.
    """
    golden = _asked(golden)
    asked = zip(golden.prompts, golden.answers, strict=True)
    texts = await _all([ask(prompt, len(answer)) for prompt, answer in asked])
    return _passed(compare_texts(golden, texts))


async def named(name: str, probing: Awaitable[Verdict]) -> Verdict:
    """The verdict of a probe, whose failures name the engine.

    Raises:
        ProbeFailedError: it failed, did not answer in time, or answered otherwise.
    """
    try:
        return await probing
    except TimeoutError as error:
        raise ProbeFailedError(f"{name}: probe: no answer in time") from error
    except EngineError as error:
        raise ProbeFailedError(f"{name}: probe: {error.message}") from error


def _asked(golden: Expectations) -> Expectations:
    """Without the prompts whose answer is empty."""
    pairs = zip(golden.prompts, golden.answers, strict=True)
    prompts, answers = zip(*(pair for pair in pairs if pair[1]), strict=True)
    return Expectations(prompts, answers, golden.max_nats, golden.mean_nats)


async def _all(questions: list[Awaitable[_T]]) -> list[_T]:
    """Every answer, in order; where one fails, the others are given up first."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _passed(verdict: Verdict) -> Verdict:
    if verdict.problem:
        raise ProbeFailedError(
            f"not what was published: {verdict.problem} (divergence {verdict.max_nats:.3f} nats, "
            f"{verdict.mean_nats:.3f} on average over {verdict.tokens} tokens)"
        )
    return verdict
