"""Escapes are written out, and the JSON says the same as before."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.json_text import escaped, without_escapes

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(values)
def test_the_json_says_the_same(value: object) -> None:
    text = json.dumps(value)
    assert json.loads(without_escapes(text)) == value
    assert without_escapes(without_escapes(text)) == without_escapes(text)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_one_form_for_every_string(text: str) -> None:
    utf16 = text.encode("utf-16-be")
    units = [f"\\u{utf16[i]:02X}{utf16[i + 1]:02x}" for i in range(0, len(utf16), 2)]
    assert without_escapes("".join(units)) == escaped(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"<\/s>", "</s>"),
        (r"\\u003c", r"\\u003c"),
        (r"\\\u003c", r"\\<"),
        (r"\u003", r"\u003"),
        (r"\ud83d", r"\ud83d"),
        (r"\ud83d\u0041", r"\ud83d\u0041".replace(r"\u0041", "A")),
        (r"\ude00\ud83d\ude00", "\\ude00😀"),
        ("end\\", "end\\"),
        (r"\u0022\u005c\u000a", r"\"\\\n"),
    ],
)
def test_what_cannot_be_written_out_stays(text: str, expected: str) -> None:
    assert without_escapes(text) == expected
