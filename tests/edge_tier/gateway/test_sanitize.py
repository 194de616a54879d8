"""The sanitize stage: clean prompts pass as they are, findings have spans, policies are kept."""

from __future__ import annotations

import json
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.hidden import HiddenTextError
from edge_tier.gateway.memo import Memo
from edge_tier.gateway.personal_data import TooMuchPersonalDataError
from edge_tier.gateway.request import (
    ContentRule,
    Finding,
    Message,
    PersonalAction,
    Prompt,
    Rules,
    Sampling,
    ToolCall,
)
from edge_tier.gateway.restore import restored
from edge_tier.gateway.sanitize import (
    ContentBlockedError,
    ControlLiterals,
    HomoglyphsBlockedError,
    PersonalDataBlockedError,
    SanitizeConfig,
    must_not_leave,
    sanitize,
)
from tests.fakes.cpu import least_cpu_s

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


def policy(personal_data: PersonalAction) -> Rules:
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
        begun = time.thread_time()
        for _ in range(rounds):
            sanitize(prompt, FLAG, literals=LITERALS)
        best = min(best, (time.thread_time() - begun) / rounds)
    return best


SENTENCE = "What is the capital of France, and how many people lived there in 1900? "


def test_clean_short_prompt_costs_microseconds() -> None:
    # Measured at 5 µs; the bound of the design is 30 µs.
    assert best_cpu_seconds(chat((SENTENCE * 3)[:200]), 500) < 30e-6 * 2


def test_clean_long_prompt_costs_less_than_a_millisecond() -> None:
    # Measured at 20 µs.
    assert best_cpu_seconds(chat((SENTENCE * 120)[:8192]), 50) < 1e-3


CARD = "4111 1111 1111 1111"


def asked(arguments: str, tools: str = "") -> Prompt:
    call = ToolCall("c1", "f", arguments)
    messages = (Message("user", "hi"), Message("assistant", "", (call,)))
    return Prompt(kind="chat", model="m", messages=messages, tools=tools)


def test_kinds_may_differ_from_the_rest() -> None:
    rules = Rules(
        personal_data="mask",
        personal_kinds={"email": "off", "phone": "flag", "us_ssn": "restore", "jwt": "block"},
    )
    text = f"a@b.co, call +1 415 555 2671, ssn 078-05-1120, {CARD}"
    result = sanitize(chat(text), rules)
    assert result.prompt.texts() == ("a@b.co, call +1 415 555 2671, ssn [US_SSN_1], [CREDIT_CARD]",)
    assert [(f.name, f.action) for f in result.findings] == [
        ("phone", "flag"),
        ("us_ssn", "replace"),
        ("credit_card", "mask"),
    ]
    assert result.restore == {"[US_SSN_1]": "078-05-1120"}
    with pytest.raises(PersonalDataBlockedError, match=r"secrets \(jwt\)"):
        sanitize(chat(text + " eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc-_"), rules)


def test_restored_data_never_stand_in_what_goes_on() -> None:
    texts = (f"I am joe@example.com, {CARD}", "and joe@example.com again", "or ann@example.com")
    result = sanitize(chat(*texts), policy("restore"))
    assert result.prompt.texts() == (
        "I am [EMAIL_1], [CREDIT_CARD_1]",
        "and [EMAIL_1] again",
        "or [EMAIL_2]",
    )
    for value in ("joe@example.com", "ann@example.com", CARD):
        assert value in result.restore.values()
        assert value not in repr(result)
        assert value.encode() not in msgspec.json.encode(result.prompt)
    again = "".join(result.prompt.texts())
    assert restored(again, result.restore) == "".join(texts)


def test_a_placeholder_of_the_clients_own_is_not_ours() -> None:
    result = sanitize(chat("what is [EMAIL_1]?", "joe@example.com"), policy("restore"))
    (placeholder,) = result.restore
    assert result.prompt.texts() == ("what is [EMAIL_1]?", placeholder)
    assert placeholder != "[EMAIL_1]"
    assert restored("[EMAIL_1]", result.restore) == "[EMAIL_1]"


def test_escapes_in_json_hide_nothing() -> None:
    prompt = asked(r'{"to": "joe\u0040example.com", "n": 1e3}', r'[{"a": "<\/s> \ud83d\ude00"}]')
    result = sanitize(prompt, policy("mask"), literals=LITERALS)
    assert result.prompt.texts()[2:] == ('{"to": "[EMAIL]", "n": 1e3}', '[{"a": "</s> 😀"}]', "")
    assert [finding.name for finding in result.findings] == ["email", "control_literal"]


