"""Which logins hold, kept in the store, so that each can be ended at every origin there.

A cookie alone opens nothing: its login must stand in the table. The table is in memory, so that a
request costs no trip to the store; it is read again every ``pause_s`` where others write there too,
and at once where a login is not known that the token's holder made. So one that was ended at
another origin opens nothing here ``pause_s`` later, and one that was made there opens at once.

While the store is away:

* What was known holds: the console is wanted most when something is down. One that another origin
  ended meanwhile holds here until the store is back, or it runs out by itself.
* To end one works here at once, and whoever did it is told that others, and a restart of this
  origin, do not know yet. It is tried again every ``pause_s``.
* Whoever has the token logs in, and the login is written later. Other origins refuse it until then.

A table that is damaged counts as empty: everybody logs in again. Who can write in the store can
end logins, and bring back those that were ended until they run out, but make none: that takes the
token. A new token ends all of them, wherever the store is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import suppress

import structlog

from origin.console.logins import (
    MAX_TABLE_BYTES,
    Changes,
    Login,
    changed,
    decode_table,
    encode_table,
    oldest_first,
)
from origin.store import ObjectStore
from origin.stores.objects import Tag
from wire.errors import ConflictError, HeadwaterError, NotFoundError

_log = structlog.get_logger("console")
_SEEN_S = 60.0
"""How often it is written that a login was used."""
_UNKNOWN_S = 1.0
"""Between two readings because of logins that are not known."""
_PATIENCE_S = 3.0
"""How long somebody waits for the store."""
_TRIES = 5
"""To write over what others write at the same time."""
AWAY = (
    "done at this origin; the store does not answer, so other origins and a restart of this one "
    "do not know yet (it is tried again)"
)


class Ledger:
    """The logins under one token.

    Args:
        name: of their table in the store.
        most: logins that hold at once; one more ends the one that was used last longest ago.
        pause_s: between two readings.
        clock: seconds since 1970.
        ticking: monotonic seconds.
    """

    def __init__(
        self,
        store: ObjectStore,
        name: str,
        *,
        most: int,
        pause_s: float,
        clock: Callable[[], float],
        ticking: Callable[[], float],
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._store = store
        self._name = name
        self._most = most
        self._pause_s = pause_s
        self._clock = clock
        self._ticking = ticking
        self._patience_s = patience_s
        self._stored: dict[str, Login] = {}
        """As it was read or written last."""
        self._tag: Tag | None = None
        self._known: dict[str, Login] = {}
        """The same with our changes: what holds."""
        self._changes = Changes()
        self._turn = asyncio.Lock()
        self._read_s = self._written_s = self._unknown_s = -math.inf
        self._failing = False
        self._work: list[asyncio.Task[bool]] = []
        """At most two: one that talks to the store, and one that waits for it to end."""

    async def load(self) -> None:
        """Begin with what stands in the store."""
        await self._sync()

    async def run(self) -> None:
        """For ever: hear of others' changes, and write what waits."""
        while True:
            await asyncio.sleep(self._pause_s)
            await self._sync()

    async def aclose(self) -> None:
        """Write what is left, or give up."""
        if self._changes:
            await self._soon()
        work = list(self._work)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    def holds(self, id: str) -> bool:  # noqa: A002
        """Whether a login is not over, as far as is known; it is being used."""
        login = self._known.get(id)
        now = self._clock()
        if login is None or login.until <= now:
            return False
        if now - max(login.seen, self._changes.seen.get(id, 0.0)) >= _SEEN_S:
            self._changes.seen[id] = now
            self._settle()
        return True

    async def check(self, id: str) -> bool:  # noqa: A002
        """The same; where it is not known, whether the store knows better."""
        if self.holds(id):
            return True
        since_s = self._ticking() - self._unknown_s
        if self._store.shared and since_s >= _UNKNOWN_S and id not in self._changes.ended:
            self._unknown_s = self._ticking()
            await self._soon()
        return self.holds(id)

    def all(self) -> list[Login]:
        """Those that hold, the oldest first."""
        now = self._clock()
        return oldest_first(one for one in self._known.values() if one.until > now)

    async def add(self, login: Login) -> str:
        """One more. Returns why others do not know of it yet; empty where they do."""
        self._changes.added[login.id] = login
        return await self._done()

    async def end(self, ids: Iterable[str]) -> str:
        """These hold no more. Returns as :meth:`add`."""
        self._changes.ended |= set(ids) & self._known.keys()
        return await self._done()

    async def fresh(self) -> None:
        """Hear of others' changes now, where they can be heard soon."""
        if self._store.shared:
            await self._soon()

    async def _done(self) -> str:
        self._settle()
        if self._changes and not await self._soon():
            return AWAY
        return ""

    async def _soon(self) -> bool:
        """Read and write, for as long as somebody waits; it goes on behind their back. Whether all
        is written."""
        if len(self._work) < 2:
            self._work.append(asyncio.create_task(self._sync(), name="console-logins"))
            self._work[-1].add_done_callback(self._work.remove)
        task = self._work[-1]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience_s):
                return await asyncio.shield(task)
        return False

    async def _sync(self) -> bool:
        """Read what others wrote, and write over it what waits. Whether all is written."""
        async with self._turn:
            try:
                if self._store.shared or self._read_s == -math.inf:
                    await self._read()
                for _ in range(_TRIES):
                    if not self._due():
                        break
                    with suppress(ConflictError):
                        await self._write()
                        continue
                    await self._read()
                told = not self._changes
            except HeadwaterError as error:
                if not self._failing:
                    _log.error("logins not kept", code=error.code, error=error.message)
                told = False
            self._failing = not told
            return told

    def _due(self) -> bool:
        used = bool(self._changes.seen) and self._ticking() - self._written_s >= _SEEN_S
        return bool(self._changes) or used

    async def _read(self) -> None:
        try:
            found = await self._store.console_logins(self._name, MAX_TABLE_BYTES, self._tag)
        except NotFoundError:
            self._stored, self._tag = {}, None
        else:
            if found is not None:
                self._take(*found)
        self._read_s = self._ticking()
        self._settle()

    def _take(self, data: bytes, tag: Tag) -> None:
        self._tag = tag
        try:
            self._stored = decode_table(data)
        except ValueError as error:
            self._stored = {}
            _log.error("all logins are over: their table is damaged", error=str(error)[:300])

    async def _write(self) -> None:
        """Raises ``ConflictError`` where another origin did."""
        changes = self._changes.copy()
        now = self._clock()
        table = changed(self._stored, changes, now=now, most=self._most)
        data = encode_table(table)
        self._tag = await self._store.put_console_logins(self._name, data, self._tag)
        self._stored, self._changes = table, self._changes.less(changes)
        self._written_s = self._ticking()
        self._settle()

    def _settle(self) -> None:
        """What holds now; what waits to be written is no more than that, however long it waits."""
        now, waits = self._clock(), self._changes
        self._known = changed(self._stored, waits, now=now, most=self._most)
        for rows in (waits.added, waits.seen):
            for gone in rows.keys() - self._known.keys():
                del rows[gone]
