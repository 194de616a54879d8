from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from origin.console.build import Look
from origin.console.config import ConsoleConfig
from origin.console.live import Live, TooManyViewersError
from origin.console.merge_patch import apply
from origin.fleet_nodes import EdgeNode
from tests.fakes.looks import edge, look, worker
from tests.fakes.waiting import until, until_async
from wire.fleet import PromptFigures
from wire.sse import SSEDecoder


class Viewer:
    """Reads one stream."""

    def __init__(self, live: Live, **fields: Any) -> None:
        self.events: AsyncGenerator[bytes, None] = live.stream(**{"lasts": lambda: True, **fields})
        self.decoder = SSEDecoder(max_event_bytes=1 << 24)
        self.state: Any = None
        self.kinds: list[str] = []

    async def read(self) -> bytes:
        """The next piece; the state is what it says then."""
        async with asyncio.timeout(30):
            piece = await anext(self.events)
        for event in self.decoder.feed(piece):
            self.kinds.append(event.event)
            value = msgspec.json.decode(event.data)
            self.state = value if event.event == "state" else apply(self.state, value)
        return piece


class World:
    """A fleet of which one worker grows busier with every look."""

    def __init__(self, **config: Any) -> None:
        self.looks = itertools.count(1)
        self.registry = CollectorRegistry()
        self.live = Live(
            self.look,
            list,
            lambda: 0.0,
            ConsoleConfig(**{"interval_ms": 1, **config}),
            self.registry,
        )

    def look(self) -> Look:
        number = next(self.looks)
        others = [worker(f"idle{n}") for n in range(20)]
        return look(edge(), worker(busy=number), *others, at=float(number))

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(f"headwater_console_{name}")

    async def is_quiet(self) -> bool:
        """Whether nobody looks for a while."""
        before = next(self.looks)
        await asyncio.sleep(0.02)
        return next(self.looks) == before + 1


@pytest.fixture
async def world() -> World:
    """Looks are made by the test."""
    return World()


@pytest.fixture
async def running() -> AsyncIterator[World]:
    """Looks are made as in earnest."""
    made = World()
    task = asyncio.create_task(made.live.run())
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_viewer_gets_the_whole_state_and_then_what_changes(world: World) -> None:
    viewer = Viewer(world.live)
    async with aclosing(viewer.events):
        assert await viewer.read() == b": console\n\n"
        await world.live.tick()
        await viewer.read()
        assert (viewer.kinds, viewer.state["workers"]["w1/chat"]["busy"]) == (["state"], 1)
        await world.live.tick()
        piece = await viewer.read()
        assert piece.startswith(b'event: patch\ndata: {"at":2.0,')
        assert b"idle" not in piece
        assert (viewer.kinds[1:], viewer.state["workers"]["w1/chat"]["busy"]) == (["patch"], 2)


async def test_whoever_comes_later_gets_the_state_of_then(world: World) -> None:
    first, second = Viewer(world.live), Viewer(world.live)
    async with aclosing(first.events), aclosing(second.events):
        await first.read()
        await world.live.tick()
        await first.read()
        await world.live.tick()
        await second.read()
        await second.read()
        await world.live.tick()
        await second.read()
        await first.read()
        assert (first.kinds, second.kinds) == (["state", "patch", "patch"], ["state", "patch"])
        assert first.state == second.state


async def test_a_slow_viewer_gets_what_it_missed_and_one_that_is_slower_the_whole_again() -> None:
    world = World(backlog_looks=4)
    viewer = Viewer(world.live)
    async with aclosing(viewer.events):
        await viewer.read()
        for looks, kinds in ((1, ["state"]), (3, ["patch"] * 3), (9, ["state"])):
            for _ in range(looks):
                await world.live.tick()
            viewer.kinds.clear()
            await viewer.read()
            assert viewer.kinds == kinds
        assert viewer.state["workers"]["w1/chat"]["busy"] == 13


