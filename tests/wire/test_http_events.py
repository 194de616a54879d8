from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from aiohttp import web

from wire.errors import NotFoundError
from wire.events import Event, EventLog
from wire.http_events import EventHub, EventsConfig, follow
from wire.paths import EVENTS

ServeApp = Callable[[web.Application], Awaitable[str]]
QUICK = EventsConfig(retry_min_s=0.01, retry_max_s=0.02, ping_s=0.05)


def app_of(hub: EventHub) -> web.Application:
    app = web.Application()
    hub.add_to(app)
    return app


class Listener:
    """Collects what a follower hears."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[Event] = asyncio.Queue()

    async def __call__(self, event: Event) -> None:
        self.heard.put_nowait(event)

    async def next(self) -> Event:
        return await asyncio.wait_for(self.heard.get(), 30)


async def test_a_follower_hears_reset_first_and_then_news(serve_app: ServeApp) -> None:
    hub, listener = EventHub(EventLog("e"), QUICK), Listener()
    url = await serve_app(app_of(hub))
    task = asyncio.create_task(follow(url, listener, config=QUICK))
    assert (await listener.next()).kind == "reset"
    sent = hub.publish("purge", ["chunk:x"], hard=True)
    assert await listener.next() == sent
    task.cancel()


async def test_after_a_break_the_missed_events_come(serve_app: ServeApp) -> None:
    hub, listener = EventHub(EventLog("e"), QUICK), Listener()
    first_id = hub.publish("channel", ["a"]).id
    connections: list[web.Request] = []

    @web.middleware
    async def watch(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        connections.append(request)
        return await handler(request)

    app = web.Application(middlewares=[watch])
    hub.add_to(app)
    task = asyncio.create_task(follow(await serve_app(app), listener, config=QUICK))
    assert (await listener.next()).id == first_id
    transport = connections[0].transport
    assert transport is not None
    transport.abort()
    missed = hub.publish("channel", ["b"])
    assert await listener.next() == missed
    assert connections[-1].headers["Last-Event-ID"] == first_id
    task.cancel()


async def test_a_subscriber_too_slow_is_cut_and_heals_by_itself(serve_app: ServeApp) -> None:
    config = EventsConfig(queue_events=2, retry_min_s=0.01, retry_max_s=0.02)
    hub, listener = EventHub(EventLog("e", capacity=4), config), Listener()
    task = asyncio.create_task(follow(await serve_app(app_of(hub)), listener, config=config))
    await listener.next()
    for number in range(10):
        hub.publish("channel", [str(number)])
    kinds = [(await listener.next()).kind for _ in range(1)]
    while kinds[-1] != "reset":
        kinds.append((await listener.next()).kind)
    task.cancel()


async def test_a_handler_that_fails_does_not_end_the_following(serve_app: ServeApp) -> None:
    hub = EventHub(EventLog("e"), QUICK)
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def handler(event: Event) -> None:
        heard.put_nowait(event.kind)
        raise NotFoundError("no such thing")

    task = asyncio.create_task(follow(await serve_app(app_of(hub)), handler, config=QUICK))
    assert await asyncio.wait_for(heard.get(), 30) == "reset"
    hub.publish("purge", ["x"])
    assert await asyncio.wait_for(heard.get(), 30) == "purge"
    task.cancel()


async def test_a_silent_stream_is_pinged(serve_app: ServeApp) -> None:
    import aiohttp

    hub = EventHub(EventLog("e"), QUICK)
    url = await serve_app(app_of(hub))
    async with aiohttp.ClientSession() as session, session.get(url + "/artifacts/events") as answer:
        seen = b""
        while b": ping" not in seen:
            seen += await asyncio.wait_for(answer.content.readany(), 30)


@pytest.mark.parametrize("limit", [0])
async def test_subscribers_are_bounded(serve_app: ServeApp, limit: int) -> None:
    import aiohttp

    from wire.http_errors import error_middleware

    hub = EventHub(EventLog("e"), EventsConfig(max_subscribers=limit))
    app = web.Application(middlewares=[error_middleware()])
    hub.add_to(app)
    url = await serve_app(app)
    async with aiohttp.ClientSession() as session, session.get(url + "/artifacts/events") as answer:
        assert answer.status == 502


async def test_nobody_subscribes_by_head(serve_app: ServeApp) -> None:
    """It would take a subscriber's place until its connection ends."""
    url = await serve_app(app_of(EventHub(EventLog("e"), QUICK)))
    async with aiohttp.ClientSession() as session, session.head(f"{url}{EVENTS}") as answer:
        assert answer.status == 405
