"""Sequenced events: what changed, for whoever caches it. Sans-IO.

An event is a hint, never the truth: it says which surrogate keys to revalidate, and the signed
pointer says what holds. So a lost event costs time, not correctness. Ids are ``EPOCH-SEQUENCE``; a
subscriber that comes back with ``Last-Event-ID`` gets what it missed, or one ``reset`` event (drop
all assumptions, revalidate everything) where the log no longer reaches back or is another's.
Source: WHATWG HTML section 9.2 for the id's transport.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Literal

import msgspec

from wire.errors import RequestInvalidError

EventKind = Literal["channel", "purge", "reset"]
MAX_EVENT_BYTES = 64 * 1024
RESET_KEY = "*"
"""Matches every surrogate key."""


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something changed under these surrogate keys (``wire.paths``).

    ``hard``: what the keys name was taken down and must never be served again (410).
    """

    id: str
    kind: EventKind
    keys: tuple[str, ...]
    hard: bool = False


_decoder = msgspec.json.Decoder(Event)


def encode_event(event: Event) -> bytes:
    """The event as JSON, for the ``data`` field of an SSE event."""
    return msgspec.json.encode(event)


def decode_event(data: bytes | str) -> Event:
    """Read an event.

    Raises:
        RequestInvalidError: not an event, or over ``MAX_EVENT_BYTES``.
    """
    if len(data) > MAX_EVENT_BYTES:
        raise RequestInvalidError(f"event of {len(data)} B is over {MAX_EVENT_BYTES} B")
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestInvalidError(f"malformed event: {error}") from error


class EventLog:
    """The last ``capacity`` events of one publisher.

    Args:
        epoch: differs from start to start, so that ids of an earlier life are recognised.
        capacity: events kept for those who come back.
    """

    def __init__(self, epoch: str, *, capacity: int = 1024) -> None:
        self._epoch = epoch
        self._events: deque[Event] = deque(maxlen=capacity)
        self._sequence = 0

    @property
    def last_id(self) -> str:
        """The newest event's id; sequence 0 where there is none yet."""
        return f"{self._epoch}-{self._sequence}"

    def append(self, kind: EventKind, keys: Iterable[str], *, hard: bool = False) -> Event:
        """Record an event and give it the next id."""
        self._sequence += 1
        event = Event(id=self.last_id, kind=kind, keys=tuple(keys), hard=hard)
        self._events.append(event)
        return event

    def since(self, last_event_id: str | None) -> list[Event]:
        """What a subscriber missed; one ``reset`` where that is not known."""
        if last_event_id is None:
            return [self._reset()]
        epoch, _, number = last_event_id.rpartition("-")
        if epoch != self._epoch or not (number.isascii() and number.isdigit()):
            return [self._reset()]
        missed = self._sequence - int(number[:20])
        if missed < 0 or missed > len(self._events):
            return [self._reset()]
        return list(self._events)[len(self._events) - missed :]

    def _reset(self) -> Event:
        return Event(id=self.last_id, kind="reset", keys=(RESET_KEY,))
