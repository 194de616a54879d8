"""One line of the audit log, and how lines hang together. Pure.

Every record holds the SHA-256 of the line before it, so a line that was changed, removed or put in
shows where the chain breaks. What is cut off at the end does not show by itself: the newest hash is
logged with every act and printed by ``headwater audit``, and can be compared with what was noted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

import msgspec

Outcome = Literal["begun", "done", "failed", "refused"]
NO_HASH = "0" * 64
MAX_FIELD_CHARS = 512


class AuditRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who did what to what. An act is ``begun`` first, and then ``done`` or ``failed``."""

    seq: int
    time: datetime
    actor: str
    """``key:<id>``, or ``token:<fingerprint>``; never a secret."""
    action: str
    subject: str
    outcome: Outcome
    request_id: str
    prev: str
    """SHA-256 of the line before, without its line feed."""


class ChainReport(msgspec.Struct, frozen=True, kw_only=True):
    """What reading a log from its beginning found."""

    records: int
    first_seq: int
    """Above 1 where rotation has removed older records."""
    head_seq: int
    head: str
    """SHA-256 of the newest line."""
    problem: str
    """Where the chain breaks; empty: it holds."""


def encode_line(record: AuditRecord) -> bytes:
    """A record as a line, without its line feed."""
    return msgspec.json.encode(record)


def line_hash(line: bytes) -> str:
    """What the next record holds as ``prev``."""
    return hashlib.sha256(line).hexdigest()


def bounded(text: str) -> str:
    """A text from outside as it may stand in a record."""
    return text[:MAX_FIELD_CHARS].encode("utf-8", "replace").decode()


def decode_line(line: bytes) -> AuditRecord | None:
    """The record in a line, or None where it is none."""
    try:
        return msgspec.json.decode(line, type=AuditRecord)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def check_chain(lines: Iterable[bytes]) -> ChainReport:
    """Follow the chain from the oldest line to the newest, or to where it breaks.

    Args:
        lines: oldest first, without line feeds.
    """
    count, first, seq, head = 0, 0, 0, NO_HASH
    problem = ""
    for line in lines:
        record = decode_line(line)
        if record is None:
            problem = f"line {count + 1} (after record {seq}) is not a record"
        elif count and record.seq != seq + 1:
            problem = f"record {seq} is followed by record {record.seq}"
        elif (count or record.seq == 1) and record.prev != head:
            problem = f"record {record.seq} does not follow from the line before it"
        if record is None or problem:
            break
        count, seq, head = count + 1, record.seq, line_hash(line)
        first = first or seq
    return ChainReport(records=count, first_seq=first, head_seq=seq, head=head, problem=problem)
