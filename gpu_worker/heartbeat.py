"""Tells the edges that this worker lives, how loaded it is, and at once when something changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from wire.errors import HeadwaterError
from wire.http_client import BlockingClient, ClientConfig
from wire.paths import HEARTBEAT
from wire.workers import WorkerReport

_log = structlog.get_logger("heartbeat")
_MIN_PATIENCE_S = 1.0
"""An edge gets so long to accept a connection, and twice that to answer, however often we beat."""


class Heartbeat:
    """Sends reports to every edge, each in its own time, so that one dead edge delays no other.

    Args:
        report: makes the current report; called on the event loop.
        interval_s: between two of them when nothing changes.
    """

    def __init__(
        self,
        edges: tuple[str, ...],
        token: str,
        report: Callable[[], WorkerReport],
        *,
        interval_s: float,
    ) -> None:
        patience_s = max(interval_s, _MIN_PATIENCE_S)
        config = ClientConfig(connect_timeout_s=patience_s, stall_timeout_s=2 * patience_s)
        self._edges = [_Edge(BlockingClient(url, token=token, config=config)) for url in edges]
        # Two threads for each edge: the goodbye need not wait for a beat that is stuck.
        self._executor = ThreadPoolExecutor(2 * len(edges) or 1, thread_name_prefix="heartbeat")
        self._report = report
        self._interval_s = interval_s

    def poke(self) -> None:
        """Something changed: report now."""
        for edge in self._edges:
            edge.changed.set()

    async def run(self) -> None:
        """Report until cancelled."""
        async with asyncio.TaskGroup() as group:
            for edge in self._edges:
                group.create_task(self._beat(edge), name=f"beat-{edge.client.netloc}")

    async def send(self) -> None:
        """Report once to every edge and wait; used to say goodbye."""
        await asyncio.gather(*map(self._post, self._edges))

    async def aclose(self) -> None:
        """Close the connections."""
        for edge in self._edges:
            edge.client.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _beat(self, edge: _Edge) -> None:
        while True:
            edge.changed.clear()
            await self._post(edge)
            # Not wait_for: until Python 3.12 it swallows a cancellation that comes together with
            # the event, which is just what happens at the end (gh-86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await edge.changed.wait()

    async def _post(self, edge: _Edge) -> None:
        body = msgspec.json.encode(self._report())
        await asyncio.get_running_loop().run_in_executor(self._executor, edge.post, body)


class _Edge:
    """One edge: its connection, and how the last report ended, so that only news are logged."""

    def __init__(self, client: BlockingClient) -> None:
        self.client = client
        self.changed = asyncio.Event()
        self._outcome = "accepted"

    def post(self, body: bytes) -> None:
        """Send a report; whatever happens, the next one follows."""
        try:
            answer = self.client.send("POST", HEARTBEAT, body)
        except HeadwaterError as error:
            self._note("not reached", error.message)
            return
        self._note("accepted" if answer.status < 300 else f"refused ({answer.status})", "")

    def _note(self, outcome: str, why: str) -> None:
        if outcome != self._outcome:
            self._outcome = outcome
            log = _log.info if outcome == "accepted" else _log.warning
            log("heartbeat", edge=self.client.netloc, outcome=outcome, why=why)
