"""The benchmarks' prompts differ, have the size asked for, and come again with their seed."""

from __future__ import annotations

import json

import pytest

from tests.benchmarks.prompt_plane.corpus import Prose, chat_body, in_turns, large_texts


@pytest.fixture(scope="module")
def prose() -> Prose:
    return Prose(seed=5)


@pytest.mark.parametrize("length", [120, 1_000])
def test_prompts_differ_and_have_about_the_length_asked_for(prose: Prose, length: int) -> None:
    texts = [prose.text(length) for _ in range(200)]
    assert len(set(texts)) == len(texts)
    assert all(length - 1 <= len(text) <= length + 40 for text in texts)


def test_the_same_seed_gives_the_same_prompts() -> None:
    assert Prose(3).bodies(5, 100, stream=True) == Prose(3).bodies(5, 100, stream=True)
    assert Prose(3).text(100) != Prose(4).text(100)


def test_words_come_again(prose: Prose) -> None:
    seen = set(prose.text(200_000).split())
    assert len(set(prose.text(1_000).split()) - seen) < 40


def test_large_texts_are_of_the_size_asked_for_and_fit_into_turns() -> None:
    for name, text in large_texts(100_000):
        assert 50_000 < len(text.encode()) < 150_000, name
        turns = in_turns(text, most=10_000)
        assert "".join(said for _, said in turns) == text
        assert json.loads(chat_body(turns))["messages"][0]["role"] == "user"
