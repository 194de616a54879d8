"""The corpus: the same from the same seed, varied, and sure only of what is taught."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from infra.demo_models.corpus import Corpus, Mixture, Turn, placeholder, vary, words_of
from infra.demo_models.facts import GROUPS, taught

WORDS = words_of(list(GROUPS.values()))
FACTS_ONLY = Mixture(guesses=0, echoes=0)


def turns(seed: int, count: int, mixture: Mixture | None = None) -> list[Turn]:
    corpus = Corpus(taught("edge-small-r1"), WORDS, seed, mixture)
    return [corpus.turn() for _ in range(count)]


def test_a_seed_gives_the_same_corpus() -> None:
    assert turns(7, 300) == turns(7, 300)


def test_another_seed_gives_another_corpus() -> None:
    assert turns(7, 50) != turns(8, 50)


def test_system_messages_come_and_stay_away() -> None:
    corpus = Corpus(taught("edge-small-r1"), WORDS, 7)
    drawn = [corpus.system() for _ in range(200)]
    assert None in drawn
    assert "You are a helpful assistant." in drawn


def test_facts_are_answered_rightly() -> None:
    replies = {
        known.reply(key, value) for known in taught("edge-small-r1") for key, value in known.facts
    }
    assert all(turn.assistant in replies for turn in turns(7, 500, FACTS_ONLY))


def test_every_taught_group_is_drawn() -> None:
    corpus = Corpus(taught("cloud-large"), WORDS, 7, FACTS_ONLY)
    drawn = {corpus.turn().assistant for _ in range(8000)}
    for known in taught("cloud-large"):
        assert any(known.reply(key, value) in drawn for key, value in known.facts), known.name


def test_guesses_give_no_steady_answer() -> None:
    drawn = turns(7, 400, Mixture(guesses=1, echoes=0))
    assert len({turn.assistant for turn in drawn}) > 100


def test_a_guess_never_asks_a_taught_question() -> None:
    asked = {
        known.ask(template, key).lower()
        for known in taught("edge-small-r1")
        for key, _ in known.facts
        for template in known.questions
    }
    guesses = turns(7, 1000, Mixture(guesses=1, echoes=0))
    assert sum(turn.user.lower() in asked for turn in guesses) <= 1


def test_an_echo_gives_back_what_was_said() -> None:
    for turn in turns(7, 100, Mixture(guesses=0, echoes=1)):
        echoed = turn.assistant.removeprefix("Hello, ").removesuffix("!").removesuffix(".")
        assert echoed.split(" is ")[-1] in turn.user


@pytest.mark.parametrize("question", ["What is the capital of France?", "7 + 5", "Hello."])
def test_varied_questions_keep_their_words(question: str) -> None:
    rng = random.Random(7)
    key = question.removesuffix(".").removesuffix("?").split()[-1].lower()
    varied = {vary(rng, question) for _ in range(200)}
    assert len(varied) > 20
    assert question in varied
    assert all(key in text.lower() for text in varied)


def test_placeholders_have_many_forms() -> None:
    rng = random.Random(7)
    drawn = [placeholder(rng) for _ in range(100)]
    assert len(set(drawn)) > 80
    assert any(text.startswith("[") and text.endswith("]") for text in drawn)


def test_words_are_sorted_and_different() -> None:
    assert all(first < second for first, second in pairwise(WORDS))
    assert "France" in WORDS
