"""The console of a running fleet: what a page gets, from login to the end of a roll."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from infra.local_config import LOCAL_MODEL
from origin.console.merge_patch import apply
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.waiting import until_async
from wire.sse import SSEDecoder

OWN = {"X-Headwater-Console": "1"}


class Page:
    """Follows the live stream, as the page does."""

    def __init__(self, stream: aiohttp.ClientResponse) -> None:
        self._stream = stream
        self._decoder = SSEDecoder(max_event_bytes=1 << 24)
        self.state: Any = {}
        self.kinds: list[str] = []

    async def until(self, holds: Callable[[Any], bool]) -> None:
        """Follow until it holds of the state."""
        while not (self.state and holds(self.state)):
            for event in self._decoder.feed(await self._stream.content.readany()):
                self.kinds.append(event.event)
                told = json.loads(event.data)
                self.state = told if event.event == "state" else apply(self.state, told)


@pytest.fixture
async def browser(fleet: Fleet) -> AsyncIterator[aiohttp.ClientSession]:
    """Logged in."""
    async with aiohttp.ClientSession(
        f"{fleet.urls.origin}/console/api/", cookie_jar=aiohttp.CookieJar(unsafe=True)
    ) as session:
        answer = await session.post("login", json={"token": fleet.local.admin_token}, headers=OWN)
        assert answer.status == 200, await answer.text()
        yield session


@asynccontextmanager
async def watching(browser: aiohttp.ClientSession) -> AsyncIterator[Page]:
    timeout = aiohttp.ClientTimeout(total=150)
    async with browser.get("live", timeout=timeout) as stream:
        assert stream.status == 200
        yield Page(stream)


def worker_of(state: Any) -> Any:
    return state["workers"].get(f"worker/{LOCAL_MODEL}", {})


async def test_a_roll_is_watched_from_its_beginning_to_its_end(
    fleet: Fleet, browser: aiohttp.ClientSession
) -> None:
    before = fleet.revision()
    other = fleet.publish_demo("edge-small-r2", "next").revision
    eventually(lambda: fleet.settled())
    channel = f"{LOCAL_MODEL}@stable"
    async with watching(browser) as page:
        await page.until(lambda s: worker_of(s).get("revision") == before)
        assert page.state["edges"]["edge"]["state"] == "ready"
        assert page.state["channels"][channel]["serving"].keys() == {before}
        sequence = page.state["channels"][channel]["sequence"]
        try:
            fleet.roll(other)
            await page.until(lambda s: s["channels"][channel]["revision"] == other)
            assert page.state["channels"][channel]["sequence"] > sequence
            await page.until(lambda s: worker_of(s).get("revision") == other)
            await page.until(lambda s: s["channels"][channel]["consistent"])
        finally:
            fleet.roll(before)
        await page.until(lambda s: worker_of(s).get("revision") == before)
        assert_steps_of_a_roll(await ended_roll(browser, before), previous=other)
        assert page.kinds[0] == "state"
        assert set(page.kinds[1:]) == {"patch"}


async def ended_roll(browser: aiohttp.ClientSession, revision: str) -> Any:
    """The worker's roll to this revision, once its old engine has stopped."""
    found: list[Any] = []

    async def ended() -> bool:
        async with browser.get("boots/worker") as answer:
            (boot,) = await answer.json()
        roll = boot.get("roll", {})
        over = roll.get("revision") == revision and not roll["step"]
        if over and roll["outcome"] == "serves" and roll["spans"][-1]["name"] == "drain":
            found.append(roll)
        return bool(found)

    await until_async(ended, deadline_s=30.0)
    return found[0]


def assert_steps_of_a_roll(roll: Any, *, previous: str) -> None:
    assert roll["previous"] == previous
    spans = {span["name"]: span for span in roll["spans"]}
    starts = [spans[name]["start_ms"] for name in ("pull", "check", "load", "probe", "flip")]
    assert starts == sorted(starts)
    assert spans["drain"]["start_ms"] >= spans["flip"]["start_ms"]
    assert roll["total_ms"] >= spans["drain"]["start_ms"] + spans["drain"]["length_ms"] - 0.2


async def test_a_boot_of_the_worker_is_shown_as_it_was(
    fleet: Fleet, browser: aiohttp.ClientSession
) -> None:
    async with browser.get("boots/worker") as answer:
        assert answer.status == 200, await answer.text()
        (boot,) = await answer.json()
    assert boot["model"] == LOCAL_MODEL
    spans = {span["name"]: span for span in boot["spans"]}
    assert {"pull", "load", "probe"} <= spans.keys()
    assert spans["pull"]["start_ms"] < spans["load"]["start_ms"] < spans["probe"]["start_ms"]
    assert len(fleet.status("worker")["report"]["boot_spans"]) == len(boot["spans"])


async def test_a_prompt_of_the_playground_is_answered_and_seen(
    fleet: Fleet, browser: aiohttp.ClientSession
) -> None:
    key = {"X-Headwater-Api-Key": fleet.local.api_key}
    async with browser.get("playground", headers=key) as answer:
        (edge,) = (await answer.json())["edges"]
    assert edge["url"] == fleet.urls.edge
    assert LOCAL_MODEL in edge["models"]
    async with watching(browser) as page:
        await page.until(lambda s: "edge" in s["edges"])
        seen = page.state["routes"].get("worker: named", {}).get("count", 0)
        wanted = {
            "model": LOCAL_MODEL,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 4,
            "stream": True,
        }
        async with browser.post("chat", json=wanted, headers={**OWN, **key}) as answer:
            assert answer.status == 200
            assert answer.headers["x-headwater-route"].startswith("worker; ")
            assert "was named" in answer.headers["x-headwater-plan"]
            assert "backend;dur=" in answer.headers["Server-Timing"]
            assert (await answer.read()).endswith(b"data: [DONE]\n\n")
        await page.until(lambda s: s["routes"].get("worker: named", {}).get("count", 0) > seen)
        await page.until(lambda s: "first_token_p50_ms" in s["totals"])
        assert page.state["stages"]["parse"]["count"] >= 1
        assert fleet.local.api_key not in json.dumps(page.state)
    assert fleet.local.api_key not in fleet.state.log("origin").read_text()
