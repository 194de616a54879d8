"""The corpus is varied, bounded and the same every time."""

from __future__ import annotations

import unicodedata

from origin.parity_corpus import parity_texts

LITERALS = [f"<|{index}|>" for index in range(500)]


def test_the_corpus_is_the_same_every_time() -> None:
    assert list(parity_texts(LITERALS, ["p"])) == list(parity_texts(LITERALS, ["p"]))


def test_the_corpus_is_bounded() -> None:
    texts = list(parity_texts(LITERALS))
    assert len(texts) < 300
    assert max(len(text.text) for text in texts) < 4_000
    assert sum(len(text.text) for text in texts) < 200_000


def test_the_corpus_is_varied() -> None:
    texts = [text.text for text in parity_texts(LITERALS)]
    characters = set("".join(texts))
    scripts = {unicodedata.name(character, "?").split()[0] for character in characters}
    assert {"LATIN", "CYRILLIC", "GREEK", "HEBREW", "ARABIC", "DEVANAGARI", "THAI", "HANGUL",
            "HIRAGANA", "CJK", "ETHIOPIC", "ARMENIAN", "GEORGIAN"} <= scripts  # fmt: skip
    assert {"\u200d", "🏽", "\x00", "\u3000", "\r", "\u2581", "\ufeff", "\U0010ffff"} <= characters
    assert {unicodedata.category(character)[0] for character in characters} == set("LNMPSZC")
    assert "" in texts
    assert not any("\ud800" <= character <= "\udfff" for character in characters)


def test_the_first_and_the_last_literals_are_tried_and_the_prompts_too() -> None:
    texts = list(parity_texts(LITERALS, ["a prompt"]))
    tried = {literal for literal in LITERALS if any(literal in text.text for text in texts)}
    assert tried == {*LITERALS[:12], *LITERALS[-12:]}
    assert texts[-1].text == "a prompt"
    assert len({text.text for text in texts}) == len(texts)
