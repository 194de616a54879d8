"""The fields that chat, completion and embedding share: every bound to the number."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway import parse_fields
from edge_tier.gateway.parse_errors import ParameterInvalidError, RequestTooLargeError
from edge_tier.gateway.parse_fields import Common, ParseConfig, check_chars, check_range
from edge_tier.gateway.request import Sampling

CONFIG = ParseConfig()


def common(**fields: Any) -> Common:
    return Common(model="m", **fields)


def sampled(config: ParseConfig = CONFIG, /, **fields: Any) -> Sampling:
    return parse_fields.sampling(common(**fields), False, None, config)


def bias(entries: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(entries))


def test_what_is_not_given_is_the_engines() -> None:
    assert sampled() == Sampling()


BOUNDS: list[tuple[str, float, float]] = [
    ("temperature", 0, 2),
    ("top_p", 0, 1),
    ("presence_penalty", -2, 2),
    ("frequency_penalty", -2, 2),
    ("seed", -(2**63), 2**63 - 1),
]


@pytest.mark.parametrize(("name", "low", "high"), BOUNDS)
def test_a_number_may_be_its_bound_and_no_further(name: str, low: float, high: float) -> None:
    for value in (low, high):
        assert getattr(sampled(**{name: value}), name) == value
    step = 1 if name == "seed" else 1e-6
    for value in (low - step, high + step):
        with pytest.raises(ParameterInvalidError) as caught:
            sampled(**{name: value})
        assert caught.value.param == name


@given(st.floats() | st.integers(), st.integers(-5, 5), st.integers(0, 5))
def test_a_range_holds_exactly_what_lies_in_it(value: float, low: int, size: int) -> None:
    inside = low <= value <= low + size
    try:
        check_range(value, "x", low, low + size)
    except ParameterInvalidError:
        assert not inside
    else:
        assert inside


def test_top_logprobs_end_at_20() -> None:
    assert parse_fields.sampling(common(), True, 20, CONFIG).top_logprobs == 20
    with pytest.raises(ParameterInvalidError, match="top_logprobs"):
        parse_fields.sampling(common(), True, 21, CONFIG)


@pytest.mark.parametrize(
    ("stop", "found"),
    [("END", ("END",)), (["a", "b"], ("a", "b")), ([], ()), (["x" * 256] * 4, ("x" * 256,) * 4)],
)
def test_stops_are_one_or_up_to_four(stop: Any, found: tuple[str, ...]) -> None:
    assert sampled(stop=stop).stop == found


@pytest.mark.parametrize("stop", ["", [""], ["a"] * 5, "x" * 257])
def test_other_stops_are_refused(stop: Any) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        sampled(stop=stop)
    assert caught.value.param == "stop"


def test_biases_are_by_token_id_within_100() -> None:
    entries = {"0": -100, "999999999": 100.0}
    assert sampled(logit_bias=bias(entries)).logit_bias == entries
    assert sampled(logit_bias=bias(None)).logit_bias is None


@pytest.mark.parametrize(
    "entries",
    [{"01": 1}, {"-1": 1}, {"1e3": 1}, {"": 1}, {"1\n": 1}, {"1000000000": 1}, {"1": 100.5}, []],
)
def test_other_biases_are_refused(entries: object) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        sampled(logit_bias=bias(entries))
    assert str(caught.value.param).startswith("logit_bias")


def test_too_many_biases_are_not_even_read() -> None:
    config = ParseConfig(max_logit_bias_entries=2)
    assert sampled(config, logit_bias=bias({"1": 1, "2": 2}))
    with pytest.raises(RequestTooLargeError):
        sampled(config, logit_bias=msgspec.Raw(b'{"1":1,"2":2,"3":broken'))


@pytest.mark.parametrize(
    ("old", "new", "found"), [(None, None, None), (5, None, 5), (None, 6, 6), (7, 7, 7)]
)
def test_max_tokens_has_two_spellings(old: int | None, new: int | None, found: int | None) -> None:
    fields = common(max_tokens=old, max_completion_tokens=new)
    assert parse_fields.max_tokens(fields, CONFIG) == found


@pytest.mark.parametrize(("old", "new"), [(5, 6), (0, None), (None, 0), (None, 11), (11, None)])
def test_two_answers_or_none_at_all_are_refused(old: int | None, new: int | None) -> None:
    with pytest.raises(ParameterInvalidError, match="max_"):
        parse_fields.max_tokens(
            common(max_tokens=old, max_completion_tokens=new), ParseConfig(max_output_tokens=10)
        )


def test_usage_comes_at_the_end_of_a_stream_alone() -> None:
    def wanted(body: str) -> bool:
        return parse_fields.include_usage(msgspec.json.decode(body, type=Common))

    options = '"stream_options":{"include_usage":true}'
    assert wanted('{"model":"m","stream":true,' + options + "}")
    assert not wanted('{"model":"m","stream":true}')
    assert not wanted('{"model":"m","stream":true,"stream_options":{}}')
    with pytest.raises(ParameterInvalidError, match="stream to be true"):
        wanted('{"model":"m",' + options + "}")


@pytest.mark.parametrize("model", ["m", "org/Model-1.5_q4:latest", "!", "x" * 128])
def test_models_are_printable_words(model: str) -> None:
    assert parse_fields.checked_model(model, CONFIG) == model


@pytest.mark.parametrize("model", ["", "a b", "a\n", "é", "\x7f", "x" * 129])
def test_what_cannot_be_a_model_is_refused(model: str) -> None:
    with pytest.raises(ParameterInvalidError) as caught:
        parse_fields.checked_model(model, CONFIG)
    assert caught.value.param == "model"


def test_texts_users_and_choices_end_at_their_bounds() -> None:
    config = ParseConfig(max_text_chars=5, max_user_chars=3, max_choices=2)
    check_chars(5, "messages", config)
    with pytest.raises(RequestTooLargeError, match="6 characters, more than 5"):
        check_chars(6, "messages", config)
    assert parse_fields.checked_user("abc", config) == "abc"
    assert parse_fields.checked_user(None, config) is None
    with pytest.raises(ParameterInvalidError, match="user"):
        parse_fields.checked_user("abcd", config)
    assert [parse_fields.choices(common(n=n), config) for n in (None, 1, 2)] == [1, 1, 2]
    for count in (0, 3):
        with pytest.raises(ParameterInvalidError, match="n must be"):
            parse_fields.choices(common(n=count), config)
