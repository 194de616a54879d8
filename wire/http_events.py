"""Events over HTTP: the SSE endpoint that publishes them, and the client that follows one.

Push is a hint: a subscriber too slow for its bounded queue is disconnected and comes back with
``Last-Event-ID``; what it then misses is one ``reset``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

import aiohttp
import structlog
from aiohttp import web

from wire.errors import HeadwaterError, SourceUnavailableError
from wire.events import MAX_EVENT_BYTES, Event, EventKind, EventLog, decode_event, encode_event
from wire.paths import EVENTS
from wire.sse import SSEDecoder, comment, encode

_log = structlog.get_logger("events")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsConfig:
    """Bounds of publishing and following events."""

    queue_events: int = 256
    """Events a subscriber may lag behind before it is disconnected."""
    max_subscribers: int = 10_000
    """One more is refused (502), and follows another publisher or tries again."""
    ping_s: float = 15.0
    """Silence after which a comment is sent, so that dead connections are noticed."""
    retry_min_s: float = 0.2
    """The shortest pause before a follower connects again; the longest doubles with each
    failure."""
    retry_max_s: float = 5.0
    """The longest pause between two tries: how long a fleet may take to hear again."""
    silence_timeout_s: float = 45.0
    """A publisher silent for so long (not even a ping) is taken for dead."""


class EventHub:
    """Publishes events to the subscribers of ``GET /artifacts/events``."""

    def __init__(self, log: EventLog, config: EventsConfig | None = None) -> None:
        self._log = log
        self._config = config or EventsConfig()
        self._queues: set[asyncio.Queue[Event | None]] = set()

    def add_to(self, app: web.Application) -> None:
        """Register the route, and end its streams when the application stops."""
        # HEAD is refused: an answer without a body would take a subscriber's place and never end.
        app.router.add_get(EVENTS, self._subscribe, allow_head=False)
        app.on_shutdown.append(self._end_all)

    def publish(self, kind: EventKind, keys: Iterable[str], *, hard: bool = False) -> Event:
        """Record an event and send it to everybody who listens."""
        event = self._log.append(kind, keys, hard=hard)
        for queue in list(self._queues):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._cut(queue)
        return event

    def _cut(self, queue: asyncio.Queue[Event | None]) -> None:
        self._queues.discard(queue)
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait(None)

    async def _end_all(self, _app: web.Application) -> None:
        for queue in list(self._queues):
            self._cut(queue)

    async def _subscribe(self, request: web.Request) -> web.StreamResponse:
        if len(self._queues) >= self._config.max_subscribers:
            raise SourceUnavailableError("too many event subscribers; try another edge")
        queue: asyncio.Queue[Event | None] = asyncio.Queue(self._config.queue_events)
        missed = self._log.since(request.headers.get("Last-Event-ID"))
        self._queues.add(queue)
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        response = web.StreamResponse(headers=headers)
        try:
            await response.prepare(request)
            await response.write(comment("events") + b"".join(map(_as_sse, missed)))
            while (payload := await self._next(queue)) is not None:
                await response.write(payload)
        except ConnectionError:
            _log.debug("subscriber left")
        finally:
            self._queues.discard(queue)
        return response

    async def _next(self, queue: asyncio.Queue[Event | None]) -> bytes | None:
        try:
            # Not wait_for: on Python 3.11 it can swallow a cancellation.
            async with asyncio.timeout(self._config.ping_s):
                event = await queue.get()
        except TimeoutError:
            return comment("ping")
        return None if event is None else _as_sse(event)


def _as_sse(event: Event) -> bytes:
    return encode(encode_event(event).decode(), event=event.kind, id=event.id)


async def follow(
    base_url: str,
    on_event: Callable[[Event], Awaitable[None]],
    *,
    token: str | None = None,
    config: EventsConfig | None = None,
) -> None:
    """Follow a publisher's events for ever; reconnects by itself and resumes where it was.

    A handler that raises a ``HeadwaterError`` is logged and the event counts as seen: whoever
    handles events revalidates later anyway. Ends only by cancellation.
    """
    bounds = config or EventsConfig()
    last_id: str | None = None
    delay = bounds.retry_min_s
    timeout = aiohttp.ClientTimeout(total=None, sock_read=bounds.silence_timeout_s, connect=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            try:
                async for event in _events(session, base_url, token, last_id):
                    delay = bounds.retry_min_s
                    last_id = event.id
                    await _handle(on_event, event)
            except (aiohttp.ClientError, OSError, TimeoutError, HeadwaterError) as error:
                _log.info("events interrupted", source=base_url, error=str(error))
            # Full jitter, so that a fleet does not come back in step after an outage.
            await asyncio.sleep(random.uniform(bounds.retry_min_s, delay))  # noqa: S311
            delay = min(delay * 2, bounds.retry_max_s)


async def _handle(on_event: Callable[[Event], Awaitable[None]], event: Event) -> None:
    try:
        await on_event(event)
    except HeadwaterError as error:
        _log.warning("event not handled", id=event.id, error=error.message)


async def _events(
    session: aiohttp.ClientSession, base_url: str, token: str | None, last_id: str | None
) -> AsyncIterator[Event]:
    headers = {"Accept": "text/event-stream"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    decoder = SSEDecoder(max_event_bytes=MAX_EVENT_BYTES)
    async with session.get(base_url + EVENTS, headers=headers) as response:
        if response.status != 200:
            raise SourceUnavailableError(f"{base_url}: events: status {response.status}")
        async for data in response.content.iter_any():
            for message in decoder.feed(data):
                yield decode_event(message.data)
