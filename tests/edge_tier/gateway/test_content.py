"""Deny lists and topics: on a whole text, and on an answer cut anywhere."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.gateway.content import ContentScreen, Scanner, view
from edge_tier.gateway.request import ContentRule
from wire.errors import ConfigError

DENY = ContentRule(
    name="weapons",
    words=("bomb", "überfall", "дурак", "爆弾", "build a device", "C4", "café"),
    patterns=(r"secret-\d+", "Пароль"),
    sides=("input", "output"),
)
TOPIC = ContentRule(
    name="medicine",
    words=("aspirin", "dose", "doctor"),
    sides=("input", "output"),
    action="flag",
    min_hits=2,
)
SCREEN = ContentScreen([DENY, TOPIC], "input")


def met(text: str) -> set[str]:
    return {rule.name for rule in SCREEN.met(SCREEN.hits(text))}


@pytest.mark.parametrize(
    "text",
    [
        "bomb", "a Bomb!", "BOMB\n", "«bomb»", "Ein ÜBERFALL.", "u\u0308berfall", "Дурак!",
        "これは爆弾です", "build  a\n device", "c4", "SECRET-12", "пароль", "Café", "cafe\u0301",
        "ｂｏｍｂ", "bоmb", "𝐛𝐨𝐦𝐛", "ⓑⓞⓜⓑ", "bo\u200bmb", "b\u0300o\u0301mb", "b\U000e0041omb",
        "ＳＥＣＲＥＴ-１",
    ],
)  # fmt: skip
def test_words_and_patterns_are_found_in_every_writing(text: str) -> None:
    for one in (text, f"x {text} y", f"é\n{text}\té"):
        assert met(one) == {"weapons"}


@pytest.mark.parametrize(
    "text", ["bombs", "abomb", "bomb1", "дураки", "überfallen", "C45", "builda device", "cafe", ""]
)
def test_words_match_whole(text: str) -> None:
    assert met(text) == set()


def test_a_topic_needs_so_many_different_words() -> None:
    assert met("aspirin aspirin, Aspirin") == set()
    assert met("which dose of aspirin?") == {"medicine"}
    first, second = SCREEN.hits("aspirin"), SCREEN.hits("doctor")
    assert [rule.name for rule in SCREEN.met([*first, *second])] == ["medicine"]


@pytest.mark.parametrize(
    ("text", "span"),
    [("a bomb!", (2, 6)), ("é bоmb", (2, 6)), ("bomb", (0, 4)), ("b\u0300omb!", (0, 6))],
)
def test_the_first_span_is_in_the_text(text: str, span: tuple[int, int]) -> None:
    assert SCREEN.first_span(text, SCREEN.hits(text), DENY) == span
    assert SCREEN.first_span(text, SCREEN.hits(text), TOPIC) is None


def test_rules_of_the_other_side_do_not_count() -> None:
    assert not ContentScreen([ContentRule(name="r", words=("x",))], "output")
    assert ContentScreen([DENY], "output")
    assert ContentScreen([], "input").hits("bomb") == []


def test_a_pattern_that_re2_does_not_take_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'mine'.*missing \)"):
        ContentScreen([ContentRule(name="mine", patterns=("(",))], "input")


@pytest.mark.parametrize("word", ["", "  ", "\u200b"])
def test_an_empty_word_would_be_met_by_everything(word: str) -> None:
    with pytest.raises(ConfigError, match="'mine' has an empty word"):
        ContentScreen([ContentRule(name="mine", words=(word,))], "input")


@given(st.text())
def test_the_view_of_a_view_is_the_same(text: str) -> None:
    assert view(view(view(text))) == view(view(text))


def scanned(screen: ContentScreen, pieces: list[str]) -> tuple[str, Scanner]:
    scanner = Scanner(screen)
    return "".join([*map(scanner.feed, pieces), scanner.flush()]), scanner


ANSWERS = [
    "You build a device from a bomb, they say.",
    "bomb",
    "harmless bombs and abombs",
    "which dose of aspirin",
    "これは爆弾です",
    "a bоmb",
    "the number secret-12 of them",
    "あ" * 400 + "爆弾" + "い" * 400,
    "a" * 700 + " bomb",
]


@pytest.mark.parametrize("text", ANSWERS)
def test_the_verdict_is_the_same_at_every_split(text: str) -> None:
    expected = met(text)
    cuts = range(len(text) + 1) if len(text) < 60 else range(0, len(text), 97)
    for cut in cuts:
        for pieces in ([text[:cut], text[cut:]], [text[:cut], *text[cut:]]):
            shown, scanner = scanned(SCREEN, pieces)
            assert {scanner.blocked, *scanner.flagged} - {""} == expected
            assert text.startswith(shown)
            if not scanner.blocked:
                assert shown == text


def test_nothing_of_a_denied_phrase_is_shown() -> None:
    words = ContentScreen(
        [ContentRule(name="w", words=("build a device",), sides=("output",))], "output"
    )
    text = "First you build a device, then more."
    scanner = Scanner(words)
    shown = "".join(map(scanner.feed, text))
    assert scanner.blocked == "w"
    assert "First you ".startswith(shown)
    assert scanner.feed("more") == scanner.flush() == ""


def test_single_words_hold_back_little() -> None:
    scanner = Scanner(
        ContentScreen([ContentRule(name="w", words=("bomb",), sides=("output",))], "output")
    )
    fed = shown = 0
    for word in ["All ", "these ", "words ", "are ", "good"] * 20:
        fed += len(word)
        shown += len(scanner.feed(word))
        assert fed - shown <= len("bomb") + len("words ")


@given(st.lists(st.sampled_from([*ANSWERS[:6], "bo", "mb", "m", "b", " ", "-", "ま", "\u200b"])))
@settings(max_examples=60, deadline=None)
def test_any_pieces_give_the_verdict_of_the_whole(pieces: list[str]) -> None:
    text = "".join(pieces)
    for cut in (pieces, list(text)):
        shown, scanner = scanned(SCREEN, cut)
        assert bool(scanner.blocked) == ("weapons" in met(text))
        assert text.startswith(shown)


def test_a_word_without_end_is_not_held_without_end() -> None:
    scanner = Scanner(SCREEN)
    held = 0
    for _ in range(1_000):
        held += 10 - len(scanner.feed("aaaaaaaaaa"))
        assert held <= 2 * 128 + 10
