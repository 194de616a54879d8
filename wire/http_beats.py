"""Beats: the same small body POSTed again and again to each of several servers, and their answers.

A worker tells its edges so that it lives, an edge its origins. Each server is told by a thread of
its own, so that one that is dead or slow delays no other, and an event loop that is busy delays
none; when something changes, all are told at once. The loop makes the bodies. Where it takes long,
the last one is sent once more, but not for ever: a process whose loop stands still must not be
said to live.

A server may be given as a name with many addresses (``wire.discovery``): each of them is told, and
they are looked up again every few seconds.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec
import structlog

from wire import discovery
from wire.chunk import Buffer
from wire.errors import HeadwaterError
from wire.http_client import BlockingClient, ClientConfig
from wire.http_errors import refusal

_MIN_PATIENCE_S = 1.0
"""A server gets so long to accept a connection, and half as much more to answer, however often we
beat: the next beat must come before the server forgets us."""
_LOOP_WAIT_S = 0.25
"""How long the event loop may take to make a body before the last one is sent again."""
_OVERTAKEN_S = 1.0
"""How long a goodbye waits for the beat before it."""
_LAST_BODY_S = 5.0
"""How long the last one may be sent instead."""
_LOOK_S = 2.0
"""How often names are looked up again."""
_GOODBYES = 32
"""Sent at the same time, where it is not known how many servers there will be."""

Answered = Callable[[str, bytes], None]
"""Told of a server's URL and the body of its answer, on the event loop. May raise
``msgspec.DecodeError``, which is logged."""


class Beats:
    """Sends a body to every server, each in its own time.

    Args:
        urls: of the servers, ``http[s]://host[:port]``, or ``dns+http://name[:port]`` for all that
            have this name.
        token: sent as bearer token; never logged.
        path: where the body goes.
        body: makes what is sent now; called on the event loop.
        interval_s: between two beats when nothing changes.
        answered: told of every answer that is no refusal.
        name: of what is sent, in the log.
        look_s: how often names are looked up.
        resolve: looks them up.

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
        look_s: float = _LOOK_S,
        resolve: discovery.Resolve = discovery.resolve,
    ) -> None:
        patience_s = max(interval_s, _MIN_PATIENCE_S)
        config = ClientConfig(connect_timeout_s=patience_s, stall_timeout_s=1.5 * patience_s)

        def server(url: str) -> _Server:
            return _Server(url, BlockingClient(url, token=token, config=config), path, name)

        self._server = server
        self._known, names = discovery.split(urls)
        self._names = [discovery.Name(url, resolve) for url in names]
        self._look_s = look_s
        self._servers = {url: server(url) for url in self._known}
        # For the goodbye, which need not wait for a beat that is stuck.
        self._executor = ThreadPoolExecutor(
            _GOODBYES if names else len(urls) or 1, thread_name_prefix=name
        )
        self._body = _Body(body, name)
        self._answered = answered
        self._interval_s = interval_s
        self._name = name

    def poke(self) -> None:
        """Something changed: tell it now."""
        for server in self._servers.values():
            server.changed.set()

    async def run(self) -> None:
        """Beat until cancelled."""
        stopped = threading.Event()
        for server in self._servers.values():
            self._start(server, stopped)
        try:
            while self._names:
                await self._look(stopped)
                await asyncio.sleep(self._look_s)
            if self._servers:
                await asyncio.Event().wait()
        finally:
            stopped.set()
            self.poke()

    def _start(self, server: _Server, stopped: threading.Event) -> None:
        """Give a server its thread."""
        threading.Thread(
            target=self._beat,
            args=(server, asyncio.get_running_loop(), stopped),
            name=f"{self._name}-{server.netloc}",
            # It may be waiting for its server when the process ends.
            daemon=True,
        ).start()

    async def _look(self, stopped: threading.Event) -> None:
        """Look up all names; tell who is new, and no longer who is gone."""
        looks = [asyncio.to_thread(name.look) for name in self._names]
        found = [url for urls in await asyncio.gather(*looks) for url in urls]
        wanted = dict.fromkeys([*self._known, *found])
        for url in [url for url in self._servers if url not in wanted]:
            self._servers.pop(url).leave()
        for url in wanted:
            if url not in self._servers:
                self._servers[url] = self._server(url)
                self._start(self._servers[url], stopped)

    async def send(self) -> None:
        """Beat once everywhere and wait; used to say goodbye."""
        loop = asyncio.get_running_loop()
        body = self._body.make()
        servers = list(self._servers.values())
        posts = [loop.run_in_executor(self._executor, s.post_after_beat, body) for s in servers]
        for server, answer in zip(servers, await asyncio.gather(*posts), strict=True):
            self._tell(server, answer)

    async def aclose(self) -> None:
        """Close the connections."""
        for server in self._servers.values():
            server.close()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _beat(
        self, server: _Server, loop: asyncio.AbstractEventLoop, stopped: threading.Event
    ) -> None:
        """The life of a server's thread."""
        while not (stopped.is_set() or server.gone.is_set()):
            began_s = time.monotonic()
            server.changed.clear()
            try:
                with server.turn:
                    body = self._body.of(loop)
                    if body is not None and not stopped.is_set():
                        loop.call_soon_threadsafe(self._tell, server, server.post(body))
            except RuntimeError:
                return  # the loop is closed
            server.changed.wait(max(0.0, began_s + self._interval_s - time.monotonic()))

    def _tell(self, server: _Server, answer: Buffer | None) -> None:
        if answer is None:
            return
        try:
            self._answered(server.url, bytes(answer))
        except msgspec.DecodeError as error:
            server.note("answered nonsense", str(error))
        else:
            server.note("accepted", "")


