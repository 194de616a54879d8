"""The audit log's chain: every change but a cut end shows, and where."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.gateway.audit_records import (
    MAX_FIELD_CHARS,
    NO_HASH,
    AuditRecord,
    bounded,
    check_chain,
    decode_line,
    encode_line,
    line_hash,
)


def record(seq: int, prev: str, subject: str = "k1") -> AuditRecord:
    return AuditRecord(
        seq=seq,
        time=datetime(2030, 1, 1, tzinfo=UTC),
        actor="key:a",
        action="keys.revoke",
        subject=subject,
        outcome="done",
        request_id="r1",
        prev=prev,
    )


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    made: list[bytes] = []
    for seq in range(1, 7):
        prev = line_hash(made[-1]) if made else NO_HASH
        made.append(encode_line(record(seq, prev, f"k{seq}")))
    return made


@given(data=st.data())
@settings(max_examples=60)
def test_every_tampering_but_a_cut_end_shows(lines: list[bytes], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(lines) - 2))
    kind = data.draw(st.sampled_from(["change", "drop", "twice", "swap"]))
    changed = list(lines)
    if kind == "change":
        byte = data.draw(st.integers(0, len(lines[at]) - 1))
        flipped = bytes([lines[at][byte] ^ data.draw(st.integers(1, 127))])
        changed[at] = lines[at][:byte] + flipped + lines[at][byte + 1 :]
    elif kind == "drop":
        at = max(at, 1)
        del changed[at]
    elif kind == "twice":
        changed.insert(at, lines[at])
    else:
        changed[at], changed[at + 1] = lines[at + 1], lines[at]
    assert check_chain(changed).problem


def test_a_cut_end_shows_in_the_newest_hash(lines: list[bytes]) -> None:
    whole, cut = check_chain(lines), check_chain(lines[:-1])
    assert (whole.problem, cut.problem) == ("", "")
    assert whole.head != cut.head


def test_a_whole_chain_holds_to_its_newest_line(lines: list[bytes]) -> None:
    found = check_chain(lines)
    assert (found.records, found.first_seq, found.head_seq) == (6, 1, 6)
    assert (found.head, found.problem) == (line_hash(lines[-1]), "")


def test_an_empty_log_holds() -> None:
    found = check_chain([])
    assert (found.records, found.head, found.problem) == (0, NO_HASH, "")


def test_what_rotation_removed_is_no_break_and_is_told(lines: list[bytes]) -> None:
    found = check_chain(lines[2:])
    assert (found.records, found.first_seq, found.problem) == (4, 3, "")


def test_a_break_is_named_and_nothing_after_it_counts(lines: list[bytes]) -> None:
    changed = encode_line(record(3, line_hash(lines[1]), "k9"))
    breaks = {
        "line 3 (after record 2) is not a record": [*lines[:2], b"{}", *lines[3:]],
        "record 2 is followed by record 4": [*lines[:2], *lines[3:]],
        "record 4 does not follow from the line before it": [*lines[:2], changed, *lines[3:]],
    }
    for problem, broken in breaks.items():
        found = check_chain(broken)
        assert found.problem == problem
        assert found.head_seq < 4


def test_a_log_begun_anew_with_another_past_does_not_hold() -> None:
    assert "does not follow" in check_chain([encode_line(record(1, "f" * 64))]).problem


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"null", b"\xff", b"{"),
        b'{"seq":1}',
        encode_line(record(1, NO_HASH))[:-1] + b',"more":1}',
        encode_line(record(1, NO_HASH)).replace(b'"done"', b'"perhaps"'),
    ],
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    assert decode_line(line) is None


@given(text=st.text(st.characters(), max_size=2 * MAX_FIELD_CHARS))
@settings(max_examples=50)
def test_any_text_from_outside_makes_one_line_that_reads_back(text: str) -> None:
    written = record(1, NO_HASH, bounded(text))
    line = encode_line(written)
    assert b"\n" not in line
    assert len(written.subject) <= MAX_FIELD_CHARS
    assert decode_line(line) == written


def test_a_long_text_is_cut() -> None:
    assert bounded("é" * (MAX_FIELD_CHARS + 1)) == "é" * MAX_FIELD_CHARS


def test_a_lone_surrogate_can_be_written() -> None:
    assert msgspec.json.encode(bounded("a\ud800" + "x" * MAX_FIELD_CHARS))
