from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import ClientResponse, ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from origin.boots import BootDesk
from origin.console.config import ConsoleConfig
from origin.console.console import ConsoleParts, add_console
from origin.console.routes import API, OWN_HEADER
from origin.fleet import FleetConfig, FleetView
from origin.store import ObjectStore
from tests.fakes.console import API_KEY, running_console
from tests.fakes.objects import MemoryObjects
from tests.fakes.origin_home import Home, StartOrigin
from wire.http_errors import error_middleware
from wire.sse import SSEDecoder
from wire.trust import TrustView

OWN = {OWN_HEADER: "1"}


async def test_a_console_that_is_turned_off_is_not_there(
    home: Home, start_origin: StartOrigin
) -> None:
    off = replace(home.config, console=ConsoleConfig(enabled=False))
    async with TestClient(await start_origin(off)) as client:
        for path in ("/console", "/console/api/session", "/console/api/live"):
            assert (await client.get(path)).status == 404


async def test_the_headers_of_the_page_are_on_every_answer_of_its_api(
    start_origin: StartOrigin,
) -> None:
    async with TestClient(await start_origin()) as client:
        for path in ("/console/api/session", "/console/api/live", "/console/x"):
            headers = (await client.get(path)).headers
            assert headers["X-Content-Type-Options"] == "nosniff"
        assert "X-Content-Type-Options" not in (await client.get("/healthz")).headers


async def test_a_fleet_of_any_size_can_be_shown_rolled_booted_and_asked() -> None:
    """What a page is tried with (``tests.fakes.console``)."""
    async with running_console(60, 100) as console, ClientSession() as browser:
        headers = {
            "Authorization": f"Bearer {console.token}",
            "X-Headwater-Api-Key": API_KEY,
            "X-Headwater-Console": "1",
        }
        api = f"{console.url}/console/api"
        async with browser.get(f"{api}/live", headers=headers) as answer:
            state = await whole(answer)
        assert (len(state["edges"]) + len(state["workers"]), len(state["channels"])) == (60, 3)
        async with browser.get(f"{api}/boots/worker-00001", headers=headers) as answer:
            (boot,) = await answer.json()
        assert boot["total_ms"] > 1_000
        async with browser.get(f"{api}/playground", headers=headers) as answer:
            (edge,) = (await answer.json())["edges"]
        assert "chat" in edge["models"]
        await console.roll()
        async with browser.get(f"{api}/live", headers=headers) as answer:
            state = await whole(answer)
        assert state["rolls"]["chat@stable"]["running"]


async def test_a_login_is_ended_at_all_origins_on_its_store() -> None:
    """At the other one within ``refresh_s``, with the stream that was open there."""
    bucket = ObjectStore(MemoryObjects(time.time))
    async with (
        TestClient(await _on(bucket)) as one,
        TestClient(await _on(bucket)) as two,
        ClientSession() as copies,
    ):
        answer = await one.post(f"{API}/login", json={"token": "t"}, headers=OWN)
        headers = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
        stream = await copies.get(two.make_url(f"{API}/live"), headers=headers)
        await whole(stream)
        await one.post(f"{API}/logout", headers=OWN)
        async with asyncio.timeout(30):
            await stream.read()
        assert (await copies.get(two.make_url(f"{API}/logins"), headers=headers)).status == 401


async def _on(store: ObjectStore) -> TestServer:
    """An origin's console and nothing else."""
    view = FleetView(FleetConfig(), clock=time.monotonic)
    app = web.Application(middlewares=[error_middleware()])
    parts = ConsoleParts(
        view=view,
        boots=BootDesk(view, clock=time.monotonic),
        trust=lambda: TrustView(versions={}, expires={}, channels={}, refused={}, revisions={}),
        records=list,
        sent=lambda: 0.0,
        token="t",
        store=store,
        refresh_s=0.02,
        takes_reports=True,
    )
    await add_console(app, parts, ConsoleConfig(interval_ms=5), CollectorRegistry())
    return TestServer(app)


async def whole(answer: ClientResponse) -> Any:
    """The first state of a stream."""
    decoder = SSEDecoder(max_event_bytes=1 << 24)
    while True:
        for event in decoder.feed(await answer.content.readany()):
            if event.event == "state":
                return msgspec.json.decode(event.data)
