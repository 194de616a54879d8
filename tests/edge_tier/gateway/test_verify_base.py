"""What the client is told, and by how much two texts begin alike."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.verify_base import ClientAnswer, common_prefix
from tests.fakes.chat_streams import ENCODER
from wire.chat import DONE


def test_the_role_comes_once_and_before_the_text() -> None:
    client = ClientAnswer(ENCODER)
    assert client.text("a", "", "b") == ENCODER.role() + ENCODER.delta("a") + ENCODER.delta("b")
    assert client.text("c") == ENCODER.delta("c")
    assert client.finish("stop", 3) == ENCODER.finish("stop") + DONE
    assert client.ended


def test_an_empty_answer_has_a_role_too_and_usage_where_it_is_wanted() -> None:
    client = ClientAnswer(ENCODER, include_usage=True, prompt_tokens=7)
    expected = ENCODER.role() + ENCODER.finish("length") + ENCODER.usage(7, 3) + DONE
    assert client.finish("length", 3) == expected


def test_a_broken_answer_has_no_done() -> None:
    client = ClientAnswer(ENCODER)
    assert b"cloud_broke" in client.broken()
    assert client.ended
    assert DONE not in ClientAnswer(ENCODER).broken()


@given(st.text("ab", max_size=40), st.text("ab", max_size=40), st.text("ab", max_size=40))
def test_a_common_prefix_is_found(start: str, left: str, right: str) -> None:
    left, right = start + left, start + right
    found = common_prefix(left, right)
    assert left[:found] == right[:found]
    assert left[found : found + 1] != right[found : found + 1] or left == right
