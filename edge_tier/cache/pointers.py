"""Pointers in the cache: channels and the trust bundle, small signed documents that do change.

A pointer is served while it is fresh, then revalidated; while that runs, and where the upstream
fails, the old one is served within bounds (``freshness``). A restart reads them back from disk.
Channels and trust are signed together: once one of them is seen to change, the other is marked, so
that a client does not long see halves that do not fit.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial

import structlog

from edge_tier.cache.documents import DocumentStore
from edge_tier.cache.freshness import (
    FreshnessConfig,
    PointerAge,
    hit_status,
    judge,
    serves_on_error,
)
from edge_tier.cache.purge import Purges
from wire.errors import GoneError, HeadwaterError, NotFoundError
from wire.events import RESET_KEY
from wire.paths import TRUST_KEY
from wire.source import PointerState
from wire.sources.flights import Flights, Landed

_log = structlog.get_logger("pointers")

Fetch = Callable[[], Awaitable[bytes]]
Check = Callable[[bytes], None]
"""Raises a ``HeadwaterError`` on bytes that must not be cached."""


@dataclass(slots=True)
class _Held:
    body: bytes
    fetched_at_s: float
    persisted_at_s: float
    marked: bool = False
    failed_at_s: float | None = None
    checked: bool = True
    """False where it was read back from disk: ``check`` has not seen it in this life."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    body: bytes
    stored: bool


