"""The console's page in a browser, for tests of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from playwright.async_api import Browser, BrowserContext, Page, expect

from tests.fakes.chromium import DESKTOP
from tests.fakes.console_fleet import SyntheticFleet
from tests.fakes.console_origin import COOKIE, TOKEN, ConsoleOrigin, running

VIEWS = {
    "overview": "Overview",
    "fleet/workers": "Fleet",
    "fleet/edges": "Fleet",
    "rolls": "Rolls",
    "rolls?worker=gpu-3": "Rolls",
    "boots/gpu-3": "Boots",
    "gateway": "Gateway",
    "playground": "Playground",
    "logins": "Logins",
}
"""Places on the page → the heading there."""
PATIENT_MS = 30_000
"""Only a broken page takes so long: a busy machine stands still for seconds."""
expect.set_options(timeout=PATIENT_MS)


@dataclass(slots=True)
class Console:
    """A page that is open, what it is shown, and what it complained of."""

    page: Page
    origin: ConsoleOrigin
    url: str
    complaints: list[str] = field(default_factory=list)

    async def go(self, place: str) -> None:
        """To a view, and until it is drawn."""
        await self.page.goto(f"{self.url}/console#/{place}")
        await expect(self.page.locator("#health")).to_be_visible()

    async def log_in(self, token: str = TOKEN) -> None:
        await self.page.get_by_label("Administrator’s token").fill(token)
        await self.page.get_by_role("button", name="Log in").click()

    async def again(self, fleet: SyntheticFleet) -> None:
        """As somebody finds it who comes to it with this fleet: quicker than a page anew."""
        self.origin.become(fleet)
        await self.go("overview")

    def row(self, name: str) -> Callable[[str], Awaitable[None]]:
        """Tells whether the row of a node shows a text."""
        row = self.page.get_by_role("row").filter(has=self.page.get_by_role("link", name=name))
        return lambda text: expect(row).to_contain_text(text)


@asynccontextmanager
async def opened(
    chrome: Browser,
    origin: ConsoleOrigin,
    *,
    size: tuple[int, int] = DESKTOP,
    dark: bool = False,
    logged_in: bool = True,
) -> AsyncIterator[Console]:
    """The page in a browser of its own; at the end it must have complained of nothing."""
    viewport = {"width": size[0], "height": size[1]}
    async with running(origin) as url:
        context = await chrome.new_context(
            viewport=viewport,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        try:
            if logged_in:
                cookie = {"name": COOKIE, "value": origin.let_in(), "url": f"{url}/console/"}
                await context.add_cookies([cookie])  # type: ignore[list-item]
            console = await open_page(context, origin, url)
            await console.page.goto(f"{url}/console")
            if logged_in:
                await expect(console.page.locator("#health")).to_be_visible()
            yield console
        finally:
            await context.close()
    assert console.complaints == []


async def open_page(context: BrowserContext, origin: ConsoleOrigin, url: str) -> Console:
    """A new page of a browser."""
    page = await context.new_page()
    page.set_default_timeout(PATIENT_MS)
    console = Console(page=page, origin=origin, url=url)
    page.on("pageerror", lambda error: console.complaints.append(str(error)))
    page.on(
        "console",
        lambda told: (
            console.complaints.append(told.text) if told.type in {"error", "warning"} else None
        ),
    )
    return console
