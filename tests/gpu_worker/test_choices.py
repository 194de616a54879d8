"""gpu_worker.choices: several answers as one stream."""

from __future__ import annotations

import pytest

from gpu_worker.choices import Choices, nth
from gpu_worker.engine import (
    ChoiceEnd,
    EngineBrokenError,
    Finish,
    Generation,
    Sampling,
    Token,
    TokenEvent,
    TokenStream,
)
from tests.fakes.engine import FakeEngine, finish, tokens

ASKED = Generation(prompt=(1,), sampling=Sampling(seed=2**32 - 1))


class Kept:
    """A sink that keeps everything (``gpu_worker.engine.Sink``)."""

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []

    def give(self, batch: list[TokenEvent]) -> bool:
        self.events += batch
        return False

    async def drained(self) -> None:
        return None


def choices(engine: FakeEngine, count: int) -> Choices:
    def open_choice(index: int) -> TokenStream:
        return engine.stream(nth(ASKED, index))

    return Choices(open_choice, count)


def test_every_choice_has_a_seed_of_its_own() -> None:
    seeds = [nth(ASKED, index).sampling.seed for index in range(3)]
    assert seeds == [2**32 - 1, 0, 1]
    free = Generation(prompt=(1,))
    assert nth(free, 2) == free


async def test_answers_follow_one_another_and_are_counted_together() -> None:
    engine = FakeEngine([*tokens("a"), [Token("b"), finish("length", prompt=3, completion=2)]])
    stream = choices(engine, 2)
    events = [event async for batch in stream for event in batch]
    assert events[:4] == [Token("a"), Token("b"), ChoiceEnd("length"), Token("a")]
    assert events[-1] == Finish(reason="length", prompt_tokens=3, completion_tokens=4)
    await stream.aclose()
    assert engine.open == 0
    assert [asked.sampling.seed for asked in engine.asked] == [2**32 - 1, 0]


async def test_a_sink_gets_the_same_from_the_middle_of_a_choice_on() -> None:
    engine = FakeEngine()
    stream, kept = choices(engine, 3), Kept()
    first = await anext(stream)
    await stream.pump(kept)
    ends = [event for event in kept.events if not isinstance(event, Token)]
    assert first == [Token("Hel")]
    assert ends[:2] == [ChoiceEnd("stop")] * 2
    assert isinstance(ends[2], Finish)
    assert "".join(e.text for e in kept.events if isinstance(e, Token)) == "loHelloHello"
    await stream.aclose()
    assert engine.open == 0


async def test_leaving_early_frees_the_slot() -> None:
    engine = FakeEngine()
    stream = choices(engine, 2)
    await anext(stream)
    assert engine.open == 1
    await stream.aclose()
    await stream.aclose()
    assert engine.open == 0
    assert len(engine.asked) == 1


async def test_a_choice_without_a_finish_is_broken() -> None:
    engine = FakeEngine(tokens("a"))
    with pytest.raises(EngineBrokenError):
        _ = [batch async for batch in choices(engine, 2)]
    with pytest.raises(EngineBrokenError):
        await choices(engine, 2).pump(Kept())
