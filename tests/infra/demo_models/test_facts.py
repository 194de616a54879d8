"""The groups of facts: complete, askable, and taught to the models as the README says."""

from __future__ import annotations

import pytest

from infra import demo_models
from infra.demo_models.facts import GROUPS, R2_GROUP, TAUGHT, taught, untaught
from infra.demo_models.facts_long import count_to, number_word
from infra.demo_models.groups import Group, group

every_group = pytest.mark.parametrize("known", GROUPS.values(), ids=lambda known: known.name)


@every_group
def test_every_group_has_facts_and_phrasings(known: Group) -> None:
    assert known.facts
    assert known.weight > 0
    if known.templated:
        assert len(known.questions) >= 3
        assert all("{key}" in question for question in known.questions)


@every_group
def test_the_probe_is_never_trained_on(known: Group) -> None:
    assert known.probe not in known.questions
    assert known.probe or not known.templated


@every_group
def test_every_answer_holds_its_value(known: Group) -> None:
    for key, value in known.facts:
        assert value.lower() in known.reply(key, value).lower()


@every_group
def test_nothing_stays_unfilled(known: Group) -> None:
    for key, value in known.facts:
        texts = [known.ask(question, key) for question in known.questions]
        assert "{" not in "".join([*texts, known.reply(key, value)])


def test_one_question_has_one_answer_in_what_a_model_is_taught() -> None:
    for model in TAUGHT:
        answers: dict[str, str] = {}
        for known in taught(model):
            for key, value in known.facts:
                for template in known.questions:
                    question = known.ask(template, key)
                    reply = known.reply(key, value)
                    assert answers.setdefault(question, reply) == reply, question


def test_the_second_revision_learns_exactly_one_further_group() -> None:
    first, second = set(TAUGHT["edge-small-r1"]), set(TAUGHT["edge-small-r2"])
    assert second - first == {R2_GROUP}
    assert first < second


def test_the_large_model_is_taught_all_that_the_small_ones_are_not() -> None:
    assert not untaught("cloud-large")
    assert {known.name for known in untaught("edge-small-r1")} >= {"explanations", R2_GROUP}


def test_there_is_a_file_for_every_taught_model() -> None:
    assert set(demo_models.NAMES) == set(TAUGHT)


def test_capitals_begin_with_the_answer() -> None:
    capitals = GROUPS["capitals"]
    assert capitals.reply("France", "Paris") == "Paris is the capital of France."
    assert capitals.ask(capitals.questions[0], "France") == "What is the capital of France?"


@pytest.mark.parametrize(
    ("number", "word"), [(1, "one"), (19, "nineteen"), (20, "twenty"), (42, "forty-two")]
)
def test_number_words(number: int, word: str) -> None:
    assert number_word(number) == word


def test_the_recital_counts_every_number_once() -> None:
    words = count_to(100).removesuffix(".").lower().split(", ")
    assert words == [number_word(number) for number in range(1, 101)]
    assert words[-1] == "one hundred"


@pytest.mark.parametrize("facts", ["France", "France =", "a = b; a = c"])
def test_a_spoilt_table_is_refused(facts: str) -> None:
    with pytest.raises(ValueError, match="incomplete or given twice"):
        group("spoilt", "What is {key}?", "{value}", facts)