def test_what_json_escapes_is_restored_as_it_is() -> None:
    key = "-----BEGIN PRIVATE KEY-----\nab==\n-----END PRIVATE KEY-----"
    arguments = json.dumps({"key": key})
    result = sanitize(asked(arguments), policy("restore"))
    assert result.restore == {"[PRIVATE_KEY_1]": key}
    (sent,) = (call.arguments for call in result.prompt.messages[1].tool_calls)
    assert json.loads(sent) == {"key": "[PRIVATE_KEY_1]"}
    assert json.loads(restored(sent, result.restore, in_json=True)) == {"key": key}


def test_an_unfinished_key_does_not_swallow_the_json_around_it() -> None:
    arguments = json.dumps({"key": "-----BEGIN PRIVATE KEY-----\nab==", "b": 1})
    result = sanitize(asked(arguments), policy("mask"))
    (sent,) = (call.arguments for call in result.prompt.messages[1].tool_calls)
    assert json.loads(sent) == {"key": "[PRIVATE_KEY]", "b": 1}


@pytest.mark.parametrize(
    "text", ["４１１１ １１１１ １１１１ １１１１", "٤١١١ 1111 1111 1111", "𝟒111 1111 1111 1111"]
)
def test_digits_of_other_scripts_hide_nothing(text: str) -> None:
    assert sanitize(chat(f"é {text}."), policy("mask")).prompt.texts() == ("é [CREDIT_CARD].",)


def test_look_alikes_hide_no_personal_data() -> None:
    for rules in (Rules(personal_data="mask"), Rules(personal_data="mask", homoglyphs="fold")):
        result = sanitize(chat("mail jоe@exаmple.com or joe＠example.com"), rules)
        assert "example" not in result.prompt.texts()[0]


def test_homoglyphs_as_the_rules_say() -> None:
    prompt = chat("ok", "log in to раypal")
    flagged = sanitize(prompt, FLAG)
    assert flagged.prompt is prompt
    assert flagged.findings == (Finding("homoglyph", 1, 10, 16),)
    fold = sanitize(prompt, Rules(homoglyphs="fold"))
    assert fold.prompt.texts() == ("ok", "log in to paypal")
    assert fold.findings == (Finding("homoglyph", 1, 10, 16, "replace"),)
    assert sanitize(prompt, Rules(homoglyphs="off")).findings == ()
    with pytest.raises(HomoglyphsBlockedError) as caught:
        sanitize(prompt, Rules(homoglyphs="block"))
    assert caught.value.status == 400
    assert "paypal" not in caught.value.message


def test_a_literal_that_folding_puts_together_is_reported() -> None:
    literals = ControlLiterals(["<|start|>"])
    result = sanitize(chat("<|stаrt|>"), Rules(homoglyphs="fold"), literals=literals)
    assert result.prompt.texts() == ("<|start|>",)
    assert Finding("control_literal", 0, 0, 9) in result.findings
    assert "control_literal" not in {f.name for f in sanitize(chat("<|stаrt|>"), FLAG).findings}


def test_a_literal_that_a_placeholder_puts_together_is_reported() -> None:
    literals = ControlLiterals(["<[EMAIL]>"])
    result = sanitize(chat("<joe@example.com>"), policy("mask"), literals=literals)
    assert "control_literal" in {finding.name for finding in result.findings}


def test_names_of_fields_are_not_folded() -> None:
    result = sanitize(asked('{"раypal": 1}'), Rules(homoglyphs="fold"))
    assert result.prompt.texts()[2] == '{"раypal": 1}'


WEAPONS = ContentRule(name="weapons", words=("bomb",))
TOPIC = ContentRule(name="medicine", words=("aspirin", "dose"), action="flag", min_hits=2)
DENYING = Rules(content=(WEAPONS, TOPIC))


@pytest.mark.parametrize("text", ["a bomb", "a bo\u200bmb", "a bоmb", "ｂｏｍｂ"])
def test_content_is_refused_by_name_and_never_quoted(text: str) -> None:
    with pytest.raises(ContentBlockedError, match="weapons") as caught:
        sanitize(chat("hi", text), DENYING)
    assert (caught.value.status, caught.value.code) == (400, "content_filter")
    assert "bomb" not in caught.value.message


def test_a_topic_is_met_over_several_messages() -> None:
    prompt = chat("which dose?", "of aspirin")
    result = sanitize(prompt, DENYING)
    assert result.prompt is prompt
    assert result.findings == (Finding("medicine", 0, 6, 10), Finding("medicine", 1, 3, 10))
    assert sanitize(chat("which dose?"), DENYING).findings == ()


