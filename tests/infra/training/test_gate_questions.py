"""The questions of gate and benchmark: half and half, repeatable, and no fact on both sides."""

from __future__ import annotations

import pytest

from infra.demo_models.facts import TAUGHT
from infra.training.gate_questions import Question, questions

MODEL = "edge-small-r1"
FIT, JUDGE = (questions(MODEL, part, 60, 3) for part in ("fit", "judge"))


@pytest.mark.parametrize("asked", [FIT, JUDGE])
def test_half_of_the_questions_are_outside_what_was_taught(asked: list[Question]) -> None:
    assert sum(question.inside for question in asked) == len(asked) / 2 == 60
    assert len({question.text for question in asked}) == len(asked)
    for question in asked:
        assert (question.group in TAUGHT[MODEL]) is question.inside
        assert not question.group.startswith("identity_")


def test_the_same_seed_asks_the_same() -> None:
    assert questions(MODEL, "judge", 60, 3) == JUDGE
    assert questions(MODEL, "judge", 60, 4) != JUDGE


def test_no_fact_is_both_fitted_on_and_judged_by() -> None:
    def facts(asked: list[Question]) -> set[tuple[str, str]]:
        # In these groups a reply names its key, so it tells the fact.
        naming = {"capitals", "far_capitals", "elements", "inventors"}
        return {(q.group, q.reply) for q in asked if q.group in naming}

    assert facts(FIT)
    assert facts(JUDGE)
    assert not facts(FIT) & facts(JUDGE)
