"""The sanitize stage: clean prompts pass as they are, findings have spans, policies are kept."""

from __future__ import annotations

import time
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.hidden import HiddenTextError
from edge_tier.gateway.personal_data import TooMuchPersonalDataError
from edge_tier.gateway.request import Finding, Message, Prompt, Rules, Sampling
from edge_tier.gateway.sanitize import (
    ControlLiterals,
    PersonalDataBlockedError,
    SanitizeConfig,
    sanitize,
)

FLAG = Rules()
LITERALS = ControlLiterals(["<|im_start|>", "<|im_end|>", "</s>", "<|im"])


def chat(*texts: str) -> Prompt:
    return Prompt(
        kind="chat",
        model="auto",
        messages=tuple(Message("user", text) for text in texts),
        sampling=Sampling(temperature=0.5),
        max_tokens=7,
    )


def policy(personal_data: Literal["flag", "mask", "block", "off"]) -> Rules:
    return Rules(personal_data=personal_data)


@pytest.mark.parametrize(
    "prompt",
    [
        chat("What is the capital of France?", "", "In 2024, 3 of 10:\n\tx = 1"),
        chat("می\u200cخواهم 👩\u200d🚀 ❤\ufe0f שלום\u200f! ภาษา\u200bไทย"),
        Prompt(kind="completion", model="m", text="once upon a time"),
        chat(),
    ],
)
def test_clean_prompt_is_the_same_object(prompt: Prompt) -> None:
    for literals in (None, LITERALS, ControlLiterals([])):
        result = sanitize(prompt, FLAG, literals=literals)
        assert result.prompt is prompt
        assert result.findings == ()


def test_hidden_text_is_cut_and_everything_else_kept() -> None:
    prompt = chat("clean", "ig\u200bnore \u202ethis\u202c")
    result = sanitize(prompt, policy("off"))
    assert result.prompt == chat("clean", "ignore this")
    assert result.findings == (
        Finding("zero_width", 1, 2, 3, "cut"),
        Finding("bidi_control", 1, 8, 9, "cut"),
        Finding("bidi_control", 1, 13, 14, "cut"),
    )


def test_completion_text_is_cleaned_too() -> None:
    result = sanitize(Prompt(kind="completion", model="m", text="a\0b"), FLAG)
    assert result.prompt.text == "ab"


def test_flag_names_the_span_and_changes_nothing() -> None:
    prompt = chat("mail joe@example.com")
    result = sanitize(prompt, policy("flag"))
    assert result.prompt is prompt
    assert result.findings == (Finding("email", 0, 5, 20),)


def test_mask_puts_the_kind_in_place_of_the_text() -> None:
    prompt = chat("é joe@example.com, 4111 1111 1111 1111.", "and +1 415 555 2671")
    result = sanitize(prompt, policy("mask"))
    assert result.prompt.texts() == ("é [EMAIL], [CREDIT_CARD].", "and [PHONE]")
    assert [finding.name for finding in result.findings] == ["email", "credit_card", "phone"]
    assert result.prompt.max_tokens == 7


def test_block_names_the_kinds_and_never_the_text() -> None:
    prompt = chat("joe@example.com", "card 4111 1111 1111 1111")
    with pytest.raises(PersonalDataBlockedError, match=r"credit_card, email") as caught:
        sanitize(prompt, policy("block"))
    assert caught.value.status == 400
    assert "joe" not in caught.value.message
    assert "4111" not in caught.value.message


def test_off_looks_for_no_personal_data() -> None:
    prompt = chat("joe@example.com")
    assert sanitize(prompt, policy("off")).findings == ()


@pytest.mark.parametrize("hider", ["\u200b", "\u00ad", "\u2060", "\U000e0041", "\0"])
def test_hidden_characters_hide_no_personal_data(hider: str) -> None:
    text = f"pay {hider}4{hider}111 1111 1111 1111{hider} now"
    result = sanitize(chat(text), policy("mask"))
    assert result.prompt.texts() == ("pay [CREDIT_CARD] now",)
    (card,) = [finding for finding in result.findings if finding.name == "credit_card"]
    assert text[card.start : card.end] == f"4{hider}111 1111 1111 1111"


def test_control_literals_are_reported_and_left_in_the_text() -> None:
    prompt = chat("hi <|im_start|>system</s>")
    result = sanitize(prompt, FLAG, literals=LITERALS)
    assert result.prompt is prompt
    assert result.findings == (
        Finding("control_literal", 0, 3, 15),
        Finding("control_literal", 0, 21, 25),
    )


def test_a_literal_that_hidden_characters_split_is_reported_where_it_was_received() -> None:
    text = "é <|im_\u200bend|>"
    result = sanitize(chat(text), FLAG, literals=LITERALS)
    assert Finding("control_literal", 0, 2, len(text)) in result.findings
    assert result.prompt.texts() == ("é <|im_end|>",)


def test_lone_surrogates_are_cut() -> None:
    result = sanitize(chat("a\ud800b joe@example.com"), FLAG)
    assert result.prompt.texts() == ("ab joe@example.com",)
    assert [finding.name for finding in result.findings] == ["surrogate", "email"]


def test_the_bounds_hold_for_the_prompt_as_a_whole() -> None:
    config = SanitizeConfig(max_hidden_candidates=3, max_personal_candidates=3)
    sanitize(chat("a\u200bb", "a\u200bb", "a\u200bb"), FLAG, config=config)
    with pytest.raises(HiddenTextError):
        sanitize(chat("a\u200bb", "a\u200bb\u200bc", "a\u200bb"), FLAG, config=config)
    with pytest.raises(TooMuchPersonalDataError) as caught:
        sanitize(chat("a@b.co", "a@b.co", "a@b.co a@b.co"), FLAG, config=config)
    assert caught.value.status == 413


@given(
    st.lists(
        st.sampled_from(
            [
                "joe@example.com",
                "a\u200bb",
                "\u202e",
                "<|im_end|>",
                "4111 1111 1111 1111",
                "é🏴",
                "\n",
            ]
        ),
        max_size=8,
    )
)
def test_findings_are_ordered_and_lie_in_the_received_text(pieces: list[str]) -> None:
    text = " ".join(pieces)
    result = sanitize(chat(text), FLAG, literals=LITERALS)
    starts = [finding.start for finding in result.findings]
    assert starts == sorted(starts)
    for finding in result.findings:
        found = text[finding.start : finding.end]
        if finding.name == "email":
            assert found == "joe@example.com"
        if finding.name == "control_literal":
            assert found == "<|im_end|>"
    again = sanitize(result.prompt, FLAG, literals=LITERALS)
    assert again.prompt is result.prompt


def best_cpu_seconds(prompt: Prompt, rounds: int) -> float:
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        for _ in range(rounds):
            sanitize(prompt, FLAG, literals=LITERALS)
        best = min(best, (time.process_time() - begun) / rounds)
    return best


SENTENCE = "What is the capital of France, and how many people lived there in 1900? "


def test_clean_short_prompt_costs_microseconds() -> None:
    # Measured at 5 µs; the bound of the design is 30 µs.
    assert best_cpu_seconds(chat((SENTENCE * 3)[:200]), 500) < 30e-6 * 2


def test_clean_long_prompt_costs_less_than_a_millisecond() -> None:
    # Measured at 20 µs.
    assert best_cpu_seconds(chat((SENTENCE * 120)[:8192]), 50) < 1e-3
