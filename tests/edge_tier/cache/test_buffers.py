from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.cache.buffers import Buffers


def test_a_buffer_given_back_is_lent_again() -> None:
    buffers = Buffers(16, 1)
    first = buffers.take()
    assert first is not None
    assert len(first) == 16
    assert buffers.take() is None
    buffers.give_back(first)
    assert buffers.take() is first


def test_one_that_is_lost_is_replaced() -> None:
    buffers = Buffers(16, 1)
    first = buffers.take()
    buffers.lose(first)
    second = buffers.take()
    assert second is not None
    assert second is not first


def test_nothing_is_given_back_where_nothing_was_lent() -> None:
    buffers = Buffers(16, 1)
    buffers.give_back(None)
    buffers.lose(None)
    assert buffers.take() is not None
    assert buffers.take() is None


@given(st.lists(st.sampled_from(["take", "give", "lose"]), max_size=60))
def test_no_buffer_is_lent_twice_and_never_too_many(steps: list[str]) -> None:
    buffers = Buffers(4, 3)
    lent: list[memoryview] = []
    for step in steps:
        if step == "take":
            taken = buffers.take()
            assert (taken is None) == (len(lent) == 3)
            if taken is not None:
                assert all(taken is not other for other in lent)
                lent.append(taken)
        elif lent:
            (buffers.give_back if step == "give" else buffers.lose)(lent.pop())
