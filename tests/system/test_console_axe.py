"""What axe-core (WCAG, ARIA, good practice) says of every view of the console's page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_SCRIPT, AxeResults
from playwright.async_api import Browser, Page, expect

from tests.fakes.chromium import DESKTOP, PHONE, browser, chromium
from tests.fakes.console_fleet import SyntheticFleet
from tests.fakes.console_origin import ConsoleOrigin
from tests.fakes.console_page import VIEWS, opened

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]
WATERFALLS = {"boots/gpu-3", "rolls?worker=gpu-3"}
CONTRAST = "color-contrast"
LAYOUT = {"rules": {CONTRAST: {"enabled": False}}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


async def test_axe_finds_nothing(chrome: Browser) -> None:
    """On a desktop in light and dark; a phone has the same colours, but not the same layout."""
    origin = ConsoleOrigin(SyntheticFleet(24))
    places = (*set(VIEWS) - {"fleet/workers"}, "fleet/workers/gpu-18%2Fchat-small")
    async with opened(chrome, origin, logged_in=False) as console:
        page = console.page
        await page.evaluate(AXE_SCRIPT)
        await expect(page.get_by_label("Administrator’s token")).to_be_visible()
        await _sized(page, PHONE)
        await _axe(page, "login, phone", LAYOUT)
        await _sized(page, DESKTOP)
        await _colours(page, "login")
        await console.log_in()
        for place in places:
            await console.go(place)
            if place in WATERFALLS:
                await page.get_by_text("As a table").click()
            await _narrow_enough(page, place, DESKTOP)
            await _colours(page, place)
        await _sized(page, PHONE)
        for place in places:
            await console.go(place)
            if place in WATERFALLS:
                await page.get_by_text("As a table").click()
            await _narrow_enough(page, place, PHONE)
            await _axe(page, f"{place}, phone", LAYOUT)


async def _sized(page: Page, size: tuple[int, int]) -> None:
    await page.set_viewport_size({"width": size[0], "height": size[1]})


async def _narrow_enough(page: Page, place: str, size: tuple[int, int]) -> None:
    wide = await page.evaluate("document.documentElement.scrollWidth")
    assert wide <= size[0], f"{place} is wider than {size[0]} pixels"


async def _colours(page: Page, place: str) -> None:
    """All rules; in the dark, where only colours differ, those about colours."""
    await _axe(page, place, {})
    await page.emulate_media(color_scheme="dark")
    await _axe(page, f"{place}, dark", {"runOnly": {"type": "rule", "values": [CONTRAST]}})
    await page.emulate_media(color_scheme="light")


async def _axe(page: Page, place: str, options: dict[str, Any]) -> None:
    """``Axe.run`` would bring its half a megabyte again each time."""
    run = "options => axe.run(document, options)"
    found = AxeResults(await page.evaluate(run, {"resultTypes": ["violations"], **options}))
    assert found.violations_count == 0, f"{place}: {found.generate_report()}"
