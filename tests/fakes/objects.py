"""Objects in memory, on a clock that a test can turn, and with faults that it can order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from origin.stores.objects import Stat, Tag
from wire.chunk import Buffer
from wire.errors import ConflictError, NotFoundError, TooLargeError


class MemoryObjects:
    """What several origins may share, as they do a bucket.

    Args:
        clock: seconds since 1970.
        page: objects in one answer to a listing.
    """

    def __init__(self, clock: Callable[[], float], *, page: int = 3) -> None:
        self.kept: dict[str, tuple[bytes, float]] = {}
        self.before_swap: Callable[[], None] = lambda: None
        """Called before a conditional write is judged."""
        self._clock = clock
        self._page = page
        self._written = 0
        self._versions: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def remote(self) -> bool:
        return True

    def put(self, key: str, data: Buffer) -> None:
        with self._lock:
            self._put(key, data)

    def swap(self, key: str, data: bytes, tag: Tag | None) -> Tag:
        self.before_swap()
        with self._lock:
            if self._versions.get(key) != (tag["version"] if tag is not None else None):
                raise ConflictError(f"{key} was changed by somebody else")
            self._put(key, data)
            return {"version": self._versions[key]}

    def get(self, key: str, limit_bytes: int) -> Buffer:
        found = self.kept.get(key)
        if found is None:
            raise NotFoundError(f"not in the store: {key}")
        if len(found[0]) > limit_bytes:
            raise TooLargeError(f"{key} is too large")
        return found[0]

    def get_tagged(
        self, key: str, limit_bytes: int, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        with self._lock:
            data = bytes(self.get(key, limit_bytes))
            tag = {"version": self._versions[key]}
        return None if tag == known else (data, tag)

    def stat(self, key: str) -> Stat | None:
        found = self.kept.get(key)
        return Stat(key, len(found[0]), found[1]) if found is not None else None

    def pages(self, prefix: str) -> Iterator[list[Stat]]:
        with self._lock:
            keys = sorted(key for key in self.kept if key.startswith(prefix))
        for start in range(0, len(keys), self._page):
            stats = (self.stat(key) for key in keys[start : start + self._page])
            yield [stat for stat in stats if stat is not None]

    def remove(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self.kept.pop(key, None)
                self._versions.pop(key, None)

    def move(self, old: str, new: str) -> None:
        data = self.get(old, 1 << 40)
        self.put(new, data)
        self.remove([old])

    def path(self, key: str) -> Path | None:
        return None

    def sweep(self) -> None:
        """Nothing is ever half written."""

    def _put(self, key: str, data: Buffer) -> None:
        self._written += 1
        self._versions[key] = str(self._written)
        self.kept[key] = (bytes(data), self._clock())
