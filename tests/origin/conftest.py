"""An origin's folder, and whole origins on it, in this process and in processes of their own."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp.test_utils import TestServer

from origin.app import build_app
from origin.config import OriginConfig
from origin.init import initialize
from tests.fakes.origin_home import REPOSITORY_ROOT, Home, OriginProcess, StartOrigin, StartProcess
from tests.fakes.quick_disk import quick_folder
from tests.fakes.waiting import until

PASSPHRASE = "correct horse"


@pytest.fixture
async def home() -> AsyncIterator[Home]:
    """A new origin's folder."""
    with quick_folder() as folder:
        config = OriginConfig(
            port=0,
            store=str(folder / "store"),
            keys_dir=folder / "keys",
            admin_token_file=folder / "token",
            ready_file=folder / "ready.json",
        )
        await initialize(config, PASSPHRASE)
        yield Home(folder, config)


@pytest.fixture
async def start_origin(home: Home) -> AsyncIterator[StartOrigin]:
    """Start an origin on the folder, in this process. Starting again is a restart."""
    async with AsyncExitStack() as stack:

        async def start(config: OriginConfig | None = None) -> TestServer:
            server = TestServer(await build_app(config or home.config))
            await stack.enter_async_context(server)
            return server

        yield start


@pytest.fixture
async def start_process(home: Home) -> AsyncIterator[StartProcess]:
    """Start ``python -m origin`` on the folder."""
    config = home.config
    file = home.folder / "headwater.toml"
    file.write_text(
        f"""
        [origin]
        port = 0
        store = "{config.store}"
        keys_dir = "{config.keys_dir}"
        admin_token_file = "{config.admin_token_file}"
        ready_file = "{config.ready_file}"
        """
    )
    started: list[asyncio.subprocess.Process] = []

    async def start() -> OriginProcess:
        ready = home.folder / "ready.json"
        ready.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "origin", "--config", str(file)),
            cwd=REPOSITORY_ROOT,
        )
        started.append(process)
        await until(lambda: ready.exists() or process.returncode is not None, deadline_s=40)
        return OriginProcess(process, json.loads(ready.read_text())["url"])

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()
