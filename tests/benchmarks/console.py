"""``bench console``: what the console's page costs whoever watches a fleet, in a real Chromium.

The nodes are made up; the CPU rows have a real origin before them, in this process. CPU is that of
all of the browser's processes (renderer, browser, network, drawing in software) together, as the
system counts it, in percent of one core; that of this process and of Playwright's is not in it.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from tests.benchmarks.results import Machine, Row, report
from tests.fakes.chromium import DESKTOP, PHONE, browser, chromium
from tests.fakes.console import running_console
from tests.fakes.console_fleet import SyntheticFleet
from tests.fakes.console_origin import TOKEN, ConsoleOrigin, running
from tests.fakes.processes import cpu_seconds

NODES = 1_000
MANY_NODES = 5_000
LOOKS_PER_S = 2
"""As the origin sends patches (origin.console.interval_ms)."""
VIEWS = ("overview", "fleet/workers", "rolls", "boots/gpu-3", "gateway", "playground")
_DRAWS_PER_S = 1.4 * NODES
"""Changes are drawn, some nodes twice within a look: of so many about 1,000 rows are left."""
_SETTLE_S = 2.0
_COUNTED_S = 4.0
_LONG_TASKS = """() => {
  globalThis.longest = 0;
  const seen = (list) => { for (const task of list.getEntries())
    globalThis.longest = Math.max(globalThis.longest, task.duration); };
  new PerformanceObserver(seen).observe({type: "longtask"});
}"""
_FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    if chromium() is None:
        print("console: no Chromium is installed; nothing was measured")
        return
    machine = Machine()
    report("console", asyncio.run(_rows(quick)), machine)


async def _rows(quick: bool) -> list[Row]:
    seconds, runs = (4.0, 1) if quick else (10.0, 5)
    async with browser() as chrome:
        return [
            *await _first_paint(chrome, runs),
            *await _cpu(chrome, seconds, runs),
            await _events_one_by_one(chrome, seconds),
            await _longest_task(chrome, seconds),
            await _memory(chrome, looks=200 if quick else 2_400),
            *await _accessible(chrome),
        ]


@asynccontextmanager
async def _opened(
    chrome: Browser, url: str, place: str, *, token: str = TOKEN, **context: Any
) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page, logged in, at a place; and what its console said."""
    complaints: list[str] = []
    width, height = context.pop("size", DESKTOP)
    made = await chrome.new_context(viewport={"width": width, "height": height}, **context)
    page = await made.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    await page.goto(f"{url}/console#/{place}")
    await page.get_by_label("Administrator’s token").fill(token)
    await page.keyboard.press("Enter")
    await page.locator("#health").wait_for()
    yield page, complaints
    await made.close()


async def _first_paint(chrome: Browser, runs: int) -> list[Row]:
    paints, figures = [], []
    origin = ConsoleOrigin(SyntheticFleet(NODES))
    async with running(origin) as url, _opened(chrome, url, "overview") as (page, _):
        session = await page.context.new_cdp_session(page)
        for _ in range(runs):
            await session.send("Network.clearBrowserCache")
            await page.goto("about:blank")
            began = time.perf_counter()
            await page.goto(f"{url}/console")
            await page.locator("#health").wait_for()
            figures.append(time.perf_counter() - began)
            paints.append(await page.evaluate(_FIRST_PAINT) / 1e3)
    return [
        _at_most("first paint, empty cache", "s", paints, 1.0),
        _at_most(f"until the figures of {NODES:,} nodes are drawn", "s", figures, 1.0),
    ]


async def _cpu(chrome: Browser, seconds: float, runs: int) -> list[Row]:
    rows = []
    for place in ("overview", "fleet/workers"):
        async with running_console(NODES, _DRAWS_PER_S) as console:
            opened = _opened(chrome, console.url, place, token=console.token)
            async with opened as (page, complaints):
                await asyncio.sleep(_SETTLE_S)
                used = [await _percent(seconds) for _ in range(runs)]
                changes = await _changed_rows_per_s(page)
        view = place.partition("/")[0]
        name = f"CPU, {NODES:,} nodes change once a second, {view}"
        rows.append(_at_most(name, "%", used, 30.0))
        rows.append(Row(name=f"changed rows that came, {view}", unit="/s", runs=[changes]))
        rows.append(_at_most(f"console errors meanwhile, {view}", "", [len(complaints)], 0))
    return rows


async def _changed_rows_per_s(page: Page) -> float:
    """Counted apart from the CPU, which counting costs as well."""
    rows = 0

    def came(message: dict[str, Any]) -> None:
        nonlocal rows
        patch = json.loads(message["data"])
        rows += len(patch.get("workers", ())) + len(patch.get("edges", ()))

    session = await page.context.new_cdp_session(page)
    await session.send("Network.enable")
    session.on("Network.eventSourceMessageReceived", came)
    await asyncio.sleep(_COUNTED_S)
    await session.detach()
    return rows / _COUNTED_S


