"""The engine behind the routes: which one serves, who is on it, and who waits.

States, as the heartbeat reports them (``wire.workers.WorkerState``); all their rules are here::

    booting ──flip──► ready ──pause──► draining ──flip──► ready
       ▲                │ ▲
       └─ engine is ────┘ └─ it is up again
          restarting
    draining ──vacate (no engine, the queue waits)──► draining ──flip──► ready
    ready ──flip to one that sleeps──► asleep ──a request is told on; flip──► ready
    any ──fail, or the serving engine is given up──► failed ──flip──► ready

Beside them stands ``held``: an operator wants nothing new to be taken, whatever the state, until
``release``.

``flip`` is one assignment, so a request sees the old engine or the new one. A stream keeps the
engine that it began on. Requests beyond the engine's slots wait here, first come first served and
bounded, not inside the engine: so the numbers are exact, a client that leaves the queue costs
nothing, and whoever waits through a flip is answered by the new engine.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import TracebackType

import msgspec

from gpu_worker.asleep import Asleep
from gpu_worker.engine import Engine
from wire.errors import HeadwaterError
from wire.workers import WorkerState


class NotServingError(HeadwaterError):
    """This worker has no engine for requests now; another worker may."""

    status = 503
    code = "not_serving"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class QueueFullError(HeadwaterError):
    """More requests wait than the worker is allowed to hold."""

    status = 503
    code = "queue_full"

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingConfig:
    """Bounds of the queue before the engine."""

    queue_requests: int = 64
    queue_timeout_s: float = 60.0
    wake_timeout_s: float = 120.0
    """The same for who waits until a model is in memory."""
    retry_after_s: int = 1


_SERVING = frozenset({"ready", "asleep"})


class Load(msgspec.Struct, frozen=True):
    """Numbers for the heartbeat: of the serving engine, and the queue before it."""

    slots: int
    busy: int
    queue: int


class _Seats:
    """The streams on one engine."""

    __slots__ = ("active", "engine", "idle")

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.active = 0
        self.idle = asyncio.Event()
        self.idle.set()

    @property
    def free(self) -> bool:
        return self.active < self.engine.capacity


class Lease:
    """The right to one stream on one engine, until it is released."""

    __slots__ = ("_seats", "_serving", "engine")

    def __init__(self, serving: Serving, seats: _Seats) -> None:
        self.engine = seats.engine
        self._serving = serving
        self._seats: _Seats | None = seats

    def release(self) -> None:
        """Give it back; may be called twice."""
        seats, self._seats = self._seats, None
        if seats is not None:
            self._serving.leave(seats)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Serving:
    """Holds the engine that serves. Used from one event loop.

    Args:
        on_wanted: a request waits for a model that sleeps; may be called again while it does.
        on_idle: the last request in flight has ended.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: ServingConfig | None = None,
        *,
        on_wanted: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reason = ""
        """Why the last load or roll failed; empty when all is well."""
        self.held = ""
        """Why an operator wants nothing new to be taken; empty: no operator does."""
        self.last_used_s = clock()
        """When a request last began or ended, or an engine was flipped to, by ``clock``."""
        self._config = config or ServingConfig()
        self._on_wanted = on_wanted
        self._on_idle = on_idle
        self._clock = clock
        self._guests = 0
        self._current: _Seats | None = None
        self._seats: dict[Engine, _Seats] = {}
        self._queue: deque[asyncio.Future[Lease]] = deque()
        self._paused = ""
        self._failed = False

    @property
    def engine(self) -> Engine | None:
        """The engine that new requests go to."""
        return self._current.engine if self._current is not None else None

    @property
    def state(self) -> WorkerState:
        if self._failed:
            return "failed"
        if self._paused:
            return "draining"
        if self._current is None:
            return "booting"
        if self._current.engine.ready:
            return "ready"
        return "asleep" if isinstance(self._current.engine, Asleep) else "booting"

    @property
    def in_flight(self) -> int:
        """Requests that run on the engine of now, wait for it, or ask it for something small."""
        active = self._current.active if self._current is not None else 0
        return active + len(self._queue) + self._guests

    def why_not_ready(self) -> str | None:
        """For ``/readyz``: None when requests are served."""
        state = self.state
        if state in _SERVING:
            return f"draining: {self.held}" if self.held else None
        why = self.reason if state == "failed" else self._paused or self.reason
        return f"{state}: {why or 'the engine is not up'}"

    def load(self) -> Load:
        current = self._current
        if current is None:
            return Load(0, 0, len(self._queue))
        return Load(current.engine.capacity, current.active, len(self._queue))

    def active(self, engine: Engine) -> int:
        """Streams running on ``engine``, which may be an old one."""
        seats = self._seats.get(engine)
        return seats.active if seats is not None else 0

    def flip(self, engine: Engine) -> Engine | None:
        """From now on new requests go to ``engine``, which has been started and probed.

        Returns:
            The engine that served before: drain it, then close it.
        """
        before, old = self._current, self.engine
        seats = self._seats.setdefault(engine, _Seats(engine))
        self._current, self._paused, self._failed, self.reason = seats, "", False, ""
        self.last_used_s = self._clock()
        if before is not None and before.active == 0 and before is not seats:
            self._seats.pop(before.engine, None)
        engine.dead.add_done_callback(partial(self._on_dead, engine))
        self._assign()
        if self._queue and self.state == "asleep":
            self._on_wanted()
        return old if old is not engine else None

    def pause(self, why: str) -> None:
        """Take no new requests (a shutdown, or a roll without room for two); running ones and
        those in the queue go on."""
        self._paused = why

    def hold(self, why: str) -> None:
        """An operator's drain: take no new requests, whatever comes, until ``release``. Running
        ones and those in the queue go on."""
        self.held = why

    def release(self) -> None:
        """Take requests again."""
        self.held = ""

    def vacate(self) -> None:
        """No engine serves: the one that did is stopped to make room for the next. Its end is no
        failure then, and the queue waits for the next flip."""
        before, self._current = self._current, None
        if before is not None and before.active == 0:
            self._seats.pop(before.engine, None)

    def fail(self, reason: str) -> None:
        """Nothing serves and nothing will without help."""
        self._failed, self.reason = True, reason
        self.refuse_waiting(reason)

    async def drain(self, engine: Engine, deadline_s: float) -> int:
        """Wait until no stream runs on ``engine``, for at most ``deadline_s`` seconds.

        Returns:
            Streams that still run; closing the engine cuts them with an error event.
        """
        seats = self._seats.get(engine)
        if seats is None:
            return 0
        try:
            async with asyncio.timeout(deadline_s):
                await seats.idle.wait()
        except TimeoutError:
            return seats.active
        return 0

    async def acquire(self) -> Lease:
        """Wait for a slot.

        Raises:
            NotServingError: there is no engine that could take the request.
            QueueFullError: too many wait already, or the wait took too long.
        """
        lease = self._admit()
        if lease is not None:
            return lease
        waiter: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()
        self._queue.append(waiter)
        limit_s = self._config.queue_timeout_s
        if self.state == "asleep":
            limit_s = self._config.wake_timeout_s
            self._on_wanted()
        try:
            async with asyncio.timeout(limit_s):
                return await waiter
        except TimeoutError as error:
            self._forget(waiter)
            raise self._full("no slot became free in time") from error
        except asyncio.CancelledError:
            self._forget(waiter)
            raise

    @contextmanager
    def visit(self) -> Iterator[Engine]:
        """The engine for something small that needs no slot; it is not put to sleep meanwhile.

        Raises:
            NotServingError: there is none in memory.
        """
        engine = self.engine
        if engine is None or isinstance(engine, Asleep):
            raise NotServingError(self.why_not_ready() or "asleep: ask again")
        self._guests += 1
        self.last_used_s = self._clock()
        try:
            yield engine
        finally:
            self._guests -= 1
            self._tell_if_idle()

    def leave(self, seats: _Seats) -> None:
        """A stream ended. Called by its lease."""
        seats.active -= 1
        self.last_used_s = self._clock()
        # The queue first: an engine is idle only when nobody waits for its free slot either.
        self._assign()
        if seats.active == 0:
            seats.idle.set()
            if seats is not self._current:
                self._seats.pop(seats.engine, None)
            self._tell_if_idle()

    def refuse_waiting(self, why: str, *, retry_after_s: int = 1) -> None:
        """Answer everybody who waits that this worker cannot serve them now."""
        while self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_exception(NotServingError(why, retry_after_s=retry_after_s))

    def _admit(self) -> Lease | None:
        """A lease, or None: wait."""
        current = self._current
        if current is None or self.held or self.state not in _SERVING:
            raise NotServingError(self.why_not_ready() or "no engine")
        if current.free and not self._queue:
            return self._grant(current)
        if len(self._queue) >= self._config.queue_requests:
            raise self._full(f"{len(self._queue)} requests wait already")
        return None

    def _assign(self) -> None:
        """Give free slots to those who wait, in order."""
        current = self._current
        while current is not None and current.free and self._queue:
            waiter = self._queue.popleft()
            if not waiter.done():
                waiter.set_result(self._grant(current))

    def _grant(self, seats: _Seats) -> Lease:
        seats.active += 1
        seats.idle.clear()
        return Lease(self, seats)

    def _forget(self, waiter: asyncio.Future[Lease]) -> None:
        """A client left the queue, perhaps just when it had been given its slot."""
        if waiter in self._queue:
            self._queue.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            waiter.result().release()

    def _tell_if_idle(self) -> None:
        if not self.in_flight:
            self._on_idle()

    def _full(self, why: str) -> QueueFullError:
        return QueueFullError(
            f"the worker is busy: {why}", retry_after_s=self._config.retry_after_s
        )

    def _on_dead(self, engine: Engine, dead: asyncio.Future[str]) -> None:
        if engine is self.engine and not dead.cancelled():
            self.fail(dead.result())
