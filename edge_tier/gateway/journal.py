"""What an edge remembers of a stream so that another worker can go on with it, sans-IO.

Token ids, as the very bytes in which the worker told them (``wire.journal``): the relay adds to
them for every token of every stream, and hardly any stream ever breaks. They are only read when one
does. A journal that cannot be complete says why in ``lost``, and then the answer cannot go on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import msgspec

from wire.journal import GAPS_FIELD, MAX_ID, JournalWanted, count, read_ids


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    text: str = ""


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []


_decode = msgspec.json.Decoder(_Chunk).decode
_NO_IDS = "the worker told something else than token ids"
_TOO_LONG = "the answer is longer than what is remembered of one"
_UNTOLD = "the worker does not tell its tokens"
_NAMED = re.compile(rb"(?:[0-9]{1,10}(?:,[0-9]{1,10})*\n)*")
"""Lines without a gap, as nearly all are."""


class Journal:
    """One answer's.

    Args:
        id: the answer's.
        created: Unix seconds.
        max_bytes: how much is remembered; about five bytes are one token.
    """

    def __init__(self, id: str, created: int, *, max_bytes: int) -> None:  # noqa: A002
        self.id = id
        self.created = created
        self.max_bytes = max_bytes
        self.lost = ""
        """Why this journal is of no use; empty: it is complete so far."""
        self.finished = False
        """The event with the finish reason has gone to the client."""
        self.lines = bytearray()
        """Each event's ids and a line feed. The relay's fast path appends to it."""
        self._texts: list[str] = []
        """Of those events whose line has a gap."""
        self._text_bytes = 0

    @property
    def gaps(self) -> bool:
        """Whether not every token was named."""
        return bool(self._texts)

    def take(self, line: bytes, data: bytes | None) -> None:
        """Remember an event that goes to the client.

        Args:
            line: its ids, without the field's name.
            data: the event's.
        """
        if self.lost:
            self.lines.clear()
            return
        if len(line) > self.max_bytes:
            self.lose(_TOO_LONG)
            return
        ids = read_ids(line)
        if not ids:
            # What the client has read and nobody can name would be given to it again.
            if ids is None or _text(data or b""):
                self.lose(_NO_IDS if ids is None else _UNTOLD)
            return
        if min(ids) < 0:
            text = _text(data or b"")
            self._texts.append(text)
            self._text_bytes += 4 * len(text)
        self.lines += line + b"\n"
        if len(self.lines) + self._text_bytes > self.max_bytes:
            self.lose(_TOO_LONG)

    def lose(self, why: str) -> None:
        """It is not complete any more; the first reason counts."""
        self.lost = self.lost or why
        self.lines.clear()
        self._texts = []

    def ids(self) -> tuple[int, ...] | None:
        """The tokens so far, gaps as negative numbers; None where these are no ids."""
        named = self._named()
        if named is not None:
            return named
        events = self._events()
        if events is None:
            self.lose(_NO_IDS)
            return None
        return tuple(id_ for event in events for id_ in event)

    def filled(self, encode: Callable[[str], Sequence[int]]) -> tuple[tuple[int, ...], bool] | None:
        """The tokens so far without gaps, and whether these are surely the very ones.

        A gap is part of a character of several tokens. Its event's text, tokenized again, gives
        them; where its other tokens come out as the worker told them, so are those of the gap.
        """
        if not self.gaps:
            named = self._named()
            return (named, True) if named is not None else None
        events = self._events()
        if events is None:
            return None
        texts, ids, sure = iter(self._texts), list[int](), True
        for event in events:
            if min(event) >= 0:
                ids += event
                continue
            again = encode(next(texts, ""))
            sure = sure and fits(event, again)
            ids += again
        return tuple(ids), sure

    def wanted(self) -> JournalWanted:
        """What is asked of the first worker."""
        return JournalWanted(id=self.id, created=self.created)

    def _named(self) -> tuple[int, ...] | None:
        """The ids of all events at once; None where there is a gap, or something else."""
        if _NAMED.fullmatch(self.lines) is None:
            return None
        named = tuple(map(int, bytes(self.lines).replace(b"\n", b",").split(b",")[:-1]))
        return named if max(named, default=0) < MAX_ID else None

    def _events(self) -> list[tuple[int, ...]] | None:
        events = []
        for line in bytes(self.lines).split(b"\n")[:-1]:
            ids = read_ids(line)
            if not ids:
                return None  # the relay's fast path puts in only what stands before a text
            events.append(ids)
        return events


def split(block: bytes) -> tuple[bytes | None, bytes]:
    """An event's ids, where it begins with such a line, and the event without it."""
    if not block.startswith(GAPS_FIELD):
        return None, block
    line, _, rest = block.partition(b"\n")
    return line[len(GAPS_FIELD) :].removeprefix(b" "), rest


def fits(told: Sequence[int], ids: Sequence[int]) -> bool:
    """Whether ``ids`` may be what was told with gaps."""
    if count(told) != len(ids):
        return False
    at = 0
    for id_ in told:
        if id_ >= 0 and ids[at] != id_:
            return False
        at += 1 if id_ >= 0 else -id_
    return True


def _text(data: bytes) -> str:
    try:
        choices = _decode(data).choices
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ""
    return "".join([choice.delta.content or choice.text for choice in choices])
