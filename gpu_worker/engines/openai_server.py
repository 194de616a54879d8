"""Any OpenAI-compatible server that runs already: Ollama, LM Studio, another worker.

It is nobody's child here. It is asked for its models at the start, watched by the same question
from then on, and neither killed nor restarted: while it does not answer, this engine is not ready,
and what ran breaks off by name. Which files it serves is its own affair; that they are those of the
revision is what the operator says by configuring it.

It takes text and messages, no token ids (feature ``messages_only``), and what it reads as control
tokens in them cannot be seen from here.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from weakref import WeakSet

import msgspec
import structlog

from gpu_worker.engine import (
    Embeddings,
    EngineError,
    EngineRefusedError,
    EngineStartError,
    EngineUnavailableError,
    Generation,
    Message,
    Probe,
    Sampling,
    Slots,
    TokensUnsupportedError,
    collect,
    failed,
)
from gpu_worker.engines.event_stream import Decode, EventStream
from gpu_worker.engines.exchange import (
    Exchange,
    Receiver,
    call,
    encode_request,
    open_exchange,
)
from gpu_worker.engines.llamacpp_api import decode_answer, embeddings
from gpu_worker.engines.openai_api import compose, refusal
from gpu_worker.engines.soundness import PROMPT, Question, probe
from gpu_worker.engines.supervised import ChildConfig
from gpu_worker.faults import Tally
from gpu_worker.golden_probe import named, probe_texts
from gpu_worker.hang import HangWatch
from wire.errors import ConfigError
from wire.golden import Expectations, GoldenPrompt
from wire.http_server import read_token
from wire.workers import MESSAGES_ONLY, Fault

_log = structlog.get_logger("engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """Which server, and what it can do."""

    url: str = "http://127.0.0.1:11434"
    """Without ``/v1``. Ollama's own address by default."""
    served_model: str = ""
    """The model's name there; where empty, the name here."""
    key_file: Path | None = None
    """Holds the key that it wants; only its owner may read it."""
    features: tuple[str, ...] = ("tools", "json_schema")
    """What it can do beyond plain chat (``wire.workers``); nothing can ask it."""
    start_timeout_s: float = 30.0
    """How long it may stay away when this engine starts."""

    def __post_init__(self) -> None:
        where = urlsplit(self.url)
        if where.scheme not in {"http", "https"} or not where.hostname:
            raise ConfigError(f"engine.openai.url must be http:// or https://, not {self.url[:80]}")


