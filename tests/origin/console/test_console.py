from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestClient

from origin.console.config import ConsoleConfig
from tests.fakes.console import API_KEY, running_console
from tests.fakes.origin_home import Home, StartOrigin
from wire.sse import SSEDecoder


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


async def whole(answer: ClientResponse) -> Any:
    """The first state of a stream."""
    decoder = SSEDecoder(max_event_bytes=1 << 24)
    while True:
        for event in decoder.feed(await answer.content.readany()):
            if event.event == "state":
                return msgspec.json.decode(event.data)
