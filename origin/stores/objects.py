"""What the origin asks of a place for objects. Everything blocks, and is called from threads.

Keys are the origin's own, of names that were checked (``wire.paths``). Every object is written
whole or not at all. Errors are ``NotFoundError``, ``ConflictError`` and ``StoreError``, whatever
the place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from wire.chunk import Buffer

Tag = Mapping[str, str]
"""Which content of an object was read or written; only the place itself knows what it means."""


@dataclass(frozen=True, slots=True)
class Stat:
    """An object without its bytes."""

    key: str
    size: int
    modified: float
    """When it was last written, seconds since 1970, by the place's own clock."""


class Objects(Protocol):
    """A place for objects."""

    @property
    def remote(self) -> bool:
        """Whether every question is a round trip, and other origins may be here too."""
        ...

    def put(self, key: str, data: Buffer) -> None:
        """Write an object, over an older one. Raises ``StoreError``."""
        ...

    def swap(self, key: str, data: bytes, tag: Tag | None) -> Tag:
        """Write an object only where it is still the one with this tag (None: where there is none).

        Raises:
            ConflictError: somebody else wrote it first, or removed it.
            StoreError: nothing is known of what happened.
        """
        ...

    def get(self, key: str, limit_bytes: int) -> Buffer:
        """An object's bytes.

        Raises:
            NotFoundError: not here.
            TooLargeError: it has more than ``limit_bytes``, which were not read.
            StoreError: it cannot be read.
        """
        ...

    def get_tagged(
        self, key: str, limit_bytes: int, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        """The same with its tag; None where it is still the one with the tag ``known``."""
        ...

    def stat(self, key: str) -> Stat | None:
        """An object's size and time; None where there is none. Raises ``StoreError``."""
        ...

    def pages(self, prefix: str) -> Iterator[list[Stat]]:
        """All objects below a folder, some at a time, in no promised order."""
        ...

    def remove(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are not there are passed over. Raises ``StoreError``."""
        ...

    def move(self, old: str, new: str) -> None:
        """Give an object another name. Raises ``NotFoundError``, ``StoreError``."""
        ...

    def path(self, key: str) -> Path | None:
        """The file that holds an object, where a file does; it need not be there."""
        ...

    def sweep(self) -> None:
        """Remove what an earlier life was writing when it ended. Not while another one writes."""
        ...
