"""The system's Chromium, driven by Playwright; nothing of it asks the network for anything."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, async_playwright

ARGUMENTS = (
    "--no-sandbox",  # it runs as root where tests do
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-dev-shm-usage",
)
DESKTOP = (1280, 800)
PHONE = (360, 740)


def chromium() -> str | None:
    """Where it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """A running one, without a window."""
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=chromium(), args=list(ARGUMENTS), headless=True
        )
        try:
            yield running
        finally:
            await running.close()
