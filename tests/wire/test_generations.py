"""What was asked for lately is known; the rest is forgotten in time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wire.generations import Generations


def test_what_was_put_is_found_until_two_generations_have_passed() -> None:
    known = Generations(max_entries=2, max_bytes=10_000)
    for word in ("a", "b", "c", "d", "e"):
        known.put(word, (1,))
    assert [known.get(word) for word in "abcde"] == [None, None, (1,), (1,), (1,)]


def test_what_is_asked_for_stays() -> None:
    known = Generations(max_entries=2, max_bytes=10_000)
    known.put("kept", (7,))
    for word in map(str, range(20)):
        known.put(word, (1,))
        assert known.get("kept") == (7,)


def test_what_is_too_large_is_not_kept() -> None:
    known = Generations(max_entries=10, max_bytes=4_000)
    known.put("a" * 300, (1,))
    known.put("b", (1,) * 100)
    assert known.get("a" * 300) is None
    assert known.get("b") is None


@given(words=st.lists(st.text(max_size=30), max_size=60))
def test_a_generation_keeps_its_bounds(words: list[str]) -> None:
    known = Generations(max_entries=5, max_bytes=1_600)
    for word in words:
        known.put(word, (1,) * len(word))
        assert len(known.young) <= 5
        assert sum(250 + 41 * len(text) for text in known.young) <= 1_600
