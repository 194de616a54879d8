from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.golden import (
    MAX_ANSWER_TOKENS,
    MAX_GOLDEN_BYTES,
    MAX_PROMPT_TOKENS,
    MAX_PROMPTS,
    Answer,
    Expectations,
    Golden,
    GoldenInvalidError,
    GoldenPrompt,
    GoldenToken,
    SeenToken,
    build,
    compare,
    compare_texts,
    decode,
    encode,
)

PROMPT = GoldenPrompt(ids=(1, 2), text="The capital")
ANSWER: Answer = (
    GoldenToken(7, b" of", -0.1),
    GoldenToken(8, b" France", -0.7),
    GoldenToken(2, b"", 0.0),
)


def expecting(*answers: Answer, max_nats: float = 0.4, mean_nats: float = 0.05) -> Expectations:
    return Expectations((PROMPT,) * len(answers), answers, max_nats, mean_nats)


def seen(answer: Answer = ANSWER, *, shift: float = 0.0) -> list[SeenToken]:
    return [SeenToken(t.id, t.logprob + shift, {t.id: t.logprob + shift}) for t in answer]


ids = st.integers(0, 2**31 - 1)
tokens = st.builds(
    GoldenToken, ids, st.binary(max_size=8), st.floats(-100, 0).map(lambda x: round(x, 3))
)
answers = st.lists(tokens, min_size=1, max_size=6).map(tuple)
prompts = st.builds(
    GoldenPrompt, ids=st.lists(ids, min_size=1, max_size=6).map(tuple), text=st.text(max_size=9)
)


@st.composite
def goldens(draw: st.DrawFn) -> Golden:
    asked = draw(st.lists(prompts, min_size=1, max_size=3).map(tuple))
    one = st.lists(answers, min_size=len(asked), max_size=len(asked)).map(tuple)
    variants = draw(st.lists(st.sampled_from(("", "Q4_0", "Q8_0")), unique=True))
    return build(asked, {variant: draw(one) for variant in variants})


# The file


@given(goldens())
def test_what_is_written_is_read_and_the_same_content_is_the_same_bytes(golden: Golden) -> None:
    assert decode(encode(golden)) == golden
    assert encode(decode(encode(golden))) == encode(golden)


@given(st.binary(max_size=200))
def test_what_is_no_golden_file_is_refused(data: bytes) -> None:
    with pytest.raises(GoldenInvalidError):
        decode(data)


@given(goldens(), st.data())
def test_a_file_that_was_cut_or_changed_is_refused_or_another(
    golden: Golden, data: st.DataObject
) -> None:
    good = encode(golden)
    at = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[at] ^= data.draw(st.integers(1, 255))
    for candidate in (good[:at], bytes(bad)):
        try:
            found = decode(candidate)
        except GoldenInvalidError:
            continue
        assert math.isfinite(sum(t.logprob for a in found.answers.values() for x in a for t in x))


TOKEN = [7, "", -0.5]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "headwater.golden/2"}, "golden/2"),
        ({"prompts": []}, "0 golden prompts"),
        ({"prompts": [{"ids": [1], "text": ""}] * (MAX_PROMPTS + 1)}, "golden prompts"),
        ({"prompts": [{"ids": [], "text": ""}]}, "0 tokens"),
        ({"prompts": [{"ids": [1] * (MAX_PROMPT_TOKENS + 1), "text": ""}]}, "tokens"),
        ({"prompts": [{"ids": [-1], "text": ""}]}, "token id -1"),
        ({"answers": {"": []}}, "0 golden answers"),
        ({"answers": {"": [[]]}}, "not empty"),
        ({"answers": {"": [[TOKEN] * (MAX_ANSWER_TOKENS + 1)]}}, "65 tokens"),
        ({"answers": {"../x": [[TOKEN]]}}, "variant"),
        ({"answers": {"": [[[2**31, "", -0.5]]]}}, "token id"),
        ({"answers": {"": [[[7, "", 0.5]]]}}, "log-probability is 0.5"),
        ({"answers": {"": [[[7, "", None]]]}}, "malformed"),
        ({"max_nats": 0.0}, "tolerance"),
        ({"mean_nats": 11.0}, "tolerance"),
    ],
)
def test_what_is_out_of_bounds_is_refused(change: dict[str, Any], why: str) -> None:
    good = msgspec.json.decode(encode(build((PROMPT,), {"": (ANSWER,)})))
    with pytest.raises(GoldenInvalidError, match=why):
        decode(msgspec.json.encode(good | change))


def test_a_file_that_is_too_large_is_not_read() -> None:
    with pytest.raises(GoldenInvalidError, match="is over"):
        decode(b" " * (MAX_GOLDEN_BYTES + 1))


def test_every_variant_has_its_own_answers() -> None:
    other = (*ANSWER[:1], GoldenToken(9, b" Peru", -0.3))
    golden = build((PROMPT,), {"Q4_0": (ANSWER,), "Q8_0": (other,)}, max_nats=1.0, mean_nats=0.5)
    assert golden.of_variant("Q8_0") == Expectations((PROMPT,), (other,), 1.0, 0.5)
    assert golden.of_variant("Q2_K") is None


# The comparison


def test_the_same_numbers_pass() -> None:
    verdict = compare(expecting(ANSWER, ANSWER), [seen(), seen()])
    assert (verdict.problem, verdict.tokens, verdict.ties) == ("", 6, 0)
    assert (verdict.max_nats, verdict.mean_nats) == (0.0, 0.0)


