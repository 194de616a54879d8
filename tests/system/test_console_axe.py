"""What axe-core (WCAG, ARIA, good practice) says of every view of the console's page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.fakes.chromium import DESKTOP, PHONE, browser, chromium
from tests.fakes.console_fleet import SyntheticFleet
from tests.fakes.console_origin import ConsoleOrigin
from tests.fakes.console_page import VIEWS, opened

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(chromium() is None, reason="no Chromium is installed"),
]
CONTRAST = "color-contrast"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chrome() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing(chrome: Browser, size: tuple[int, int]) -> None:
    """On a desktop in light and dark; a phone has the same colours, but not the same layout."""
    origin = ConsoleOrigin(SyntheticFleet(40))
    looks = _colours if size == DESKTOP else _layout
    async with opened(chrome, origin, size=size, logged_in=False) as console:
        page = console.page
        await expect(page.get_by_label("Administrator’s token")).to_be_visible()
        await looks(page, "login")
        await console.log_in()
        for place in (*set(VIEWS) - {"fleet/workers"}, "fleet/workers/gpu-18%2Fchat-small"):
            await console.go(place)
            if place.startswith("boots"):
                await page.get_by_text("As a table").click()
            await looks(page, place)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= size[0], f"{place} is wider than the screen"


async def _colours(page: Page, place: str) -> None:
    """All rules; in the dark, where only colours differ, those about colours."""
    await _axe(page, place, {})
    await page.emulate_media(color_scheme="dark")
    await _axe(page, f"{place}, dark", {"runOnly": {"type": "rule", "values": [CONTRAST]}})
    await page.emulate_media(color_scheme="light")


async def _layout(page: Page, place: str) -> None:
    await _axe(page, place, {"rules": {CONTRAST: {"enabled": False}}})


async def _axe(page: Page, place: str, options: dict[str, Any]) -> None:
    found = await Axe().run(page, options={"resultTypes": ["violations"], **options})
    assert found.violations_count == 0, f"{place}: {found.generate_report()}"
