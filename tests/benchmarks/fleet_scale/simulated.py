"""A process full of nodes that follow a channel as workers do, with nothing to load.

``python -m tests.benchmarks.fleet_scale.simulated ROOT FOLDER FIRST COUNT URL [URL]``. Each node
has a trust store, a source, an event stream and a wait of its own, all real. What a node verified
is told in one line of JSON on stdout: which node, the pointer's sequence, when (``time.monotonic``
is one clock for all processes of a machine). A node that would ever go back says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog
import uvloop

from wire.errors import HeadwaterError
from wire.events import Event
from wire.http_events import follow
from wire.http_source import HttpSource
from wire.sources.nearest import Nearest
from wire.trust_client import TrustClient
from wire.trust_store import TrustStore

MODEL, CHANNEL = "m", "stable"
REVALIDATE_S = 10.0
"""As ``worker.revalidate_s``."""
_THREADS = 4


class Node:
    """One machine's part in a roll, up to the verified pointer."""

    def __init__(
        self, number: int, folder: Path, root: bytes, urls: list[str], threads: ThreadPoolExecutor
    ) -> None:
        self._number = number
        self._urls = urls
        members = [HttpSource(url, threads) for url in urls]
        store = TrustStore(folder / str(number), root)
        self._trust = TrustClient(Nearest(members), store, members)
        self._news = asyncio.Event()
        self._sequence = 0

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look_always())
            for url in self._urls:
                group.create_task(follow(url, self._on_event))

    async def _on_event(self, _event: Event) -> None:
        self._news.set()

    async def _look_always(self) -> None:
        while True:
            self._news.clear()
            with contextlib.suppress(HeadwaterError):
                view = await self._trust.refresh()
                self._tell(view.pointer(MODEL, CHANNEL).sequence)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REVALIDATE_S):
                    await self._news.wait()

    def _tell(self, sequence: int) -> None:
        if sequence == self._sequence:
            return
        older = sequence < self._sequence
        self._sequence = sequence
        line = {"node": self._number, "sequence": sequence, "at": time.monotonic(), "older": older}
        os.write(1, json.dumps(line).encode() + b"\n")


async def run(root: bytes, folder: Path, first: int, count: int, urls: list[str]) -> None:
    """All nodes, until the process is killed."""
    threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="receive")
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(Node(number, folder, root, urls, threads).run())


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    _root, _folder, _first, _count, *_urls = sys.argv[1:]
    uvloop.run(run(Path(_root).read_bytes(), Path(_folder), int(_first), int(_count), _urls))