def test_a_small_difference_is_borne_and_told() -> None:
    verdict = compare(expecting(ANSWER), [seen(shift=-0.04)])
    assert verdict.problem == ""
    assert verdict.max_nats == pytest.approx(0.04)
    assert verdict.mean_nats == pytest.approx(0.04)


def test_a_large_one_is_not() -> None:
    tokens = seen()
    tokens[1] = SeenToken(8, -1.2, {8: -1.2})
    verdict = compare(expecting(ANSWER), [tokens])
    assert verdict.problem.startswith("prompt 0, token 1: log-probability -1.200 instead of -0.700")
    assert verdict.max_nats == pytest.approx(0.5)


def test_many_small_ones_are_not() -> None:
    verdict = compare(expecting(ANSWER, ANSWER), [seen(shift=-0.06), seen(shift=-0.06)])
    assert "0.060 nats on average, over 0.05" in verdict.problem


def test_a_tie_may_fall_the_other_way_and_ends_the_comparison_of_its_prompt() -> None:
    tied = [seen()[0], SeenToken(9, -0.69, {9: -0.69, 8: -0.71}), SeenToken(1, -9.0, {})]
    verdict = compare(expecting(ANSWER), [tied])
    assert (verdict.problem, verdict.ties, verdict.tokens) == ("", 1, 2)


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (SeenToken(9, -0.1, {9: -0.1, 8: -0.7}), "9 instead of 8, which was no tie"),
        (SeenToken(9, -0.1, {9: -0.1, 3: -2.5}), "9 instead of 8, which was not near"),
        (SeenToken(9, -1.4, {9: -1.4, 8: -1.5}), "log-probability -1.500 instead of -0.700"),
    ],
    ids=["far behind", "not among the likeliest", "tied, but with a value of another model"],
)
def test_another_token_is_no_tie_where_the_expected_one_was_not_near(
    token: SeenToken, why: str
) -> None:
    verdict = compare(expecting(ANSWER), [[seen()[0], token, seen()[2]]])
    assert f"prompt 0, token 1: {why}" in verdict.problem
    assert verdict.tokens == 2


def test_what_was_not_among_the_likeliest_counts_with_the_least_of_them() -> None:
    tokens = [seen()[0], SeenToken(9, -0.1, {9: -0.1, 3: -2.5})]
    assert compare(expecting(ANSWER), [tokens]).max_nats == pytest.approx(1.8)


def test_an_answer_that_ends_too_soon_is_another() -> None:
    verdict = compare(expecting(ANSWER), [seen(ANSWER[:2])])
    assert verdict.problem == "prompt 0, token 2: the answer ended, expected 2"
    assert compare(expecting(ANSWER), []).problem == "0 answers to 1 prompts"


def test_all_prompts_count_after_a_failure_too() -> None:
    verdict = compare(expecting(ANSWER, ANSWER), [seen(shift=-0.5), seen(shift=-3.0)])
    assert verdict.problem.startswith("prompt 0")
    assert verdict.max_nats == pytest.approx(3.0)


@given(answers, st.floats(-0.05, 0.05))
def test_whatever_was_published_passes_with_a_little_noise(answer: Answer, noise: float) -> None:
    assert compare(expecting(answer), [seen(answer, shift=noise * 0.99)]).problem == ""


@given(st.lists(answers, min_size=1, max_size=3), st.integers(0, 5), st.data())
def test_any_token_that_is_not_near_is_found(
    given_answers: list[Answer], place: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, len(given_answers) - 1))
    answer = given_answers[number]
    at = min(place, len(answer) - 1)
    tokens = [seen(a) for a in given_answers]
    other = (answer[at].id + 1) % 2**31
    tokens[number][at] = SeenToken(other, -0.1, {other: -0.1})
    problem = compare(expecting(*given_answers), tokens).problem
    assert problem.startswith(f"prompt {number}, token {at}: {other} instead of")


# By text alone


def test_texts_pass_where_most_are_the_same() -> None:
    expected = expecting(ANSWER, ANSWER, ANSWER)
    assert compare_texts(expected, [" of France"] * 3).problem == ""
    verdict = compare_texts(expected, [" of France", "of France", " of Peru"])
    assert (verdict.problem, verdict.ties) == ("", 1)
    assert (
        "2 of 3 texts differ (prompts 1, 2)"
        in compare_texts(expected, [" of France", "no", " of Peru"]).problem
    )


def test_half_a_character_at_the_end_of_a_text_does_not_count() -> None:
    half = (GoldenToken(1, "ü".encode()[:1], -0.1),)
    word = (GoldenToken(1, b" gr", -0.1), *half)
    assert compare_texts(expecting(word), [" gr"]).problem == ""


def test_numbers_beyond_all_reason_are_refused_and_break_no_sum() -> None:
    with pytest.raises(GoldenInvalidError, match="a log-probability is -1e\\+308"):
        build((PROMPT,), {"": ((GoldenToken(7, b"x", -1e308),),)})
    odd = [SeenToken(7, -1.7e308, {})]
    verdict = compare(expecting(*[ANSWER] * MAX_PROMPTS), [odd] * MAX_PROMPTS)
    assert "over 0.4 nats apart" in verdict.problem
    far = [SeenToken(9, -1.7e308, {})]
    verdict = compare(expecting(*[ANSWER] * MAX_PROMPTS), [far] * MAX_PROMPTS)
    assert "which was not near" in verdict.problem
    lost = compare(expecting(ANSWER), [[SeenToken(7, math.nan, {})]])
    assert lost.problem != ""
