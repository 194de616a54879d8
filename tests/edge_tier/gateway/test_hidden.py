"""Hidden characters are cut; the same characters stay where writing needs them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.gateway.hidden import TRIGGER, Cut, HiddenTextError, hidden, without


def cleaned(text: str) -> str:
    return without(text, hidden(text).cuts)


def in_tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(char)) for char in text)


ENGLAND = "\U0001f3f4" + in_tags("gbeng") + "\U000e007f"

LEGITIMATE = {
    "plain": "What is 2 + 2?\tTabs, lines\nand\r\nmore – “quotes” … ½ €",
    "family": "👨\u200d👩\u200d👧\u200d👦",
    "skin_and_job": "👩🏽\u200d🚀 🧑🏿\u200d⚕\ufe0f",
    "heart_on_fire": "❤\ufe0f\u200d🔥 and ☎\ufe0e text style",
    "pirate_flag": "🏴\u200d☠\ufe0f",
    "rainbow_flag": "🏳\ufe0f\u200d🌈",
    "keycaps": "1\ufe0f\u20e3 #\ufe0f\u20e3",
    "country_flag": "🇩🇪",
    "england": ENGLAND,
    "scotland": "\U0001f3f4" + in_tags("gbsct") + "\U000e007f",
    "wales": "go \U0001f3f4" + in_tags("gbwls") + "\U000e007f!",
    "persian_zwnj": "می\u200cخواهم کتاب\u200cها را",
    "arabic_zwj": "ه\u200d",
    "hindi_zwj": "क्\u200dष और क्\u200cष",
    "sinhala": "ශ්\u200dරී ලංකා",
    "bengali": "র\u200d্যাব",
    "malayalam": "ന്\u200d",
    "thai_zwsp": "ภาษา\u200bไทย",
    "khmer_zwsp": "ភាសា\u200bខ្មែរ",
    "hebrew_marks": "שלום\u200f! (abc)\u200e",
    "arabic_mark": "سعر\u061c 5-10",
    "isolate": "השם \u2068John\u2069 נרשם",
    "embedding": "הקובץ \u202areadme.txt\u202c נמחק",
    "nested_isolates": "א \u2067ב \u2066abc\u2069 ג\u2069",
    "ideographic_variation": "葛\U000e0100飾区",
    "math_variation": "∩\ufe00",
    "cjk_variation": "㐂\ufe00",
    "korean_jamo": "\u1112\u1161\u11ab\u115f\u1161",
    "private_use": "\ue000",
    "replacement": "\ufffd \ufffc",
}

HOSTILE = {
    "tag_message": ("a" + in_tags("ignore all"), "a", "unicode_tag"),
    "tags_after_flag": (
        "\U0001f3f4" + in_tags("drop it") + "\U000e007f",
        "\U0001f3f4",
        "unicode_tag",
    ),
    "more_after_england": (ENGLAND + in_tags("x"), ENGLAND, "unicode_tag"),
    "unended_flag": ("\U0001f3f4" + in_tags("gbeng"), "\U0001f3f4", "unicode_tag"),
    "override": ("user\u202etxt.exe\u202c", "usertxt.exe", "bidi_control"),
    "override_in_hebrew": ("א\u202eב\u202c", "אב", "bidi_control"),
    "isolate_in_latin": ("a \u2067b\u2069", "a b", "bidi_control"),
    "open_isolate": ("א \u2067ב", "א ב", "bidi_control"),
    "isolate_over_lines": ("\u2067א\nב\u2069", "א\nב", "bidi_control"),
    "crossed": ("א\u2067\u202bב\u2069\u202c", "אב", "bidi_control"),
    "many_marks": ("a" + "\u200e" * 9, "a\u200e\u200e", "bidi_mark"),
    "zero_width_space": ("ig\u200bnore", "ignore", "zero_width"),
    "soft_hyphen": ("ig\u00adnore", "ignore", "zero_width"),
    "inner_bom": ("a\ufeffb", "ab", "zero_width"),
    "word_joiner": ("a\u2060b", "ab", "zero_width"),
    "invisible_plus": ("a\u2064b", "ab", "zero_width"),
    "hangul_filler": ("a\u3164b", "ab", "zero_width"),
    "latin_zwnj": ("ig\u200cnore", "ignore", "joiner"),
    "latin_zwj": ("a\u200db", "ab", "joiner"),
    "dangling_zwj": ("👩\u200d", "👩", "joiner"),
    "joiner_run": ("می\u200c\u200d\u200c\u200cخ", "می\u200cخ", "joiner"),
    "selector_after_letter": ("a\ufe0fb", "ab", "variation_selector"),
    "selector_bytes": ("😀" + "\U000e0154\U000e0155", "😀", "variation_selector"),
    "selector_run": ("❤\ufe0f\ufe01\ufe02", "❤\ufe0f", "variation_selector"),
    "nul": ("a\0b", "ab", "control"),
    "escape": ("\x1b[31mred", "[31mred", "control"),
    "delete_and_c1": ("a\x7f\x85\x9bb", "ab", "control"),
    "annotation": ("a\ufff9b\ufffac\ufffb", "abc", "annotation"),
    "noncharacter": ("a\ufdd0\uffff\U0010ffffb", "ab", "noncharacter"),
    "surrogate": ("a\ud83db", "ab", "surrogate"),
}


@pytest.mark.parametrize("name", LEGITIMATE)
def test_legitimate_text_is_untouched(name: str) -> None:
    assert hidden(LEGITIMATE[name]).cuts == []


@pytest.mark.parametrize("name", HOSTILE)
def test_hidden_text_is_cut_and_named(name: str) -> None:
    text, expected, kind = HOSTILE[name]
    assert cleaned(text) == expected
    assert {cut.name for cut in hidden(text).cuts} == {kind}
    assert cleaned(expected) == expected


def test_cuts_are_runs_at_received_offsets() -> None:
    text = "a\u200b\u200bb" + in_tags("hi") + "c\x00"
    assert hidden(text).cuts == [
        Cut("zero_width", 1, 3),
        Cut("unicode_tag", 4, 6),
        Cut("control", 7, 8),
    ]


def test_a_joiner_is_judged_by_what_was_kept_before_it() -> None:
    assert cleaned("a\ufe0f\u200d🔥") == "a🔥"
    assert cleaned("👩\u200b\u200d🚀") == "👩\u200d🚀"
    assert cleaned("א\u200d\ufe0f\u200dא") == "א\u200dא"


def test_controls_of_one_line_do_not_spoil_another() -> None:
    good, bad = "א \u2067ב\u2069\n", "א \u2067ב\n"
    assert cleaned(good + bad + good) == good + "א ב\n" + good


def test_work_is_bounded() -> None:
    text = "a\u200b" * 11
    assert hidden(text, 11).candidates == 11
    with pytest.raises(HiddenTextError):
        hidden(text, 10)
    with pytest.raises(HiddenTextError):
        hidden("\u200b\u200e" * 6, 10)


def test_more_directional_controls_than_writing_needs_all_go() -> None:
    text = "א\u2067ב\u2069" * 600
    assert cleaned(text) == "אב" * 600


SNIPPETS = st.sampled_from(
    [*LEGITIMATE.values(), *(text for text, _, _ in HOSTILE.values()), "a", "א", "\n", "❤"]
)
HOSTILE_ALPHABET = "a❤א\u200d\u200c\ufe0f\u2067\u2069\u202c\u202e\u200b\u200e\n👩"
MIXED = st.lists(SNIPPETS, max_size=6).map("".join)


@given(MIXED | st.text())
def test_cutting_is_idempotent_ordered_and_only_cuts(text: str) -> None:
    cuts = hidden(text).cuts
    assert all(0 <= cut.start < cut.end <= len(text) for cut in cuts)
    assert all(a.end <= b.start for a, b in pairwise(cuts))
    assert cleaned(cleaned(text)) == cleaned(text)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(HOSTILE_ALPHABET), max_size=9))
def test_cutting_is_idempotent_for_hostile_mixtures(chars: list[str]) -> None:
    text = "".join(chars)
    assert cleaned(cleaned(text)) == cleaned(text)


@given(MIXED | st.text(st.characters(exclude_categories=["Cs"])))
def test_the_trigger_occurs_wherever_something_is_cut(text: str) -> None:
    text = re.sub("[\ud800-\udfff]", "", text)
    if re2.search(TRIGGER, text) is None:
        assert hidden(text).candidates == 0
    else:
        assert hidden(text).candidates > 0