class Pointers:
    """Pointers by surrogate key, over an upstream that each call names.

    Args:
        clock: seconds, monotonic, so that a wall clock that jumps changes nothing while we run.
        wall_clock: seconds since the epoch; tells how old a pointer from before a restart is.
        max_pointers: held in memory; beyond, the one fetched first is left to the disk.
        persist_s: an unchanged pointer is written again after so long, for its age.
    """

    def __init__(
        self,
        documents: DocumentStore,
        purges: Purges,
        config: FreshnessConfig,
        *,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        max_pointers: int = 4096,
        persist_s: float = 60.0,
    ) -> None:
        self._documents = documents
        self._purges = purges
        self._config = config
        # A bundle says itself until when it counts, and whoever takes it judges that; a lost
        # origin can be restored from it. So where there is none newer, it is given however old.
        self._lasting = replace(config, stale_if_error_s=math.inf)
        self._clock = clock
        self._wall_clock = wall_clock
        self._max_pointers = max_pointers
        self._persist_s = persist_s
        self._held: dict[str, _Held] = {}
        self._given: dict[str, PointerState] = {}
        # One attempt: where it fails, what is held is the better answer to those who wait.
        self._flights: Flights[tuple[str, int], _Fetched] = Flights("pointer", attempts=1)
        self._refreshes: dict[str, asyncio.Task[Landed[_Fetched]]] = {}

    async def get(self, key: str, fetch: Fetch, check: Check) -> bytes:
        """The pointer, from the cache or from ``fetch``.

        Raises:
            NotFoundError, GoneError: the upstream says so; what was held is dropped.
            HeadwaterError: the upstream failed, or ``check`` refused its bytes, and what is held
                (if anything) is too old. A trust bundle never is.
        """
        held = self._held.get(key) or await self._load(key)
        if held is None:
            return await self._fetched(key, fetch, check)
        age = self._age(held)
        verdict = judge(age, self._rules(key))
        if verdict == "refresh":
            return await self._fetched(key, fetch, check)
        if verdict == "serve_and_refresh" and key not in self._refreshes:
            self._refresh_soon(key, fetch, check)
        return self._give(key, held.body, age.age_s, hit_status(age, self._config))

    def state(self, key: str) -> PointerState | None:
        """Of the answer that :meth:`get` gave last; None where it gave none."""
        return self._given.get(key)

    def mark(self, keys: Iterable[str]) -> None:
        """Have these revalidated at their next use; ``RESET_KEY`` stands for all."""
        for key in keys:
            for held in self._held.values() if key == RESET_KEY else (self._held.get(key),):
                if held is not None:
                    held.marked = True

    async def drop(self, key: str) -> None:
        """Forget a pointer, on disk too."""
        self._held.pop(key, None)
        self._given.pop(key, None)
        await self._documents.remove(key)

    async def aclose(self) -> None:
        """Stop what runs in the background; may be called twice."""
        for task in self._refreshes.values():
            task.cancel()
        await asyncio.gather(*self._refreshes.values(), return_exceptions=True)
        await self._flights.aclose()

    async def _fetched(self, key: str, fetch: Fetch, check: Check) -> bytes:
        """Ask the upstream, together with whoever else asks since the last purge."""
        known = key in self._held
        generation = self._purges.generation
        try:
            landed = await self._flights.board(
                (key, generation), lambda: self._refresh(key, generation, fetch, check)
            )
        except (NotFoundError, GoneError):
            raise
        except HeadwaterError:
            held = self._held.get(key)
            if held is None or not serves_on_error(self._age(held).age_s, self._rules(key)):
                raise
            status = "fwd=stale; detail=stale-if-error"
            return self._give(key, held.body, self._age(held).age_s, status)
        status = "fwd=stale" if known else "fwd=uri-miss"
        status += "; stored" if landed.value.stored else ""
        status += "; collapsed" if landed.collapsed else ""
        return self._give(key, landed.value.body, 0.0, status)

    async def _refresh(self, key: str, generation: int, fetch: Fetch, check: Check) -> _Fetched:
        started_s = self._clock()
        held = self._held.get(key)
        try:
            body = await fetch()
            if held is None or not held.checked or held.body != body:
                check(body)
        except (NotFoundError, GoneError):
            await self.drop(key)
            raise
        except HeadwaterError:
            if held is not None:
                held.failed_at_s = self._clock()
            raise
        purged = self._purges.purged_since(key, generation)
        if purged and held is not None:
            return _Fetched(body, stored=False)
        await self._keep(key, body, started_s)
        if purged:
            # Possibly what the purge was about, but better than nothing where the upstream goes
            # away now; marked, it is never served without asking first.
            self.mark([key])
        return _Fetched(body, stored=not purged)

    async def _keep(self, key: str, body: bytes, fetched_at_s: float) -> None:
        before = self._held.pop(key, None)
        changed = before is None or before.body != body
        if changed:
            # Also a purge to the fetches in flight: they may have seen the other half as it was.
            related = RESET_KEY if key == TRUST_KEY else TRUST_KEY
            self.mark(self._purges.apply([related], hard=False).marked)
        held = _Held(body, fetched_at_s, before.persisted_at_s if before else fetched_at_s)
        self._held[key] = held
        while len(self._held) > self._max_pointers:
            del self._held[next(iter(self._held))]
        if changed or fetched_at_s - held.persisted_at_s >= self._persist_s:
            held.persisted_at_s = fetched_at_s
            await self._documents.put(key, body)

    async def _load(self, key: str) -> _Held | None:
        """What an earlier life left on disk. A clock that ran backwards makes it stale."""
        document = await self._documents.get(key)
        if document is None or key not in self._documents:
            return None
        age_s = self._wall_clock() - document.stored_at_s
        now_s = self._clock()
        # A purge found nothing to mark while the pointer was not in memory.
        marked = age_s < 0 or self._purges.purged_since(key, 0)
        loaded = _Held(document.body, now_s - max(0.0, age_s), now_s, marked, checked=False)
        return self._held.setdefault(key, loaded)

    def _refresh_soon(self, key: str, fetch: Fetch, check: Check) -> None:
        generation = self._purges.generation
        flight = self._flights.board(
            (key, generation), lambda: self._refresh(key, generation, fetch, check)
        )
        task = asyncio.create_task(flight, name=f"revalidate {key}")
        self._refreshes[key] = task
        task.add_done_callback(partial(self._refresh_ended, key))

    def _refresh_ended(self, key: str, task: asyncio.Task[Landed[_Fetched]]) -> None:
        self._refreshes.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, HeadwaterError):
            _log.warning("not refreshed", key=key, code=error.code, reason=error.message)
        elif error is not None:
            _log.error("refreshing died", key=key, exc_info=error)

    def _rules(self, key: str) -> FreshnessConfig:
        return self._lasting if key == TRUST_KEY else self._config

    def _age(self, held: _Held) -> PointerAge:
        now_s = self._clock()
        failed_ago_s = None if held.failed_at_s is None else now_s - held.failed_at_s
        return PointerAge(max(0.0, now_s - held.fetched_at_s), held.marked, failed_ago_s)

    def _give(self, key: str, body: bytes, age_s: float, status: str) -> bytes:
        self._given.pop(key, None)
        self._given[key] = PointerState(age_s, status)
        if len(self._given) > self._max_pointers:
            del self._given[next(iter(self._given))]
        return body