class _Card(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    """The answer of ``GET /v1/models``."""

    data: tuple[_Card, ...] = ()


class OpenAIServer:
    """An engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        clock: monotonic seconds.
        tally: where it is counted how often the server was lost.
    """

    def __init__(
        self,
        *,
        model: str,
        revision: str,
        config: ChildConfig | None = None,
        openai: OpenAIConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self.model = model
        self.revision = revision
        self.ready = False
        self.fault: Fault = ""
        self.dead: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._config = config or ChildConfig()
        self._openai = openai = openai or OpenAIConfig()
        self.features = frozenset(openai.features) | {MESSAGES_ONLY}
        self._name = f"{model} at {openai.url}"
        self._served = openai.served_model or model
        self._clock = clock
        self._tally = tally or Tally()
        self._lost_at_s = -math.inf
        where = urlsplit(openai.url)
        self._prefix, self._host = where.path.rstrip("/"), where.netloc.rpartition("@")[2]
        self._tls = ssl.create_default_context() if where.scheme == "https" else None
        self._key = ""
        self._streams: WeakSet[EventStream] = WeakSet()
        self._guard: asyncio.Task[None] | None = None

    @property
    def base_url(self) -> str:
        return self._openai.url if self.ready else ""

    @property
    def capacity(self) -> int:
        return self._config.slots

    async def start(self) -> None:
        openai = self._openai
        if openai.key_file is not None:
            self._key = await asyncio.to_thread(read_token, openai.key_file)
        try:
            async with asyncio.timeout(openai.start_timeout_s):
                while not await self.health():  # noqa: ASYNC110 - another program sets no event
                    await asyncio.sleep(self._config.hang.look_s)
        except TimeoutError as error:
            raise EngineStartError(
                f"no OpenAI-compatible server answers at {openai.url}/v1/models within "
                f"{openai.start_timeout_s:g} s; start it, or set engine.openai.url",
                fault="crashed",
            ) from error
        await self._check_model()
        self.ready = True
        self._guard = asyncio.create_task(self._watch(), name=f"watch:{self._name}")
        self._guard.add_done_callback(self._on_watch_done)

    async def probe(self, golden: Expectations | None = None) -> Probe:
        config = self._config
        question = Question.of(
            config.probe_tokens,
            config.probe_timeout_s,
            prompt=(Message("user", PROMPT),),
            logprobs="logprobs" in self.features,
        )
        seen = await probe(self._name, self.stream, question, self._clock)
        if golden is None:
            return seen
        verdict = await named(self._name, probe_texts(golden, self._said))
        return msgspec.structs.replace(seen, verdict=verdict)

    async def _said(self, prompt: GoldenPrompt, count: int) -> str:
        sampling = Sampling(temperature=0.0)
        request = Generation(prompt=prompt.text, max_tokens=count, sampling=sampling)
        async with asyncio.timeout(self._config.probe_timeout_s):
            return (await collect(self.stream(request)))[0]

    async def health(self) -> bool:
        try:
            status, _ = await self._call("GET", "/v1/models")
        except EngineError:
            return False
        return status == 200

    def stream(self, request: Generation) -> EventStream:
        stream = EventStream(partial(self._open, request), refusal, self._what_ended)
        self._streams.add(stream)
        return stream

    async def tokenize(
        self,
        text: str,  # noqa: ARG002 - the interface's
        *,
        add_special: bool = False,  # noqa: ARG002
        parse_special: bool = False,  # noqa: ARG002
    ) -> list[int]:
        raise TokensUnsupportedError("this engine gives no token ids")

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        if "embeddings" not in self.features:
            raise EngineRefusedError("this engine gives no embeddings; see engine.openai.features")
        body = msgspec.json.encode({"model": self._served, "input": texts})
        status, answer = await self._call("POST", "/v1/embeddings", body)
        if status != 200:
            raise refusal(status, answer)
        return embeddings(answer)

    async def slots(self) -> Slots:
        """Our own account: how many of ours run there."""
        return Slots(self.capacity, sum(stream.running for stream in self._streams))

    async def aclose(self) -> None:
        self.ready = False
        if self._guard is not None:
            self._guard.cancel()
            await asyncio.gather(self._guard, return_exceptions=True)
        for stream in tuple(self._streams):
            await stream.aclose()
        if not self.dead.done():
            self.dead.set_result("closed")

    async def _open(self, request: Generation, receiver: Receiver) -> tuple[Exchange, Decode]:
        path, body, decode = compose(request, self._served, takes_ids=False)
        if not self.ready:
            raise EngineUnavailableError(f"{self._name} does not answer now")
        message = self._encode("POST", path, body)
        url, bounds = self._openai.url, self._config.exchange
        return await open_exchange(url, message, receiver, bounds, tls=self._tls), decode

    async def _call(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        message = self._encode(method, path, body)
        return await call(self._openai.url, message, self._config.exchange, tls=self._tls)

    def _encode(self, method: str, path: str, body: bytes = b"") -> bytes:
        return encode_request(
            method, self._prefix + path, key=self._key, body=body, host=self._host
        )

    async def _check_model(self) -> None:
        """Raises ``EngineStartError`` where the server does not have the model."""
        status, answer = await self._call("GET", "/v1/models")
        names = [card.id for card in decode_answer(answer, _Models).data] if status == 200 else []
        # Ollama adds the tag that it would take by default.
        if not {self._served, f"{self._served}:latest"} & set(names):
            known = ", ".join(names[:8])[:300] or "none"
            raise EngineStartError(
                f"{self._openai.url} has no model {self._served}; it has {known}. "
                "Load it there, or set engine.openai.served_model",
                fault="bad_file",
            )

    async def _what_ended(self, why: str) -> EngineError | None:
        """Whether the server is still there, after an answer that broke off."""
        try:
            async with asyncio.timeout(self._config.hang.look_s):
                alive = await self.health()
        except TimeoutError:
            alive = False
        if alive:
            return None
        self._lost("crashed", f"it is gone ({why})")
        return failed("crashed", f"{self._name}: it is gone ({why})")

    async def _watch(self) -> None:
        config = self._config.hang
        watch = HangWatch(config, self._clock())
        while True:
            began_s = self._clock()
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(self._bounded_health())
                group.create_task(asyncio.sleep(config.look_s))
            now_s = self._clock()
            if asked.result():
                watch.answered(began_s)
                # What was asked before it was lost says nothing of now.
                self.ready = self.ready or began_s > self._lost_at_s
            why = watch.look(now_s, running=self._running(), heard=self._heard())
            if why:
                watch = HangWatch(config, now_s)
                self._lost("hung", why)

    async def _bounded_health(self) -> bool:
        """Health, no later than the watch has to look again."""
        try:
            async with asyncio.timeout(self._config.hang.look_s):
                return await self.health()
        except TimeoutError:
            return False

    def _lost(self, fault: Fault, why: str) -> None:
        """It does not answer: take nothing new, and let nothing wait for it."""
        if self.ready:
            _log.error("engine lost", engine=self._name, fault=fault, why=why)
            self._tally.endings[fault or "crashed"] += 1
        self.ready, self.fault = False, fault
        self._lost_at_s = self._clock()
        for stream in tuple(self._streams):
            if stream.running:
                stream.break_off(failed(fault, f"{self._name}: {why}"))

    def _running(self) -> bool:
        return any(stream.waiting for stream in self._streams)

    def _heard(self) -> bool:
        heard = False
        for stream in self._streams:
            heard = heard or stream.heard
            stream.heard = False
        return heard

    def _on_watch_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            _log.error("watch died", engine=self._name, exc_info=task.exception())
            self.ready = False