class _Body:
    """Has the event loop make bodies, for threads that cannot wait for it."""

    def __init__(self, make: Callable[[], bytes], name: str) -> None:
        self._make = make
        self._log = structlog.get_logger(name)
        self._last: tuple[bytes, float] | None = None

    def make(self) -> bytes:
        """A fresh one; on the event loop."""
        body = self._make()
        self._last = body, time.monotonic()
        return body

    def of(self, loop: asyncio.AbstractEventLoop) -> bytes | None:
        """A fresh one, or the last one where the loop is busy; None where it stands still.

        Raises:
            RuntimeError: the loop is closed.
        """
        made: Future[bytes] = Future()
        loop.call_soon_threadsafe(self._answer, made)
        try:
            return made.result(_LOOP_WAIT_S)
        except TimeoutError:
            made.cancel()
        except Exception:  # noqa: BLE001 - logged, and the next beat follows
            self._log.exception("no report could be made")
            return None
        body, made_s = self._last or (b"", 0.0)
        return body if body and time.monotonic() - made_s < _LAST_BODY_S else None

    def _answer(self, made: Future[bytes]) -> None:
        if not made.set_running_or_notify_cancel():
            return
        try:
            made.set_result(self.make())
        except Exception as error:  # noqa: BLE001 - the thread that asked logs it
            made.set_exception(error)


class _Server:
    """One server: its connection, and how the last beat ended, so that only news are logged."""

    def __init__(self, url: str, client: BlockingClient, path: str, name: str) -> None:
        self.url = url
        self.changed = threading.Event()
        self.gone = threading.Event()
        """It is no longer one of ours: its thread ends."""
        self.turn = threading.Lock()
        """Held from the making of a beat until it has arrived."""
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

    def leave(self) -> None:
        """End its thread, and close the connection."""
        self.gone.set()
        self.changed.set()
        self.close()

    def post_after_beat(self, body: bytes) -> Buffer | None:
        """Send what must not be overtaken by a beat that was made before it: a goodbye would be
        taken back. A beat that is stuck is not waited for."""
        mine = self.turn.acquire(timeout=_OVERTAKEN_S)
        try:
            return self.post(body)
        finally:
            if mine:
                self.turn.release()

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
