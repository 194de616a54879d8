"""Processes of a benchmark, and how much CPU they used."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path


async def listening(port: int, within_s: float = 20.0) -> None:
    """Return when something listens on the port. Raises ``TimeoutError``."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on port {port}") from None
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return


@asynccontextmanager
async def program(
    argv: Sequence[str], port: int, *, folder: Path | None = None
) -> AsyncIterator[int]:
    """Run a server as long as the block; gives its process id."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, cwd=folder
    )
    try:
        await listening(port)
        yield process.pid
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def python_module(name: str, *arguments: object) -> list[str]:
    """The command line that runs a module of this package."""
    return [sys.executable, "-m", f"tests.benchmarks.{name}", *map(str, arguments)]