async def _events_one_by_one(chrome: Browser, seconds: float) -> Row:
    """The origin never does it so: each change in an event of its own."""
    origin = ConsoleOrigin(SyntheticFleet(NODES))
    patches = _single_changes(origin.fleet)

    async def feed() -> None:
        while True:
            for _ in range(NODES // 100):
                origin.send(next(patches))
            await asyncio.sleep(0.01)

    async with running(origin) as url, _opened(chrome, url, "fleet/workers"):
        task = asyncio.create_task(feed())
        await asyncio.sleep(_SETTLE_S)
        used = await _percent(seconds)
        task.cancel()
    return _at_most("CPU, the same in an event for each change, fleet", "%", [used], 30.0)


def _single_changes(fleet: SyntheticFleet) -> Iterator[dict[str, Any]]:
    while True:
        for name in fleet.workers:
            yield {"workers": {name: fleet.worker_change(name)}}


async def _longest_task(chrome: Browser, seconds: float) -> Row:
    origin = ConsoleOrigin(SyntheticFleet(MANY_NODES))
    async with running(origin) as url, _opened(chrome, url, "fleet/workers") as (page, _):
        feed = asyncio.create_task(origin.go_on(1 / LOOKS_PER_S, MANY_NODES // LOOKS_PER_S))
        await asyncio.sleep(_SETTLE_S)
        await page.evaluate(_LONG_TASKS)
        await asyncio.sleep(seconds)
        longest: float = await page.evaluate("globalThis.longest")
        feed.cancel()
    name = f"longest task, {MANY_NODES:,} nodes change once a second, fleet"
    return _at_most(name, "ms", [longest], 200.0)


async def _memory(chrome: Browser, looks: int) -> Row:
    """The heap after many looks by that at the beginning, both after a collection."""
    origin = ConsoleOrigin(SyntheticFleet(NODES))
    async with running(origin) as url, _opened(chrome, url, "fleet/workers") as (page, _):
        session = await page.context.new_cdp_session(page)

        async def heap() -> float:
            await asyncio.sleep(_COUNTED_S / 4)  # what came last is merged and drawn
            for _ in range(3):  # what a first collection frees holds more of its own
                await session.send("HeapProfiler.collectGarbage")
            used: float = (await session.send("Runtime.getHeapUsage"))["usedSize"]
            return used / 1e6

        await _looks(origin, 100)
        before = await heap()
        await _looks(origin, looks)
        after = await heap()
    print(f"heap: {before:.1f} MB, after {looks:,} looks {after:.1f} MB")
    minutes = looks / LOOKS_PER_S / 60
    return Row(
        name=f"heap after {minutes:.0f} minutes of looks",
        unit="MB",
        runs=[after],
        peer="at the beginning",
        peer_runs=[before],
        target=1.3,
        higher_is_better=False,
    )


async def _looks(origin: ConsoleOrigin, looks: int) -> None:
    for _ in range(looks):
        origin.send(origin.fleet.step(NODES // LOOKS_PER_S))
        await asyncio.sleep(0.02)


async def _accessible(chrome: Browser) -> list[Row]:
    rows = []
    for size, named in ((DESKTOP, "desktop"), (PHONE, "phone")):
        for scheme in ("light", "dark"):
            found = 0
            origin = ConsoleOrigin(SyntheticFleet(200))
            async with running(origin) as url:
                opened = _opened(chrome, url, "overview", size=size, color_scheme=scheme)
                async with opened as (page, _):
                    for place in VIEWS:
                        await page.goto(f"{url}/console#/{place}")
                        await page.locator("#health").wait_for()
                        found += (await Axe().run(page)).violations_count
            rows.append(
                _at_most(f"axe: violations in all views, {scheme}, {named}", "", [found], 0)
            )
    return rows


async def _percent(seconds: float) -> float:
    """Of one core, that all of the browser's processes use."""
    (root,) = [process.pid for process in _roots()]
    before, began = cpu_seconds(root), time.perf_counter()
    await asyncio.sleep(seconds)
    return 100 * (cpu_seconds(root) - before) / (time.perf_counter() - began)


def _roots() -> Iterator[psutil.Process]:
    """The browser's first process; the others are below it."""
    for process in psutil.Process().children(recursive=True):
        parent = process.parent()
        if _is_chrome(process) and parent is not None and not _is_chrome(parent):
            yield process


def _is_chrome(process: psutil.Process) -> bool:
    return process.name().startswith("chrom")


def _at_most(name: str, unit: str, runs: list[float] | list[int], target: float) -> Row:
    return Row(name=name, unit=unit, runs=runs, target=target, higher_is_better=False)
