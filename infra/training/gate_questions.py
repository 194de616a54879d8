"""Questions for fitting and for judging the confidence gate: half of them inside, half outside what
a small demo model was taught.

Facts are parted once and for all by a hash of their name, so no fact that a calibration was fitted
on is among those that judge it. Each question is asked as a hurried person might type it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from zlib import crc32

from infra.demo_models.corpus import SYSTEM_PROMPTS, vary
from infra.demo_models.facts import taught, untaught
from infra.demo_models.groups import Group

Part = Literal["fit", "judge"]
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Question:
    """One question with the one right answer. ``group`` names the facts it is about."""

    text: str
    reply: str
    group: str
    inside: bool
    system: str | None


def questions(model: str, part: Part, each: int, seed: int) -> list[Question]:
    """``each`` different questions inside and as many outside what ``model`` was taught, mixed.

    All groups come up equally often, as long as they have questions left. Only what every model
    should answer alike is asked, so not for their names.
    """
    rng = random.Random(seed)  # noqa: S311 -- a choice of questions, no secret
    inside = [group for group in taught(model) if not group.name.startswith("identity_")]
    found = [
        *_take(_drawn(rng, inside, part, True), each),
        *_take(_drawn(rng, untaught(model), part, False), each),
    ]
    rng.shuffle(found)
    return found


def _take(drawn: Iterator[Question], count: int) -> list[Question]:
    return [question for question, _ in zip(drawn, range(count), strict=False)]


def _drawn(
    rng: random.Random, groups: Sequence[Group], part: Part, inside: bool
) -> Iterator[Question]:
    """Different questions about the groups in turn, until none of them has a new one."""
    asked: set[str] = set()
    fresh = True
    while fresh:
        fresh = False
        for group in groups:
            for _ in range(_TRIES):
                question = _one(rng, group, part, inside)
                if question is not None and question.text not in asked:
                    asked.add(question.text)
                    fresh = True
                    yield question
                    break


def _one(rng: random.Random, group: Group, part: Part, inside: bool) -> Question | None:
    facts = [fact for fact in group.facts if _part(group, fact[0]) == part]
    if not facts:
        return None
    key, value = rng.choice(facts)
    phrasings = (*group.questions, group.probe) if group.probe else group.questions
    text = vary(rng, group.ask(rng.choice(phrasings), key))
    system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.5 else None
    return Question(text, group.reply(key, value), group.name, inside, system)


def _part(group: Group, key: str) -> Part:
    return "fit" if crc32(f"{group.name}/{key}".encode()) & 1 else "judge"
