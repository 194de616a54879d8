"""Logprobs are cut out of events, and nothing else is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.strip_logprobs import carries_logprobs, without_logprobs
from tests.fakes.chat_streams import event


@given(st.text(max_size=30), st.lists(st.floats(-30, 0), min_size=1, max_size=3))
def test_only_the_value_is_cut(text: str, values: list[float]) -> None:
    assert without_logprobs(event(text, *values)) == event(text)


def test_what_carries_none_stays_as_it_is() -> None:
    for block in (event("x"), b": ping\n\n", b"data: [DONE]\n\n", b'data: {"logprobs":{\n\n'):
        assert without_logprobs(block) == block
    assert not carries_logprobs(event("x") * 3)
    assert carries_logprobs(event("x") + event("y", -1.0))


@pytest.mark.parametrize(
    "lookalike", ['"logprobs":{}', '"logprobs": {"content":[]}', "{}", '{"content":[]}']
)
def test_text_that_looks_like_logprobs_is_text(lookalike: str) -> None:
    for value in ("{}", '{"content":[]}'):
        choice = '{"index":0,"delta":{"content":%s},"extra":{},"logprobs":%s}'
        text = json.dumps(lookalike)
        block = f'data: {{"choices":[{choice % (text, value)}]}}\n\n'.encode()
        expected = f'data: {{"choices":[{choice % (text, "null")}]}}\n\n'.encode()
        assert without_logprobs(block) == expected


def test_spaces_several_choices_and_lines_are_understood() -> None:
    first = b'data: {"choices": [{"logprobs" : {"a": {}}}, {"logprobs": null},\r\n'
    block = first + b'data: {"logprobs": {"a": {}}}]}\r\n\r\n'
    found = without_logprobs(block)
    assert json.loads(found.replace(b"data: ", b"").replace(b"\n", b" ")) == {
        "choices": [{"logprobs": None}] * 3
    }


@given(st.binary(max_size=60))
def test_hostile_events_are_left_alone_or_cut(data: bytes) -> None:
    without_logprobs(b'data: {"choices":[{"logprobs":{' + data + b"\n\n")
