"""gpu_worker.bodies: hostile bytes from outside, and what is left of them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.bodies import ChatBody, CompletionBody, TokenizeBody, decode_body
from gpu_worker.engine import Generation, Sampling
from wire.errors import RequestInvalidError

IDS = {"prompt_token_ids": [1, 2]}


def chat(**fields: Any) -> Generation:
    return decode_body(json.dumps({**IDS, **fields}).encode(), ChatBody).generation()


@pytest.mark.parametrize(
    ("given_stop", "stop"), [(None, ()), ("END", ("END",)), (["a", "b"], ("a", "b")), ([], ())]
)
def test_stop_is_a_word_or_several(given_stop: Any, stop: tuple[str, ...]) -> None:
    assert chat(stop=given_stop).sampling.stop == stop


def test_the_newer_name_of_the_token_limit_wins() -> None:
    assert chat(max_tokens=5).max_tokens == 5
    assert chat(max_tokens=5, max_completion_tokens=3).max_tokens == 3
    assert chat().max_tokens is None


def test_null_is_as_good_as_absent() -> None:
    names = ("temperature", "top_p", "seed", "stop", "logit_bias", "logprobs", "max_tokens")
    assert chat(**dict.fromkeys(names)) == chat() == Generation(prompt=(1, 2))


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_seed_becomes_one_that_engines_take(seed: int) -> None:
    found = chat(seed=seed).sampling.seed
    assert found is not None
    assert 0 <= found < 2**32
    assert found == chat(seed=seed).sampling.seed


def test_logprobs_of_the_first_tokens_can_be_asked_for_alone() -> None:
    assert chat(logprobs_first=8).sampling == Sampling(logprobs=True, logprobs_first=8)
    both = chat(logprobs_first=8, top_logprobs=2).sampling
    assert both == Sampling(logprobs=True, top_logprobs=2, logprobs_first=8)
    plain = decode_body(b'{"prompt": "x", "logprobs_first": 4}', CompletionBody).generation()
    assert plain.sampling == Sampling(logprobs=True, logprobs_first=4)
    assert chat(logprobs_first=None).sampling == Sampling()


@pytest.mark.parametrize("count", [0, -1, 257, 1.5, "8"])
def test_a_senseless_number_of_first_tokens_is_refused(count: Any) -> None:
    with pytest.raises(RequestInvalidError, match="logprobs_first"):
        chat(logprobs_first=count)


def test_the_logprobs_of_a_completion_are_a_number_of_alternatives() -> None:
    def sampling(**fields: Any) -> Sampling:
        body = json.dumps({"prompt": "x", **fields}).encode()
        return decode_body(body, CompletionBody).generation().sampling

    assert not sampling().logprobs
    assert sampling(logprobs=0) == Sampling(logprobs=True)
    assert sampling(logprobs=4) == Sampling(logprobs=True, top_logprobs=4)


@pytest.mark.parametrize("prompt", [None, "", [], [1, "2"], ["a", "b"], [[1], [2]], 7])
def test_a_completion_needs_one_text_or_one_list_of_tokens(prompt: Any) -> None:
    with pytest.raises(RequestInvalidError):
        decode_body(json.dumps({"prompt": prompt}).encode(), CompletionBody)


@given(st.binary(max_size=200))
@pytest.mark.parametrize("kind", [ChatBody, CompletionBody, TokenizeBody])
def test_no_bytes_raise_anything_but_a_refusal(kind: type[Any], data: bytes) -> None:
    with suppress(RequestInvalidError):
        decode_body(data, kind)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(ChatBody.__struct_fields__)


@given(st.dictionaries(FIELDS, JSON, max_size=5))
def test_whatever_stands_in_a_field_is_refused_or_in_range(fields: dict[str, Any]) -> None:
    try:
        found = decode_body(json.dumps(fields).encode(), ChatBody).generation()
    except RequestInvalidError:
        return
    sampling = found.sampling
    assert found.prompt
    assert sampling.temperature is None or 0 <= sampling.temperature <= 2
    assert found.max_tokens is None or found.max_tokens > 0
    assert 0 <= sampling.top_logprobs <= 20
    msgspec.json.encode(found)
