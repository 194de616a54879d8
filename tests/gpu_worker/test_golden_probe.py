from __future__ import annotations

import asyncio

import pytest

from gpu_worker.engine import EngineUnavailableError, ProbeFailedError
from gpu_worker.golden_probe import probe_ids, probe_texts
from wire.golden import Expectations, GoldenPrompt, GoldenToken, SeenToken

PROMPTS = tuple(GoldenPrompt(ids=(n,), text=f"prompt {n}") for n in range(3))
ANSWERS = tuple((GoldenToken(n, b"x", -0.5), GoldenToken(9, b"y", -0.1)) for n in range(3))
GOLDEN = Expectations(PROMPTS, ANSWERS, 0.4, 0.05)


def answer(number: int, logprob: float = -0.5) -> tuple[SeenToken, ...]:
    return SeenToken(number, logprob, {}), SeenToken(9, -0.1, {})


async def test_every_prompt_is_asked_for_as_many_tokens_all_at_once() -> None:
    asked: list[tuple[tuple[int, ...], int]] = []
    together = asyncio.Barrier(3)

    async def ask(ids: tuple[int, ...], count: int) -> tuple[SeenToken, ...]:
        asked.append((ids, count))
        await together.wait()
        return answer(ids[0])

    verdict = await probe_ids(GOLDEN, ask)
    assert sorted(asked) == [((0,), 2), ((1,), 2), ((2,), 2)]
    assert (verdict.tokens, verdict.max_nats) == (6, 0.0)


async def test_a_prompt_without_an_answer_is_not_asked() -> None:
    async def ask(ids: tuple[int, ...], _count: int) -> tuple[SeenToken, ...]:
        assert ids != (1,)
        return answer(ids[0])

    answers = (ANSWERS[0], (), ANSWERS[2])
    assert (await probe_ids(Expectations(PROMPTS, answers, 0.4, 0.05), ask)).tokens == 4


async def test_other_answers_fail_with_the_reason_and_the_divergence() -> None:
    async def ask(ids: tuple[int, ...], _count: int) -> tuple[SeenToken, ...]:
        return answer(ids[0], -3.0 if ids[0] == 1 else -0.5)

    with pytest.raises(ProbeFailedError) as failed:
        await probe_ids(GOLDEN, ask)
    assert "prompt 1, token 0: log-probability -3.000 instead of -0.500" in failed.value.message
    assert "divergence 2.500 nats" in failed.value.message


async def test_where_one_question_fails_the_others_are_given_up() -> None:
    cancelled = []

    async def ask(ids: tuple[int, ...], _count: int) -> tuple[SeenToken, ...]:
        if ids[0] == 0:
            raise EngineUnavailableError("it died")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(ids[0])
            raise
        raise AssertionError

    with pytest.raises(EngineUnavailableError):
        await probe_ids(GOLDEN, ask)
    assert sorted(cancelled) == [1, 2]


@pytest.mark.parametrize(("text", "passes"), [("xy", True), ("zz", False)])
async def test_an_engine_without_ids_is_asked_by_text(text: str, passes: bool) -> None:
    async def ask(prompt: GoldenPrompt, count: int) -> str:
        assert prompt in PROMPTS
        assert count == 2
        return text

    if passes:
        assert (await probe_texts(GOLDEN, ask)).problem == ""
    else:
        with pytest.raises(ProbeFailedError, match="3 of 3 texts differ"):
            await probe_texts(GOLDEN, ask)
