"""The journal of an answer: which tokens are behind its events, so that it can go on elsewhere.

An edge that sends token ids may ask a worker for a journal (:class:`JournalWanted` in the body).
Then every event with a choice begins with a line ``id: 50,283``, the ids of the tokens behind it,
in order: ``id`` is a field of server-sent events that changes nothing about the data. Tokens that
the engine did not name are told by their number, as in ``id:-1,50``, without the space that is
there otherwise: so an edge sees at the first look that all tokens are named. An event with text
whose tokens are not known at all has no such line, and then the journal is of no use
(docs/adr/0027). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

MAX_TOKENS = 1_048_576
"""Of one answer."""
MAX_ID = 2**31
"""Ids are below it."""
ID_FIELD, GAPS_FIELD = b"id: ", b"id:"
"""How a line begins whose tokens are all named, and one with gaps."""
REPLAY_DIFFERS = "replay_differs"
"""Code of the error that says: with the same seed, other tokens came."""

_TokenOrGap = Annotated[int, Meta(ge=-MAX_TOKENS, lt=MAX_ID)]
_LINE = re.compile(rb"(?:-?[0-9]{1,10}(?:,-?[0-9]{1,10})*)?")


class JournalWanted(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an edge asks for, as the field ``journal`` of a body. The edge names the answer, so that
    whoever goes on with it can use the same name."""

    id: Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
    """The answer's id, the same in every chunk."""
    created: Annotated[int, Meta(ge=0, lt=2**53)]
    """Unix seconds."""
    ids: Annotated[tuple[_TokenOrGap, ...], Meta(max_length=MAX_TOKENS)] = ()
    """Tokens that the client has already. ``max_tokens`` and the usage count them too."""
    begun: bool = False
    """Whether the client has the beginning of the answer, which has no tokens."""
    replay: bool = False
    """Whether they are to be generated again and compared, as a seed makes possible; else the
    answer goes on after them."""


def id_line(ids: Sequence[int]) -> bytes:
    """The line that begins an event."""
    if len(ids) == 1 and ids[0] >= 0:
        return b"id: %d\n" % ids[0]
    field = GAPS_FIELD if min(ids, default=0) < 0 else ID_FIELD
    return b"%b%b\n" % (field, ",".join(map(str, ids)).encode())


def read_ids(line: bytes) -> tuple[int, ...] | None:
    """Ids and gaps in a line without its field's name; None where this is no such line."""
    if _LINE.fullmatch(line) is None:
        return None
    ids = tuple(map(int, line.split(b","))) if line else ()
    return ids if all(-MAX_TOKENS <= id_ < MAX_ID for id_ in ids) else None


def count(ids: Sequence[int]) -> int:
    """How many tokens these are."""
    return sum([1 if id_ >= 0 else -id_ for id_ in ids])
