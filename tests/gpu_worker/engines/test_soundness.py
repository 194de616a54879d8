"""gpu_worker.engines.soundness: what a first answer must be like."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence

import pytest

from gpu_worker.engine import (
    EngineRefusedError,
    Generation,
    Message,
    ProbeFailedError,
    Token,
    TokenEvent,
)
from gpu_worker.engines.soundness import Question, probe
from tests.fakes.clock import ManualClock
from tests.fakes.engine import FakeEngine, FakeStream, finish
from wire.chat import TokenLogprob

QUESTION, HASTY = Question.of(8, 60.0), Question.of(8, 0.05)


def said(logprob: float) -> list[TokenEvent]:
    return [Token("Par", [TokenLogprob("Par", logprob)]), finish(completion=3)]


async def asked(engine: FakeEngine, question: Question = QUESTION) -> str:
    return (await probe("llama.cpp m", engine.stream, question, ManualClock())).text


async def test_an_answer_with_probabilities_is_sound() -> None:
    engine = FakeEngine([said(-0.5)])
    assert await asked(engine) == "Par"
    assert (engine.asked[0].max_tokens, engine.open) == (8, 0)
    assert engine.asked[0].sampling.logprobs


@pytest.mark.parametrize("logprob", [math.nan, math.inf, 0.5])
async def test_numbers_that_are_no_probabilities_are_not(logprob: float) -> None:
    with pytest.raises(ProbeFailedError, match="log-probability"):
        await asked(FakeEngine([said(logprob)]))


@pytest.mark.parametrize("batches", [[], [[finish(completion=0)]]], ids=["nothing", "no tokens"])
async def test_no_answer_is_none(batches: Sequence[list[TokenEvent]]) -> None:
    with pytest.raises(ProbeFailedError, match="no tokens"):
        await asked(FakeEngine(batches))


async def test_a_refusal_and_a_hang_are_named() -> None:
    engine = FakeEngine()
    engine.refusal = EngineRefusedError("not today")
    with pytest.raises(ProbeFailedError, match="m: probe: not today"):
        await asked(engine)
    engine.refusal = None
    engine.gate.clear()
    with pytest.raises(ProbeFailedError, match="in time"):
        await asked(engine, HASTY)
    await asyncio.wait_for(engine.until_open(0), 30)


def test_engines_that_take_or_give_less_are_asked_for_less() -> None:
    question = Question.of(4, 1.0, prompt=(Message("user", "x"),), logprobs=False)
    assert question.generation.prompt == (Message("user", "x"),)
    assert not question.generation.sampling.logprobs


class SlowEngine(FakeEngine):
    """Says a token at a time, each after a while."""

    def __init__(self, clock: ManualClock, token_s: float) -> None:
        super().__init__([[Token("a", [TokenLogprob("a", -0.5)])] for _ in range(8)])
        self._clock = clock
        self._token_s = token_s

    def stream(self, request: Generation) -> FakeStream:
        clock, token_s = self._clock, self._token_s

        class Slow(FakeStream):
            async def __anext__(self) -> list[TokenEvent]:
                clock.advance(token_s)
                return await super().__anext__()

        self.asked.append(request)
        return Slow(self)


@pytest.mark.parametrize(("token_s", "tokens"), [(0.03, 5), (0.3, 2), (1.0, 2)])
async def test_a_slow_engine_need_not_say_everything(token_s: float, tokens: int) -> None:
    clock = ManualClock()
    engine = SlowEngine(clock, token_s)
    found = await probe("llama.cpp m", engine.stream, Question.of(8, 1.0), clock)
    assert (found.tokens, found.text) == (tokens, "a" * tokens)
    assert found.first_token_s == pytest.approx(token_s)
    assert engine.open == 0, "its slot was not given back"
