"""A bound on the bytes that are in memory at once; whoever wants more waits its turn.

There are two queues. Real requests are served first come first served; work in the background (a
warm-up, read-ahead) is served only while no real request waits, and never gets more than its share,
so that a real request seldom finds everything lent. Where a real request comes to need what waits
in the background, :meth:`ByteBudget.hurry` moves that to the front.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable


class Loan:
    """Bytes that were lent. Give them back once, at the latest with :meth:`give_back`."""

    __slots__ = ("_budget", "background", "size_bytes")

    def __init__(self, budget: ByteBudget, size_bytes: int, background: bool) -> None:
        self._budget = budget
        self.size_bytes = size_bytes
        self.background = background

    def shrink(self, size_bytes: int) -> None:
        """Keep no more than so many bytes."""
        surplus = self.size_bytes - size_bytes
        if surplus > 0:
            self.size_bytes = size_bytes
            self._budget._take_back(surplus, self.background)

    def give_back(self) -> None:
        """Keep nothing; may be called twice."""
        self.shrink(0)


class _Wish:
    __slots__ = ("background", "key", "size_bytes", "turn")

    def __init__(
        self, size_bytes: int, background: bool, key: Hashable, turn: asyncio.Future[Loan]
    ) -> None:
        self.size_bytes = size_bytes
        self.background = background
        self.key = key
        self.turn = turn


class ByteBudget:
    """Bytes to lend.

    Args:
        total_bytes: the most that is lent at once. A single larger wish gets all of it.
        background_share: share of it that background work may have at once; a single larger wish
            gets all of the share.
    """

    def __init__(self, total_bytes: int, *, background_share: float = 0.5) -> None:
        self._total = total_bytes
        self._free = total_bytes
        self._background = max(1, int(total_bytes * background_share))
        self._background_free = self._background
        self._urgent: deque[_Wish] = deque()
        self._patient: deque[_Wish] = deque()

    @property
    def lent_bytes(self) -> int:
        return self._total - self._free

    def has_room(self, size_bytes: int) -> bool:
        """Whether background work would get so many bytes at once."""
        waiting = bool(self._urgent or self._patient)
        return not waiting and self._fits(min(size_bytes, self._background), background=True)

    async def lend(
        self, size_bytes: int, *, background: bool = False, key: Hashable = None
    ) -> Loan:
        """Wait until so many bytes are free.

        Args:
            key: what :meth:`hurry` knows the wish by.
        """
        size = min(size_bytes, self._background if background else self._total)
        turn: asyncio.Future[Loan] = asyncio.get_running_loop().create_future()
        wish = _Wish(size, background, key, turn)
        (self._patient if background else self._urgent).append(wish)
        self._serve()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._serve()  # whoever stood behind may fit now
            else:
                turn.result().give_back()  # it was served in the moment it left
            raise

    def hurry(self, key: Hashable) -> None:
        """A real request needs what waits in the background under this key."""
        for wish in [wish for wish in self._patient if wish.key == key]:
            self._patient.remove(wish)
            wish.background = False
            self._urgent.append(wish)
        self._serve()

    def _take_back(self, size_bytes: int, background: bool) -> None:
        self._free += size_bytes
        if background:
            self._background_free += size_bytes
        self._serve()

    def _fits(self, size_bytes: int, *, background: bool) -> bool:
        return size_bytes <= self._free and (not background or size_bytes <= self._background_free)

    def _serve(self) -> None:
        self._serve_queue(self._urgent)
        if not self._urgent:
            self._serve_queue(self._patient)

    def _serve_queue(self, queue: deque[_Wish]) -> None:
        while queue:
            wish = queue[0]
            if not wish.turn.cancelled():
                if not self._fits(wish.size_bytes, background=wish.background):
                    return
                self._free -= wish.size_bytes
                if wish.background:
                    self._background_free -= wish.size_bytes
                wish.turn.set_result(Loan(self, wish.size_bytes, wish.background))
            queue.popleft()
