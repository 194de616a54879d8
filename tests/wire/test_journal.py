"""wire.journal: how the ids of an answer's tokens are told."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.journal import ID_FIELD, MAX_TOKENS, JournalWanted, count, id_line, read_ids
from wire.sse import SSEDecoder

IDS = st.lists(st.integers(-MAX_TOKENS, 2**31 - 1), max_size=8)


@given(IDS)
def test_what_is_told_is_read(ids: list[int]) -> None:
    line = id_line(ids)
    assert line.startswith(ID_FIELD) is all(id_ >= 0 for id_ in ids)
    (event,) = SSEDecoder().feed(line + b"data: x\n\n")
    assert read_ids(event.id.encode()) == tuple(ids)


@given(st.text("0123456789-, x", max_size=16))
def test_anything_else_is_none_and_no_error(line: str) -> None:
    found = read_ids(line.encode())
    if found is not None:
        assert list(found) == [int(part) for part in line.split(",") if line]


@pytest.mark.parametrize("line", [b"x", b"1,", b",1", b"1 2", b"--1", b"1_0", b"+1", b"2147483648"])
def test_what_is_no_list_of_ids(line: bytes) -> None:
    assert read_ids(line) is None


def test_gaps_are_counted() -> None:
    assert count((5, -2, 7)) == 4
    assert count(()) == 0


def test_the_line_is_a_field_that_changes_nothing_about_the_data() -> None:
    (event,) = SSEDecoder().feed(id_line([50, -1]) + b"data: x\n\n")
    assert (event.data, event.event, event.id) == ("x", "message", "50,-1")


def test_a_wanted_journal_is_small_and_bounded() -> None:
    wanted = JournalWanted(id="chatcmpl-1", created=1)
    assert msgspec.json.encode(wanted) == b'{"id":"chatcmpl-1","created":1}'
    for bad in (
        {"id": "", "created": 1},
        {"id": 'a"b', "created": 1},
        {"id": "a" * 65, "created": 1},
        {"id": "a", "created": -1},
        {"id": "a", "created": 1, "ids": [2**31]},
        {"id": "a", "created": 1, "ids": [-(MAX_TOKENS + 1)]},
    ):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(bad, JournalWanted)