async def test_looks_are_made_only_while_somebody_watches(running: World) -> None:
    assert await running.is_quiet()
    viewer = Viewer(running.live)
    async with aclosing(viewer.events):
        for _ in range(4):
            await viewer.read()
        assert running.value("viewers") == 1
    assert running.value("viewers") == 0
    await until_async(running.is_quiet)
    assert (running.value("look_seconds_count") or 0) >= 3


async def test_who_comes_after_a_while_gets_no_state_of_then(world: World) -> None:
    early = Viewer(world.live)
    async with aclosing(early.events):
        await early.read()
        await world.live.tick()
        await early.read()
    late = Viewer(world.live)
    async with aclosing(late.events):
        await late.read()
        waiting = asyncio.create_task(late.read())
        await asyncio.sleep(0)
        assert not waiting.done()
        await world.live.tick()
        await waiting
        assert late.state["at"] == 2.0


async def test_viewers_are_bounded() -> None:
    world = World(max_viewers=1)
    first, second = Viewer(world.live), Viewer(world.live)
    async with aclosing(first.events), aclosing(second.events):
        await first.read()
        with pytest.raises(TooManyViewersError, match=r"origin\.console\.max_viewers"):
            await second.read()
    third = Viewer(world.live)
    async with aclosing(third.events):
        await third.read()


async def test_silence_is_broken_by_comments() -> None:
    viewer = Viewer(World(ping_s=0.01).live)
    async with aclosing(viewer.events):
        await viewer.read()
        assert await viewer.read() == b": ping\n\n"


async def test_a_stream_ends_with_its_login_or_with_the_origin(world: World) -> None:
    lasts = [True, False]
    viewer = Viewer(world.live, lasts=lambda: lasts.pop(0))
    async with aclosing(viewer.events):
        await viewer.read()
        await world.live.tick()
        await viewer.read()
        with pytest.raises(StopAsyncIteration):
            await viewer.read()
    other = Viewer(world.live)
    async with aclosing(other.events):
        await other.read()
        waiting = asyncio.create_task(other.read())
        await asyncio.sleep(0)
        await world.live.end()
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_whoever_comes_sees_rates_at_once() -> None:
    answered = 1_000

    def edges() -> list[EdgeNode]:
        nonlocal answered
        answered += 10
        return [replace(edge(prompts=PromptFigures(answered=answered)), age_s=0.0)]

    def seen() -> Look:
        return look(*edges())

    config, registry = ConsoleConfig(idle_s=0.001), CollectorRegistry()
    now = itertools.count(0.0, 1.0)
    live = Live(seen, edges, lambda: 0.0, config, registry, clock=lambda: next(now))
    task = asyncio.create_task(live.run())
    await until(lambda: answered > 1_100)
    viewer = Viewer(live)
    async with aclosing(viewer.events):
        await viewer.read()
        await viewer.read()
        assert viewer.state["totals"]["requests_per_s"] >= 10
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_looks_take_no_more_than_their_share_of_a_core() -> None:
    now = 0.0

    def cpu() -> float:
        nonlocal now
        now += 0.02
        return now

    loop, times = asyncio.get_running_loop(), list[float]()

    class Timed(Live):
        async def tick(self) -> float:
            times.append(loop.time())
            took_s = await super().tick()
            times.append(loop.time())
            return took_s

    world = World()
    live = Timed(
        world.look, list, lambda: 0.0, ConsoleConfig(interval_ms=1), CollectorRegistry(), cpu=cpu
    )
    viewer = Viewer(live)
    task = asyncio.create_task(live.run())
    async with aclosing(viewer.events):
        for _ in range(3):
            await viewer.read()
        assert times[2] - times[1] > 0.15  # between two looks
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_look_that_fails_is_not_the_last_one() -> None:
    world = World()
    shown = world.look
    fail = iter((True,))

    def look() -> Look:
        if next(fail, False):
            raise ValueError("a report that nobody foresaw")
        return shown()

    live = Live(
        look, list, lambda: 0.0, ConsoleConfig(interval_ms=1), CollectorRegistry(), retry_s=0
    )
    task = asyncio.create_task(live.run())
    viewer = Viewer(live)
    while viewer.state is None:
        await viewer.read()
    assert viewer.state["workers"]
    await viewer.events.aclose()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
