"""What a bounded cache keeps: S3-FIFO over bytes, with pins. Pure; all its rules live here.

Three queues, after Yang, Zhang, Qiu, Yue and Vinayak, "FIFO queues are all you need for cache
eviction" (SOSP '23). What is new enters ``small`` (a tenth of the bytes). At its end it moves to
``main`` if it was used more than once, else it leaves, and its name is remembered in ``ghost``;
who comes back from there enters ``main``. At the end of ``main`` a used one goes round again, at
the price of one use. So a scan passes through the small queue and leaves the rest alone, and a hit
costs one counter and moves nothing. Ours are the bytes, the pins and a bound on the work of one
eviction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator

MAX_USES = 3
"""Uses are counted up to here (two bits in the paper)."""
PROMOTE_USES = 2
"""So many uses move an entry from ``small`` to ``main``."""
MAX_SWEEP = 256
"""Used entries that one eviction spares before it takes the next whatever its uses, so that no call
walks the whole cache."""


class _Entry:
    __slots__ = ("size_bytes", "uses")

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.uses = 0


class _Queue:
    """Entries, first in first out, with their bytes."""

    __slots__ = ("entries", "used_bytes")

    def __init__(self) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.used_bytes = 0

    def push(self, key: str, entry: _Entry) -> None:
        self.entries[key] = entry
        self.used_bytes += entry.size_bytes

    def pop(self) -> tuple[str, _Entry]:
        key, entry = self.entries.popitem(last=False)
        self.used_bytes -= entry.size_bytes
        return key, entry

    def remove(self, key: str) -> _Entry | None:
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.used_bytes -= entry.size_bytes
        return entry


class Eviction:
    """Decides which keys stay within ``capacity_bytes``.

    Args:
        capacity_bytes: sizes of all entries together never exceed this.
        small_share: share of the capacity for entries that are new.
        pinned_share: share of the capacity that pins may take. What is pinned beyond it is kept
            like anything else that proved its use.
    """

    def __init__(
        self, capacity_bytes: int, *, small_share: float = 0.1, pinned_share: float = 1.0
    ) -> None:
        self.capacity_bytes = capacity_bytes
        self._small_bytes = int(capacity_bytes * small_share)
        self._most_pinned_bytes = int(capacity_bytes * pinned_share)
        self._entries: dict[str, _Entry] = {}
        self._small, self._main, self._pinned = _Queue(), _Queue(), _Queue()
        self._ghost: OrderedDict[str, None] = OrderedDict()
        self._pins: dict[str, int] = {}
        self._owners: dict[str, frozenset[str]] = {}

    @property
    def used_bytes(self) -> int:
        return self._small.used_bytes + self._main.used_bytes + self._pinned.used_bytes

    @property
    def pinned_bytes(self) -> int:
        return self._pinned.used_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    @property
    def owners(self) -> tuple[str, ...]:
        """Who pins something."""
        return tuple(self._owners)

    def touch(self, key: str) -> None:
        """Count a use; nothing where the key is not here."""
        entry = self._entries.get(key)
        if entry is not None and entry.uses < MAX_USES:
            entry.uses += 1

    def admit(self, key: str, size_bytes: int) -> list[str] | None:
        """Take in a key, anew where it was here; the keys that had to leave for it.

        None: it cannot be kept, because what is pinned leaves too little room.
        """
        known = key in self._ghost
        self._ghost.pop(key, None)
        return self._take(key, size_bytes, self._main if known else self._small)

    def restore(self, key: str, size_bytes: int) -> list[str] | None:
        """Like :meth:`admit`, for what was kept in an earlier life: it has passed ``small``."""
        return self._take(key, size_bytes, self._main)

    def remove(self, key: str) -> bool:
        """Forget a key that is gone for another reason; whether it was here."""
        if self._entries.pop(key, None) is None:
            return False
        for queue in (self._small, self._main, self._pinned):
            queue.remove(key)
        return True

    def reclaim(self, size_bytes: int) -> list[str]:
        """Free so many bytes where that is possible; the keys that had to leave."""
        return self._evict_until(max(0, self.used_bytes - size_bytes))

    def pin(self, owner: str, keys: Iterable[str]) -> None:
        """Keep exactly these keys for ``owner``, in place of what it kept before.

        Keys that are not here yet are kept once they come. A key stays pinned while any owner
        wants it. Where there is no room for all, the first ones are kept.
        """
        wanted = dict.fromkeys(keys)
        before = self._owners.pop(owner, frozenset())
        if wanted:
            self._owners[owner] = frozenset(wanted)
        for key in before - wanted.keys():  # first, for it makes room
            self._pins[key] -= 1
            if not self._pins[key]:
                del self._pins[key]
                self._release(key)
        for key in wanted:
            if key not in before:
                self._pins[key] = self._pins.get(key, 0) + 1
            entry = self._entries.get(key)
            if entry is not None and self._can_pin(key, entry.size_bytes):
                self._move(key, self._pinned)

    def unpin(self, owner: str) -> None:
        """Release all that ``owner`` kept."""
        self.pin(owner, ())

    def _take(self, key: str, size_bytes: int, queue: _Queue) -> list[str] | None:
        self.remove(key)
        if size_bytes + self._pinned.used_bytes > self.capacity_bytes:
            return None
        victims = self._evict_until(self.capacity_bytes - size_bytes)
        entry = self._entries[key] = _Entry(size_bytes)
        (self._pinned if self._can_pin(key, size_bytes) else queue).push(key, entry)
        return victims

    def _can_pin(self, key: str, size_bytes: int) -> bool:
        return key in self._pins and self._pinned.used_bytes + size_bytes <= self._most_pinned_bytes

    def _release(self, key: str) -> None:
        """Uses while it was pinned say little of what comes: an old revision must be able to go."""
        if key in self._entries:
            self._entries[key].uses = 0
            self._move(key, self._main)

    def _move(self, key: str, target: _Queue) -> None:
        for queue in (self._small, self._main, self._pinned):
            if queue is not target and (entry := queue.remove(key)) is not None:
                target.push(key, entry)

    def _evict_until(self, target_bytes: int) -> list[str]:
        victims = []
        while self.used_bytes > target_bytes and (self._small.entries or self._main.entries):
            victims.append(self._evict_one())
        return victims

    def _evict_one(self) -> str:
        spared = 0
        while True:
            from_small = self._small.entries and (
                self._small.used_bytes > self._small_bytes or not self._main.entries
            )
            key, entry = (self._small if from_small else self._main).pop()
            if spared < MAX_SWEEP and entry.uses >= (PROMOTE_USES if from_small else 1):
                spared += 1
                entry.uses = 0 if from_small else entry.uses - 1
                self._main.push(key, entry)
                continue
            del self._entries[key]
            if from_small:
                self._remember(key)
            return key

    def _remember(self, key: str) -> None:
        """Ghosts are names only, and no more of them than there are entries."""
        self._ghost[key] = None
        while len(self._ghost) > max(1, len(self._entries)):
            self._ghost.popitem(last=False)
