"""A bounded map that forgets what has not been asked for lately, at the price of two lookups.

Two generations: what is new goes into the young one; when that is full it becomes the old one, and
what the old one held and nobody asked for meanwhile is gone. A hit costs one lookup in a plain
dict, which is why callers may look into ``young`` themselves.
"""

from __future__ import annotations


class Generations:
    """Text to ids. Safe to share between threads: each step is one operation on a dict, and a lost
    race only forgets.

    Args:
        max_entries, max_bytes: of one generation; there are two.
    """

    __slots__ = ("_bytes", "_max_bytes", "_max_entries", "_old", "young")

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._bytes = 0
        self._old: dict[str, tuple[int, ...]] = {}
        self.young: dict[str, tuple[int, ...]] = {}

    @property
    def has_old(self) -> bool:
        """Whether anything is known that is not in ``young``."""
        return bool(self._old)

    def get(self, text: str) -> tuple[int, ...] | None:
        """What is known of the text. What only the old generation knew is young again."""
        ids = self.young.get(text)
        if ids is None:
            ids = self._old.get(text)
            if ids is not None:
                self.put(text, ids)
        return ids

    def put(self, text: str, ids: tuple[int, ...]) -> None:
        """Remember; what is larger than a quarter of a generation is not kept.

        Counted are a dict's slot, four bytes a character, and an int object per id.
        """
        size = 250 + 4 * len(text) + 40 * len(ids)
        if size * 4 > self._max_bytes:
            return
        if len(self.young) >= self._max_entries or self._bytes + size > self._max_bytes:
            self._old, self.young, self._bytes = self.young, {}, 0
        self.young[text] = ids
        self._bytes += size
