"""Values come back in an answer, wherever it was cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.restore import Restorer, restored

MAPPING = {
    "[EMAIL_1]": "joe@example.com",
    "[EMAIL_10]": "ann@example.com",
    "[PHONE_1]": "+1 415 555 2671",
    "[PRIVATE_KEY_1_a3f9c2]": '-----BEGIN "x"\nab[EMAIL_1]=\n-----',
}
LONGEST = max(map(len, MAPPING))


def at_once(text: str) -> str:
    for placeholder in MAPPING:
        text = text.replace(placeholder, f"\0{placeholder[1:-1]}\0")
    for placeholder, value in MAPPING.items():
        text = text.replace(f"\0{placeholder[1:-1]}\0", value)
    return text


TEXTS = [
    "write to [EMAIL_1].",
    "[EMAIL_1][EMAIL_10][EMAIL_1]",
    "[[EMAIL_1]] and [EMAIL_] [EMAIL_11] [EMAIL_1 [PHONE_1]",
    "no placeholder [1] a[i] [EMA",
    "key: [PRIVATE_KEY_1_a3f9c2], [PRIVATE_KEY_1]",
    "[",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_split_into_two_and_three_gives_the_same(text: str) -> None:
    expected = at_once(text)
    assert restored(text, MAPPING) == expected
    for first in range(len(text) + 1):
        for second in range(first, len(text) + 1):
            one = Restorer(MAPPING)
            parts = text[:first], text[first:second], text[second:]
            assert "".join(map(one.feed, parts)) + one.flush() == expected


def test_only_what_may_become_a_placeholder_is_held_back() -> None:
    one = Restorer(MAPPING)
    assert one.feed("a [EM") == "a "
    assert [one.holding] == [True]
    assert one.feed("x [b] [") == "[EMx [b] "
    assert one.feed("EMAIL_1") == ""
    assert one.feed("0]!") == "ann@example.com!"
    assert [one.holding] == [False]
    assert one.flush() == ""


def test_values_are_escaped_inside_json() -> None:
    text = json.dumps({"key": "[PRIVATE_KEY_1_a3f9c2]", "to": "[EMAIL_1]"})
    one = Restorer(MAPPING, in_json=True)
    parsed = json.loads("".join(map(one.feed, text)) + one.flush())
    assert parsed == {"key": MAPPING["[PRIVATE_KEY_1_a3f9c2]"], "to": "joe@example.com"}


pieces = st.lists(
    st.sampled_from(
        [*MAPPING, *(p[:n] for p in MAPPING for n in (1, 4, len(p) - 1)), "]", "[", "a"]
    )
).map("".join)


@given(pieces, st.data())
def test_any_split_of_any_mixture_gives_the_same_and_holds_little(
    text: str, data: st.DataObject
) -> None:
    one = Restorer(MAPPING)
    out = ""
    rest = text
    while rest:
        cut = data.draw(st.integers(1, len(rest)))
        out += one.feed(rest[:cut])
        rest = rest[cut:]
        fed = text[: len(text) - len(rest)]
        assert len(at_once(fed)) - len(out) < LONGEST
    assert out + one.flush() == at_once(text)