def test_shadow_finds_everything_and_changes_nothing() -> None:
    rules = Rules(
        content=(WEAPONS,),
        homoglyphs="block",
        personal_data="restore",
        personal_kinds={"credit_card": "block"},
        shadow=True,
    )
    prompt = chat(f"a bo\u200bmb for раypal, {CARD}, joe@example.com <|im_\u200bend|>")
    result = sanitize(prompt, rules, literals=LITERALS)
    assert result.prompt is prompt
    assert result.restore == {}
    assert {(finding.name, finding.action) for finding in result.findings} == {
        ("weapons", "block"),
        ("homoglyph", "block"),
        ("credit_card", "block"),
        ("email", "replace"),
        ("zero_width", "cut"),
        ("control_literal", "flag"),
    }


def test_what_still_stands_must_not_leave() -> None:
    prompt = chat("joe@example.com раypal")
    for rules, stays in (
        (Rules(), True),
        (Rules(personal_data="mask"), False),
        (Rules(personal_data="restore"), False),
        (Rules(personal_data="restore", shadow=True), True),
        (Rules(personal_data="off"), False),
    ):
        assert must_not_leave(sanitize(prompt, rules).findings, rules) == stays


@pytest.mark.parametrize("long", [" and so on" * 50, ""])
def test_with_a_memory_the_result_is_the_same(long: str) -> None:
    rules = Rules(content=(WEAPONS,), personal_data="restore", homoglyphs="fold")
    memo: Memo[ControlLiterals | None] = Memo()
    texts = ["clean", "joe@example.com", "bo\u200bm", "раypal", "<|im_end|>", "clean 4111 in 1999"]
    for _ in range(3):
        prompt = chat(*(text + long for text in texts))
        alone = sanitize(prompt, rules, literals=LITERALS)
        assert sanitize(prompt, rules, literals=LITERALS, memo=memo) == alone
        clean = chat("clean" + long, "one 4111 more" + long)
        assert sanitize(clean, rules, literals=LITERALS, memo=memo).prompt is clean
        with pytest.raises(ContentBlockedError):
            sanitize(chat("clean" + long, "bomb" + long), rules, literals=LITERALS, memo=memo)


def test_a_warm_chat_costs_little() -> None:
    memo: Memo[ControlLiterals | None] = Memo()
    prompt = chat(*(f"{number} {SENTENCE * 50}" for number in range(40)))
    sanitize(prompt, FLAG, literals=LITERALS, memo=memo)
    best = float("inf")
    for _ in range(5):
        again = msgspec.json.decode(msgspec.json.encode(prompt), type=Prompt)
        begun = time.thread_time()
        sanitize(again, FLAG, literals=LITERALS, memo=memo)
        best = min(best, time.thread_time() - begun)
    # 150 KB. Measured at 0.03 ms; the bound of the design is 0.5 ms.
    assert best < 0.5e-3 * 2


@pytest.mark.parametrize(
    "text",
    ["a" * 1_000_000, "aа" * 500_000, "４" * 1_000_000, "<|im_end|>" * 90_000, "é " * 500_000],
    ids=["plain", "mixed", "digits", "literals", "accents"],
)
def test_no_text_of_a_megabyte_takes_long(text: str) -> None:
    prompt, rules = chat(text), Rules(content=(WEAPONS,), homoglyphs="fold")
    # Measured at 30 to 200 ms, in slices that hold the GIL for some milliseconds each.
    assert least_cpu_s(lambda: sanitize(prompt, rules, literals=LITERALS), 2, tries=2) < 2


def test_strings_at_which_to_stop_go_on_without_personal_data() -> None:
    sampling = Sampling(stop=("joe@example.com", "\u200b", "раypal", "END"))
    prompt = msgspec.structs.replace(chat("I am joe@example.com"), sampling=sampling)
    rules = Rules(personal_data="restore", homoglyphs="fold")
    result = sanitize(prompt, rules)
    assert result.prompt.sampling.stop == ("[EMAIL_1]", "раypal", "END")
    assert result.restore == {"[EMAIL_1]": "joe@example.com"}
    assert (result.findings[1].name, result.findings[1].part) == ("email", 1)
    clean = msgspec.structs.replace(chat("hi"), sampling=Sampling(stop=("END",)))
    assert sanitize(clean, rules).prompt is clean


def test_what_is_clean_as_a_text_may_hide_something_as_json() -> None:
    memo: Memo[ControlLiterals | None] = Memo()
    rules = policy("mask")
    text = json.dumps({"pad": "x" * 300, "to": "?"}).replace("?", r"joe\u0040example.com")
    for _ in range(2):
        said = chat(text)
        assert sanitize(said, rules, memo=memo).prompt is said
        called = sanitize(asked(text), rules, memo=memo).prompt
        assert "[EMAIL]" in called.messages[1].tool_calls[0].arguments
        plain = asked(json.dumps({"pad": "x\n" * 300}))
        assert sanitize(plain, rules, memo=memo).prompt == plain
