"""What all engines that are child processes have in common: a life under supervision, a key, an
address on loopback, and a watch for hangs. What they speak stands in the files of the engines.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakSet

import msgspec
import structlog

from gpu_worker.engine import (
    EngineError,
    EngineStartError,
    EngineUnavailableError,
    Generation,
    Probe,
    Sampling,
    collect,
    failed,
)
from gpu_worker.engines.event_stream import Decode, EventStream
from gpu_worker.engines.exchange import Exchange, ExchangeConfig, Receiver, call, encode_request
from gpu_worker.engines.soundness import Question, probe
from gpu_worker.faults import Tally
from gpu_worker.golden_probe import named, probe_texts
from gpu_worker.hang import HangConfig, HangWatch
from gpu_worker.supervisor import EngineProcess, Launch, SupervisorConfig
from wire.golden import Expectations, GoldenPrompt, Verdict
from wire.workers import Fault

_log = structlog.get_logger("engine")
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildConfig:
    """What every engine can be told."""

    slots: int = 4
    """Requests at once."""
    context_tokens: int = 4_096
    """Prompt and answer together, for each slot."""
    probe_tokens: int = 8
    """Asked of an engine before it serves; beside golden prompts that are compared, one may do."""
    probe_timeout_s: float = 300.0
    """For each question of the probe. Before the first token a processor may read all of the
    weights from a cold disk: 40 GB of one that gives 150 MB/s take 270 s."""
    verdict_s: float = 2.0
    """How long a stream that broke off waits to hear what became of the engine; longer than that
    one's last words are waited for."""
    hang: HangConfig = field(default_factory=HangConfig)
    exchange: ExchangeConfig = field(default_factory=ExchangeConfig)


