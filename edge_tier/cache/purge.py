"""What was purged, and when: the memory that keeps a stale fill out of the cache. Pure.

Keys are surrogate keys (``wire.paths``). What may change, a channel or the trust metadata, is
*marked*: it stays at hand, but the next use revalidates it. What never changes, a chunk or a
revision, cannot go stale. A soft purge of a chunk drops the copy, so that the next use asks whether
it may still be had; of a revision it does nothing. A hard purge takes either down: it is dropped
and answered 410 from then on.

A fill that began before a purge must not be stored after it (threat 13). So every purge counts one
up and is remembered under its key; a fill notes the count when it begins and asks at its end. Where
old entries were forgotten, the answer is the safe one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from wire.chunk import ChunkId, is_digest
from wire.events import RESET_KEY
from wire.paths import TRUST_KEY

CHUNK_PREFIX = "chunk:"
REVISION_PREFIX = "revision:"
CHANNEL_PREFIX = "channel:"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a purge asks the cache to do."""

    marked: tuple[str, ...] = ()
    """Pointers to revalidate at their next use; ``RESET_KEY`` stands for all of them."""
    dropped_pointers: tuple[str, ...] = ()
    dropped_revisions: tuple[str, ...] = ()
    dropped_chunks: tuple[ChunkId, ...] = ()
    ignored: tuple[str, ...] = ()
    """Keys of no form known here, and soft purges of revisions."""
    takes_down: bool = False
    """Whether something is answered 410 from now on."""


class Purges:
    """The purges so far.

    Args:
        max_gone: takedowns remembered; beyond, the oldest is left to the origin's own 410.
        max_recent: other purges remembered.
    """

    def __init__(self, *, max_gone: int = 200_000, max_recent: int = 65_536) -> None:
        self._max_gone = max_gone
        self._max_recent = max_recent
        self._gone: OrderedDict[str, None] = OrderedDict()
        self._recent: OrderedDict[str, int] = OrderedDict()
        self._generation = 0
        self._floor = 0

    @property
    def generation(self) -> int:
        """The number of purges so far. Note it when a fill begins."""
        return self._generation

    def apply(self, keys: Iterable[str], *, hard: bool) -> Effect:
        """Count a purge and say what it asks for. ``RESET_KEY`` marks everything, never more."""
        self._generation += 1
        marked: list[str] = []
        pointers: list[str] = []
        revisions: list[str] = []
        chunks: list[ChunkId] = []
        ignored: list[str] = []
        for key in keys:
            if key == RESET_KEY:
                marked.append(key)
                self._forget_before(self._generation)
            elif key == TRUST_KEY or key.startswith(CHANNEL_PREFIX):
                (pointers if hard else marked).append(key)
                self._note(key)
            elif digest := _digest(key, CHUNK_PREFIX):
                chunks.append(ChunkId(digest))
                if hard:
                    self._take_down(key)
            elif hard and (digest := _digest(key, REVISION_PREFIX)):
                revisions.append(digest)
                self._take_down(key)
            else:
                ignored.append(key)
        return Effect(
            tuple(marked),
            tuple(pointers),
            tuple(revisions),
            tuple(chunks),
            tuple(ignored),
            takes_down=hard and bool(revisions or chunks),
        )

    def is_gone(self, key: str) -> bool:
        """Whether the chunk or revision was taken down."""
        return key in self._gone

    def purged_since(self, key: str, generation: int) -> bool:
        """Whether something fetched since ``generation`` may be older than a purge of ``key``."""
        return key in self._gone or self._recent.get(key, self._floor) > generation

    def unknown(self, keys: Iterable[str]) -> list[str]:
        """Those of these that can be taken down and were not yet."""
        return [
            key
            for key in keys
            if key not in self._gone
            and (_digest(key, CHUNK_PREFIX) or _digest(key, REVISION_PREFIX))
        ]

    def gone_keys(self) -> tuple[str, ...]:
        """All takedowns, the oldest first."""
        return tuple(self._gone)

    def gone(self) -> bytes:
        """All takedowns, a line each, for :meth:`load`."""
        return "\n".join(self._gone).encode()

    def load(self, data: bytes) -> Effect:
        """Take in the takedowns of an earlier life."""
        return self.apply(data.decode("ascii", "ignore").split("\n"), hard=True)

    def _take_down(self, key: str) -> None:
        self._gone[key] = None
        while len(self._gone) > self._max_gone:
            self._gone.popitem(last=False)

    def _note(self, key: str) -> None:
        self._recent[key] = self._generation
        self._recent.move_to_end(key)
        while len(self._recent) > self._max_recent:
            _, self._floor = self._recent.popitem(last=False)

    def _forget_before(self, generation: int) -> None:
        self._recent.clear()
        self._floor = generation


def _digest(key: str, prefix: str) -> str | None:
    digest = key.removeprefix(prefix)
    return digest if key.startswith(prefix) and is_digest(digest) else None
