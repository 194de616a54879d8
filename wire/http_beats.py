"""Beats: the same small body POSTed again and again to each of several servers, and their answers.

A worker tells its edges so that it lives, an edge its origins. Each server is told in its own time,
so that one that is dead or slow delays no other; when something changes, all are told at once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from wire.chunk import Buffer
from wire.errors import HeadwaterError
from wire.http_client import BlockingClient, ClientConfig
from wire.http_errors import refusal

_MIN_PATIENCE_S = 1.0
"""A server gets so long to accept a connection, and twice that to answer, however often we beat."""

Answered = Callable[[str, bytes], None]
"""Told of a server's URL and the body of its answer, on the event loop. May raise
``msgspec.DecodeError``, which is logged."""


class Beats:
    """Sends a body to every server, each in its own time.

    Args:
        urls: of the servers, ``http[s]://host[:port]``.
        token: sent as bearer token; never logged.
        path: where the body goes.
        body: makes what is sent now; called on the event loop.
        interval_s: between two beats when nothing changes.
        answered: told of every answer that is no refusal.
        name: of what is sent, in the log.

    Raises:
        ConfigError: a URL is not of that form.
    """

    def __init__(
        self,
        urls: Sequence[str],
        token: str,
        path: str,
        body: Callable[[], bytes],
        *,
        interval_s: float,
        answered: Answered = lambda _url, _body: None,
        name: str,
    ) -> None:
        patience_s = max(interval_s, _MIN_PATIENCE_S)
        config = ClientConfig(connect_timeout_s=patience_s, stall_timeout_s=2 * patience_s)
        self._servers = [
            _Server(url, BlockingClient(url, token=token, config=config), path, name)
            for url in urls
        ]
        # Two threads for each: the goodbye need not wait for a beat that is stuck.
        self._executor = ThreadPoolExecutor(2 * len(urls) or 1, thread_name_prefix=name)
        self._body = body
        self._answered = answered
        self._interval_s = interval_s
        self._name = name

    def poke(self) -> None:
        """Something changed: tell it now."""
        for server in self._servers:
            server.changed.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(self._beat(server), name=f"{self._name}-{server.netloc}")

    async def send(self) -> None:
        """Beat once everywhere and wait; used to say goodbye."""
        await asyncio.gather(*map(self._post, self._servers))

    async def aclose(self) -> None:
        """Close the connections."""
        for server in self._servers:
            server.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _beat(self, server: _Server) -> None:
        while True:
            server.changed.clear()
            await self._post(server)
            # Not wait_for: until Python 3.12 it swallows a cancellation that comes together with
            # the event, which is just what happens at the end (gh-86296).
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s):
                    await server.changed.wait()

    async def _post(self, server: _Server) -> None:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self._executor, server.post, self._body())
        if answer is None:
            return
        try:
            self._answered(server.url, bytes(answer))
        except msgspec.DecodeError as error:
            server.note("answered nonsense", str(error))
        else:
            server.note("accepted", "")


class _Server:
    """One server: its connection, and how the last beat ended, so that only news are logged."""

    def __init__(self, url: str, client: BlockingClient, path: str, name: str) -> None:
        self.url = url
        self.changed = asyncio.Event()
        self._client = client
        self._path = path
        self._name = name
        self._log = structlog.get_logger(name)
        self._outcome = "accepted"

    @property
    def netloc(self) -> str:
        """Host and port."""
        return self._client.netloc

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def post(self, body: bytes) -> Buffer | None:
        """Send it; the answer's body, None where it was refused or did not arrive. Whatever
        happens, the next one follows."""
        try:
            answer = self._client.send(
                "POST", self._path, body, headers={"Content-Type": "application/json"}
            )
        except HeadwaterError as error:
            self.note("not reached", error.message)
            return None
        if answer.status >= 300:
            self.note(f"refused ({answer.status})", refusal(answer.body))
            return None
        return answer.body

    def note(self, outcome: str, why: str) -> None:
        """Log how a beat ended, where the one before ended otherwise."""
        if outcome != self._outcome:
            self._outcome = outcome
            log = self._log.info if outcome == "accepted" else self._log.warning
            log(self._name, to=self.netloc, outcome=outcome, why=why)
