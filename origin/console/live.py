"""The live stream: looks at the fleet while somebody watches, and tells every viewer what changed.

A look is made once for all viewers: built, compared and encoded in a thread. The last few patches
are kept; a viewer takes those it has not had, however many that are, and one that is further behind
takes the whole state instead. So nothing is queued for anybody, and a slow viewer costs what a
quick one does.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram

from origin.console.build import Look, build
from origin.console.config import ConsoleConfig
from origin.console.merge_patch import diff_structs, encode
from origin.console.state import ConsoleState
from origin.console.window import Window
from origin.fleet_nodes import EdgeNode
from wire.errors import HeadwaterError
from wire.sse import comment
from wire.sse import encode as encode_event

_log = structlog.get_logger("console")
_MOST_OF_A_CORE = 0.2
_TICK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class TooManyViewersError(HeadwaterError):
    """As many live streams as this origin gives."""

    status = 503
    code = "too_many_viewers"


@dataclass(slots=True)
class _Frame:
    """The state after one look, and what changed with it, as events."""

    number: int
    state: ConsoleState
    patch: bytes
    _whole: bytes = b""

    @property
    def whole(self) -> bytes:
        if not self._whole:
            self._whole = encode_event(encode(self.state), event="state")
        return self._whole


class Live:
    """Makes looks, and gives streams of them.

    Args:
        look: what is known now; called on the event loop.
        edges: the edges of such a look alone, which is cheaper.
        sent: bytes that left this origin since it began.
        clock: monotonic seconds.
        cpu: seconds of the calling thread's own work.
        retry_s: until the next look, after one that failed.
    """

    def __init__(
        self,
        look: Callable[[], Look],
        edges: Callable[[], Sequence[EdgeNode]],
        sent: Callable[[], float],
        config: ConsoleConfig,
        registry: CollectorRegistry,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.thread_time,
        retry_s: float = 2.0,
    ) -> None:
        self._look = look
        self._edges = edges
        self._sent = sent
        self._config = config
        self._clock = clock
        self._cpu = cpu
        self._retry_s = retry_s
        self._window = Window()
        self._frames: deque[_Frame] = deque(maxlen=max(1, config.backlog_looks))
        self._news = asyncio.Event()
        self._watched = asyncio.Event()
        self._viewers = 0
        self._ended = False
        Gauge(
            "headwater_console_viewers", "Live streams that are open.", registry=registry
        ).set_function(lambda: self._viewers)
        self._seconds = Histogram(
            "headwater_console_look_seconds",
            "CPU time to look at the fleet, and to build, compare and encode the console's state.",
            buckets=_TICK_S,
            registry=registry,
        )

    async def run(self) -> None:
        """Look for ever, while somebody watches."""
        while True:
            if not self._viewers:
                await self._idle()
                continue
            try:
                took_s = await self.tick()
            except Exception:  # noqa: BLE001
                # One look that cannot be shown must not be the last one.
                _log.exception("look failed")
                await asyncio.sleep(self._retry_s)
                continue
            await asyncio.sleep(max(self._config.interval_ms / 1e3, took_s / _MOST_OF_A_CORE))

    async def tick(self) -> float:
        """One look, for everybody. How many seconds of a core it took."""
        began = self._cpu()
        look = self._look()
        self._note(look.edges)
        noted_s = self._cpu() - began
        before = self._frames[-1] if self._frames else None
        frame, built_s = await asyncio.to_thread(self._frame, look, before)
        self._frames.append(frame)
        news, self._news = self._news, asyncio.Event()
        news.set()
        self._seconds.observe(noted_s + built_s)
        return noted_s + built_s

    async def end(self) -> None:
        """End all streams."""
        self._ended = True
        self._news.set()

    async def stream(self, *, lasts: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """Events for one viewer, until ``lasts`` says no. Close it, whatever happens.

        Raises:
            TooManyViewersError: before anything is given.
        """
        if self._viewers >= self._config.max_viewers:
            raise TooManyViewersError(
                f"{self._viewers} watch already (origin.console.max_viewers)",
                headers={"Retry-After": "10"},
            )
        if not self._viewers:
            # What was seen last is as old as the last viewer.
            self._frames.clear()
        self._viewers += 1
        self._watched.set()
        try:
            yield comment("console")
            had = 0
            while lasts() and not self._ended:
                news = self._news
                if self._frames and self._frames[-1].number > had:
                    events, had = self._after(had)
                    yield events
                elif not await _set_within(news, self._config.ping_s):
                    yield comment("ping")
        finally:
            self._viewers -= 1
            if not self._viewers:
                self._watched.clear()

    def _after(self, number: int) -> tuple[bytes, int]:
        """What a viewer has not had after this frame, and the number of the last one."""
        last = self._frames[-1]
        missed = [frame for frame in self._frames if frame.number > number]
        if missed[0].number == number + 1 and number:
            patches = b"".join(frame.patch for frame in missed)
            if len(missed) == 1 or len(patches) < len(last.whole):
                return patches, last.number
        return last.whole, last.number

    def _note(self, edges: Sequence[EdgeNode]) -> None:
        self._window.note(edges, sent=self._sent(), now=self._clock())

    def _frame(self, look: Look, before: _Frame | None) -> tuple[_Frame, float]:
        """In a thread: the frame, and the seconds that it took there."""
        began = self._cpu()
        state = build(look, self._window)
        frame = _Frame(1, state, b"")
        if before is not None:
            patch = encode(diff_structs(before.state, state))
            frame = _Frame(before.number + 1, state, encode_event(patch, event="patch"))
        return frame, self._cpu() - began

    async def _idle(self) -> None:
        if not await _set_within(self._watched, self._config.idle_s):
            self._note(self._edges())


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
