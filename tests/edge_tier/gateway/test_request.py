"""A prompt's texts can be read and replaced, and what was masked is never printed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.gateway.request import Charge, Message, Prompt, Sanitized, Tokens, ToolCall

TEXT = st.text(max_size=8)
CALLS = st.lists(st.builds(ToolCall, id=TEXT, name=TEXT, arguments=TEXT), max_size=3).map(tuple)
MESSAGES = st.lists(
    st.builds(
        Message,
        role=st.sampled_from(["system", "user", "assistant", "tool"]),
        content=TEXT,
        tool_calls=CALLS,
        tool_call_id=TEXT,
    ),
    max_size=4,
).map(tuple)
CHATS = st.builds(
    Prompt,
    kind=st.just("chat"),
    model=st.just("m"),
    messages=MESSAGES,
    tools=TEXT,
    response_format=TEXT,
    tool_choice=TEXT,
)
COMPLETIONS = st.builds(Prompt, kind=st.just("completion"), model=st.just("m"), text=TEXT)
EMBEDDINGS = st.builds(
    Prompt,
    kind=st.just("embedding"),
    model=st.just("m"),
    inputs=st.lists(TEXT, max_size=4).map(tuple),
)
PROMPTS = CHATS | COMPLETIONS | EMBEDDINGS


@given(PROMPTS)
@settings(max_examples=50)
def test_a_prompt_with_its_own_texts_is_the_same(prompt: Prompt) -> None:
    assert prompt.with_texts(prompt.texts()) == prompt


@given(PROMPTS, st.data())
@settings(max_examples=50)
def test_each_text_can_be_replaced_and_nothing_else_changes(
    prompt: Prompt, data: st.DataObject
) -> None:
    texts = prompt.texts()
    # What is empty stays so: without tools and a format, both are no texts.
    fresh = tuple(f"new {at}" if text else text for at, text in enumerate(texts))
    at = data.draw(st.integers(0, len(texts) - 1)) if texts else 0
    one = (*texts[:at], *fresh[at : at + 1], *texts[at + 1 :])
    for wanted in (fresh, one):
        changed = prompt.with_texts(wanted)
        assert changed.texts() == wanted
        assert changed.with_texts(texts) == prompt


def test_all_that_came_from_outside_is_among_the_texts() -> None:
    prompt = Prompt(
        kind="chat",
        model="m",
        messages=(
            Message("user", "question"),
            Message("assistant", "", (ToolCall("c1", "f", "{1}"), ToolCall("c2", "f", "{2}"))),
            Message("tool", "result", tool_call_id="c1"),
        ),
        tools="[tools]",
        response_format="{format}",
    )
    assert prompt.texts() == (
        *("question", "", "result"),
        *("{1}", "{2}"),
        *("[tools]", "{format}"),
    )


@pytest.mark.parametrize(
    ("change", "by_engine"),
    [
        ({}, False),
        ({"tool_choice": '"none"'}, False),
        ({"tools": "[]"}, True),
        ({"response_format": "{}"}, True),
        ({"messages": (Message("assistant", "", (ToolCall("c", "f", "{}"),)),)}, True),
        ({"messages": (Message("tool", "x", tool_call_id="c"),)}, True),
    ],
)
def test_tools_and_formats_are_rendered_by_the_engine(
    change: dict[str, Any], by_engine: bool
) -> None:
    plain = Prompt(kind="chat", model="m", messages=(Message("user", "hi"),))
    assert msgspec.structs.replace(plain, **change).engine_renders is by_engine


def test_what_placeholders_stand_for_is_never_printed() -> None:
    prompt = Prompt(kind="completion", model="m", text="mail [EMAIL_1]")
    printed = repr(Sanitized(prompt, restore={"[EMAIL_1]": "ann@example.org"}))
    assert "ann" not in printed
    assert "1 placeholders" in printed


def test_tokens_are_counted_or_else_estimated() -> None:
    assert len(Tokens(model="m", revision="r", ids=(1, 2, 3), estimate=9)) == 3
    assert len(Tokens(model="m", revision="r", estimate=9)) == 9
    assert Charge(model="m", input_tokens=2, output_tokens=5).tokens == 7
