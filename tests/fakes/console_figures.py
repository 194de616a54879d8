"""Takes the pictures of docs/console.md: ``make docs-console``, or this module.

The fleet is made up and the page's clock is moved by hand, so that the curves have a past.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from playwright.async_api import Browser, Page

from tests.fakes.chromium import DESKTOP, PHONE, browser
from tests.fakes.console_fleet import SyntheticFleet
from tests.fakes.console_origin import API_KEY, TOKEN, ConsoleOrigin, running

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "figures"
MAX_BYTES = 200_000
NODES = 1_000
PICTURES = (
    ("overview-light", "overview", "light", DESKTOP),
    ("fleet-dark", "fleet/workers/gpu-18%2Fchat-small", "dark", DESKTOP),
    ("rolls-light", "rolls", "light", DESKTOP),
    ("worker-roll-light", "rolls?worker=gpu-3", "light", DESKTOP),
    ("boots-dark", "boots/gpu-3", "dark", DESKTOP),
    ("gateway-light", "gateway", "light", DESKTOP),
    ("playground-dark", "playground", "dark", DESKTOP),
    ("logins-light", "logins", "light", DESKTOP),
    ("overview-phone", "overview", "light", PHONE),
    ("fleet-phone", "fleet/workers", "dark", PHONE),
)
_PAST_S = 140


async def take(folder: Path = FOLDER) -> list[Path]:
    """All of them. Raises ``ValueError`` where one is too large for a repository."""
    taken = []
    async with browser() as chrome:
        for name, place, scheme, size in PICTURES:
            picture = folder / f"console-{name}.png"
            await _picture(chrome, picture, place, dark=scheme == "dark", size=size)
            if picture.stat().st_size > MAX_BYTES:
                raise ValueError(f"{picture} has {picture.stat().st_size:,} bytes")
            taken.append(picture)
    return taken


async def _picture(
    chrome: Browser, picture: Path, place: str, *, dark: bool, size: tuple[int, int]
) -> None:
    origin = ConsoleOrigin(SyntheticFleet(NODES))
    async with running(origin) as url:
        context = await chrome.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme="dark" if dark else "light",
            device_scale_factor=2 if size == PHONE else 1,
            reduced_motion="reduce",
        )
        page = await context.new_page()
        await page.clock.install()
        await page.goto(f"{url}/console#/{place}")
        await page.get_by_label("Administrator’s token").fill(TOKEN)
        await page.keyboard.press("Enter")
        await _live(page, origin)
        if place == "playground":
            origin.pause_s = 0.05
            await _ask(page)
        await page.evaluate("document.activeElement.blur()")
        await page.screenshot(path=picture)
        await context.close()


async def _live(page: Page, origin: ConsoleOrigin) -> None:
    """Some minutes pass."""
    await page.locator("#connection").get_by_text("Connecting").wait_for(state="detached")
    for _ in range(_PAST_S):
        origin.send(origin.fleet.step(20))
        await page.clock.run_for(1_000)
    await page.locator("#health .badge").first.wait_for(state="attached")


async def _ask(page: Page) -> None:
    await page.get_by_label("API key").fill(API_KEY)
    await page.get_by_label("Prompt").fill("What is the capital of France?")
    await page.get_by_role("button", name="Send").click()
    for _ in range(8):
        await asyncio.sleep(0.05)
        await page.clock.run_for(50)
    await page.clock.resume()
    await page.get_by_text("Done.").wait_for()


if __name__ == "__main__":
    for written in asyncio.run(take()):
        print(written, f"{written.stat().st_size:,} bytes")