class SupervisedEngine(ABC):
    """The common half of an engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        kind: what it is called in logs and errors.
        path: what it loads.
        clock: monotonic seconds.
        tally: where it is counted what becomes of it.
    """

    def __init__(
        self,
        kind: str,
        path: Path,
        *,
        model: str,
        revision: str,
        config: ChildConfig,
        supervisor: SupervisorConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self.model = model
        self.revision = revision
        self.path = path
        self.features: frozenset[str] = frozenset()
        self._child_config = config
        self._clock = clock
        self._key = ""
        self._address = ""
        self._streams: WeakSet[EventStream] = WeakSet()
        self._guard: asyncio.Task[None] | None = None
        self._proving = False
        self.process = EngineProcess(
            f"{kind} {model}@{revision[:12]}",
            self._launch,
            supervisor or SupervisorConfig(),
            clock=clock,
            on_ready=self._on_ready,
            tally=tally,
        )

    @property
    def base_url(self) -> str:
        return self._address if self.ready else ""

    @property
    def capacity(self) -> int:
        return self._child_config.slots

    @property
    def ready(self) -> bool:
        return self.process.state == "up"

    @property
    def dead(self) -> asyncio.Future[str]:
        return self.process.dead

    @property
    def fault(self) -> Fault:
        return self.process.fault

    async def start(self) -> None:
        await self.process.start()
        self._guard = asyncio.create_task(self._watch(), name=f"hang-watch:{self.process.name}")
        self._guard.add_done_callback(self._on_watch_done)
        await self._greet()

    async def aclose(self) -> None:
        try:
            if self._guard is not None:
                self._guard.cancel()
                await asyncio.gather(self._guard, return_exceptions=True)
        finally:
            await self.process.aclose()

    async def health(self) -> bool:
        try:
            status, _ = await self._call("GET", "/health")
        except EngineError:
            return False
        return status == 200

    async def probe(self, golden: Expectations | None = None) -> Probe:
        config = self._child_config
        # Beside golden prompts one token is enough: the time to it is told.
        question = Question.of(1 if golden else config.probe_tokens, config.probe_timeout_s)
        # Its questions have deadlines of their own, and the first one may wait for a disk: that is
        # no stall. Whether the engine is frozen its health tells.
        self._proving = True
        try:
            seen = await probe(self.process.name, self.stream, question, self._clock)
            if golden is None:
                return seen
            verdict = await named(self.process.name, self._compare(golden))
        finally:
            self._proving = False
        return msgspec.structs.replace(seen, verdict=verdict)

    def stream(self, request: Generation) -> EventStream:
        verdict = self.process.verdict
        stream = EventStream(
            partial(self._open, request), self._refusal, partial(self._what_ended, verdict)
        )
        self._streams.add(stream)
        return stream

    async def _compare(self, golden: Expectations) -> Verdict:
        """What the engine makes of the golden prompts; by text, where it tells no ids."""
        return await probe_texts(golden, self._said)

    async def _said(self, prompt: GoldenPrompt, count: int) -> str:
        sampling = Sampling(temperature=0.0)
        request = Generation(prompt=prompt.ids, max_tokens=count, sampling=sampling)
        async with asyncio.timeout(self._child_config.probe_timeout_s):
            return (await collect(self.stream(request)))[0]

    @abstractmethod
    def _launch(self) -> Launch:
        """How to start the next life."""

    @abstractmethod
    async def _greet(self) -> None:
        """After the first start: learn what it can do."""

    @abstractmethod
    async def _open(self, request: Generation, receiver: Receiver) -> tuple[Exchange, Decode]:
        """Ask for an answer, which goes to the receiver."""

    @abstractmethod
    def _refusal(self, status: int, answer: bytes) -> EngineError:
        """The error that an answer other than 200 means."""

    def _on_ready(self, line: dict[str, Any]) -> None:
        """A child of our own names its address; a program was told where to listen."""
        address = line.get("address", self._address)
        if not isinstance(address, str) or not address.startswith(f"http://{_LOOPBACK}:"):
            raise EngineStartError(f"{self.process.name} named no address")
        self._address = address

    def _choose_address(self) -> tuple[str, str]:
        """Host and port for the next life of a program that has to be told. Another process could
        take the port before it does; then it does not start."""
        with socket.socket() as probing:
            probing.bind((_LOOPBACK, 0))
            port = probing.getsockname()[1]
        self._address = f"http://{_LOOPBACK}:{port}"
        return _LOOPBACK, str(port)

    def _renew_key(self) -> str:
        self._key = secrets.token_urlsafe(32)
        return self._key

    async def _answers(self) -> bool:
        """Whether a program that is starting is ready."""
        request = encode_request("GET", "/health", key=self._key)
        try:
            status, _ = await call(self._address, request, self._child_config.exchange)
        except EngineError:
            return False
        return status == 200

    def _up(self) -> str:
        if not self.ready:
            raise EngineUnavailableError(f"{self.process.name} is {self.process.state}")
        return self._address

    async def _call(
        self, method: str, path: str, body: bytes = b"", timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        request = encode_request(method, path, key=self._key, body=body)
        exchange = self._child_config.exchange
        if timeout_s is not None:
            exchange = replace(exchange, call_timeout_s=timeout_s)
        return await call(self._up(), request, exchange)

    async def _checked(
        self, method: str, path: str, body: bytes = b"", timeout_s: float | None = None
    ) -> bytes:
        status, answer = await self._call(method, path, body, timeout_s)
        if status != 200:
            raise self._refusal(status, answer)
        return answer

    async def _what_ended(
        self, verdict: asyncio.Future[Fault] | None, why: str
    ) -> EngineError | None:
        """What became of the child that a stream was on; None: it lives, or we stopped it."""
        if verdict is None:
            return None
        await asyncio.wait({verdict}, timeout=self._child_config.verdict_s)
        fault: Fault = verdict.result() if verdict.done() else ""
        # What its log says is for the operator; this is read by a client.
        what = f"{self.process.name} ended while it answered: {fault.replace('_', ' ')}"
        return failed(fault, f"{what} ({why})") if fault else None

    async def _watch(self) -> None:
        """Look for hangs as long as the engine is not closed."""
        config = self._child_config.hang
        life, watch = -1, HangWatch(config, self._clock())
        asking: asyncio.Task[bool] | None = None
        try:
            while True:
                await asyncio.sleep(config.look_s)
                now_s = self._clock()
                if not self.ready or life != self.process.restarts:
                    life, watch = self.process.restarts, HangWatch(config, now_s)
                    await _give_up(asking)
                    asking = None
                if asking is None or asking.done():
                    if asking is not None and asking.result():
                        watch.answered(now_s)
                    asking = asyncio.create_task(self.health(), name="engine-health")
                why = watch.look(now_s, running=self._running(), heard=self._heard())
                if why and self.ready:
                    _log.error("engine hangs", engine=self.process.name, why=why)
                    self.process.condemn("hung", why)
        finally:
            await _give_up(asking)

    def _running(self) -> bool:
        return not self._proving and any(stream.waiting for stream in self._streams)

    def _heard(self) -> bool:
        """Whether anything came for any stream since the last time."""
        heard = False
        for stream in self._streams:
            heard = heard or stream.heard
            stream.heard = False
        return heard

    def _on_watch_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("hang watch died", engine=self.process.name, exc_info=task.exception())


async def _give_up(task: asyncio.Task[bool] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
