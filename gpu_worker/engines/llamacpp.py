"""llama.cpp through the ``xllamacpp`` wheel, in a process of its own.

Token ids go to llama.cpp's native ``/completion``, which takes ids, answers with the least JSON per
token and holds back bytes until they are whole characters. Messages go to ``/v1/chat/completions``,
because there the engine renders the template. Both stream; closing the connection frees the slot.

What was seen of the server (llama.cpp of 2026-10): a closed connection is noticed at the next write
(so within a token, or within a batch of the prompt, because prompt progress is asked for) and
otherwise by a poll once a second; a prompt that is too long is refused before the stream begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from gpu_worker.engine import (
    ContextLengthError,
    Embeddings,
    EngineError,
    EngineRefusedError,
    EngineStartError,
    EngineUnavailableError,
    Finish,
    Generation,
    Probe,
    ProbeFailedError,
    Sampling,
    Slots,
    Token,
)
from gpu_worker.engines import llamacpp_golden, llamacpp_process
from gpu_worker.engines.event_stream import Decode, EventStream
from gpu_worker.engines.exchange import (
    Exchange,
    ExchangeConfig,
    Receiver,
    call,
    encode_request,
    open_exchange,
)
from gpu_worker.engines.llamacpp_api import (
    SlotState,
    Tokenized,
    compose,
    decode_answer,
    embeddings,
    refusal,
)
from gpu_worker.engines.llamacpp_tools import Props, features
from gpu_worker.golden_probe import probe_ids
from gpu_worker.supervisor import EngineProcess, Launch, SupervisorConfig
from wire.chat import TokenLogprob
from wire.golden import Expectations, SeenToken

_PROBE_PROMPT = "The capital of France is"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppConfig:
    """How to load a model. ``gpu_layers`` -1 puts all layers on the GPU where there is one."""

    slots: int = 4
    context_tokens: int = 4_096
    """Prompt and answer together, for each slot."""
    threads: int = 0
    """0: the cores we may use, less one where there are several. llama.cpp's threads spin at every
    barrier, so a worker process that takes one of their cores makes all of them wait."""
    gpu_layers: int = -1
    batch_tokens: int = 512
    """Prompt tokens between two looks at whether the client is still there."""
    prompt_cache_mib: int = 512
    """Main memory for prompts of idle slots."""
    cache_prompt: bool = True
    warmup: bool = True
    embeddings: bool = False
    """Whether it gives embeddings besides answers. It costs every prompt something: llama.cpp then
    computes an output for each of its tokens."""
    verbosity: int = 2
    """llama.cpp's: 1 errors, 2 warnings, 3 all it does. From 4 on it logs prompts."""
    probe_tokens: int = 8
    probe_timeout_s: float = 60.0
    exchange: ExchangeConfig = field(default_factory=ExchangeConfig)


class LlamaCpp:
    """An engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        model_path: the GGUF file, or the first of a split one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        model_path: Path,
        *,
        model: str,
        revision: str,
        config: LlamaCppConfig | None = None,
        supervisor: SupervisorConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.revision = revision
        self._path = model_path
        self._config = config or LlamaCppConfig()
        self._clock = clock
        self._key = ""
        self._address = ""
        self._features: frozenset[str] = frozenset()
        self.process = EngineProcess(
            f"llama.cpp {model}@{revision[:12]}",
            self._launch,
            supervisor or SupervisorConfig(),
            clock=clock,
            on_ready=self._on_ready,
        )

    @property
    def base_url(self) -> str:
        return self._address if self.ready else ""

    @property
    def capacity(self) -> int:
        return self._config.slots

    @property
    def ready(self) -> bool:
        return self.process.state == "up"

    @property
    def dead(self) -> asyncio.Future[str]:
        return self.process.dead

    @property
    def features(self) -> frozenset[str]:
        return self._features

    async def start(self) -> None:
        await self.process.start()
        with contextlib.suppress(EngineError):
            # A template that cannot show tools would be asked with them and drop them silently.
            props = decode_answer(await self._checked("GET", "/props"), Props)
            self._features = features(props, embeddings=self._config.embeddings)

    async def aclose(self) -> None:
        await self.process.aclose()

    async def health(self) -> bool:
        try:
            status, _ = await self._call("GET", "/health")
        except EngineError:
            return False
        return status == 200

    async def slots(self) -> Slots:
        states = decode_answer(await self._checked("GET", "/slots"), list[SlotState])
        return Slots(len(states), sum(state.is_processing for state in states))

    async def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = False
    ) -> list[int]:
        question = {"content": text, "add_special": add_special, "parse_special": parse_special}
        answer = await self._checked("POST", "/tokenize", msgspec.json.encode(question))
        return decode_answer(answer, Tokenized).tokens

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:
        if not self._config.embeddings:
            raise EngineRefusedError("this engine gives no embeddings; see engine.embeddings")
        # As ids, because in text llama.cpp would read control tokens.
        prompts = [await self.tokenize(text, add_special=True) for text in texts]
        longest, most = max(map(len, prompts)), self._config.batch_tokens
        most = min(most, self._config.context_tokens)
        if longest > most:
            raise ContextLengthError(f"a text has {longest} tokens; at most {most} are taken")
        body = msgspec.json.encode({"input": prompts})
        return embeddings(await self._checked("POST", "/v1/embeddings", body))

    async def probe(self, golden: Expectations | None = None) -> Probe:
        try:
            async with asyncio.timeout(self._config.probe_timeout_s):
                # Beside golden prompts one token is enough: the time to it is told.
                seen = await self._probe(1 if golden else self._config.probe_tokens)
            if golden is None:
                return seen
            verdict = await probe_ids(golden, self.continued)
            return msgspec.structs.replace(seen, verdict=verdict)
        except TimeoutError as error:
            raise ProbeFailedError(f"{self.process.name}: probe: no answer in time") from error
        except EngineError as error:
            raise ProbeFailedError(f"{self.process.name}: probe: {error.message}") from error

    def stream(self, request: Generation) -> EventStream:
        return EventStream(partial(self._open, request), refusal)

    async def continued(self, prompt: tuple[int, ...], max_tokens: int) -> tuple[SeenToken, ...]:
        """What it says greedily after ``prompt``, and what else was likely at each place.

        Raises:
            EngineError: it failed, or did not answer within ``probe_timeout_s``.
        """
        return llamacpp_golden.seen_tokens(await self.ask_golden(prompt, max_tokens))

    async def ask_golden(self, prompt: tuple[int, ...], max_tokens: int) -> bytes:
        """The same as llama.cpp says it."""
        body = llamacpp_golden.question(prompt, max_tokens)
        path, patience = llamacpp_golden.PATH, self._config.probe_timeout_s
        exchange = replace(self._config.exchange, call_timeout_s=patience)
        return await self._checked("POST", path, body, exchange)

    async def _probe(self, count: int) -> Probe:
        """Greedy, with log-probabilities: broken weights give NaN, which is null in JSON."""
        sampling = Sampling(temperature=0.0, logprobs=True)
        request = Generation(prompt=_PROBE_PROMPT, max_tokens=count, sampling=sampling)
        began, first_s, text = self._clock(), 0.0, ""
        stream = self.stream(request)
        try:
            async for batch in stream:
                first_s = first_s or self._clock() - began
                for event in batch:
                    if isinstance(event, Token):
                        text += event.text
                        _check_logprobs(event.logprobs or [])
                    elif isinstance(event, Finish) and event.completion_tokens:
                        total_s = self._clock() - began
                        return Probe(text, event.completion_tokens, first_s, total_s)
        finally:
            await stream.aclose()
        raise ProbeFailedError("it answered with no tokens")

    async def _open(self, request: Generation, receiver: Receiver) -> tuple[Exchange, Decode]:
        if isinstance(request.prompt, str):
            ids = await self.tokenize(request.prompt, add_special=True)
            request = msgspec.structs.replace(request, prompt=tuple(ids))
        path, body, decode = compose(request, cache_prompt=self._config.cache_prompt)
        message = encode_request("POST", path, key=self._key, body=body)
        return await open_exchange(self._up(), message, receiver, self._config.exchange), decode

    def _launch(self) -> Launch:
        self._key = secrets.token_urlsafe(32)
        config = self._config
        settings = llamacpp_process.Settings(
            model_path=str(self._path),
            model_alias=self.model,
            key=self._key,
            parent_pid=os.getpid(),
            slots=config.slots,
            context_tokens=config.context_tokens,
            threads=config.threads or default_threads(),
            gpu_layers=config.gpu_layers,
            batch_tokens=config.batch_tokens,
            prompt_cache_mib=config.prompt_cache_mib,
            cache_prompt=config.cache_prompt,
            warmup=config.warmup,
            embeddings=config.embeddings,
            verbosity=config.verbosity,
        )
        # By its file and with -P, so it starts from any working directory and nothing in ours
        # shadows the standard library.
        argv = (sys.executable, "-P", str(Path(llamacpp_process.__file__)))
        # A failed assertion would otherwise first run a debugger over the process.
        environ = {"GGML_NO_BACKTRACE": "1"}
        return Launch(argv=argv, first_line=msgspec.json.encode(settings), environ=environ)

    def _on_ready(self, line: dict[str, Any]) -> None:
        address = line.get("address")
        if not isinstance(address, str) or not address.startswith("http://127.0.0.1:"):
            raise EngineStartError(f"{self.process.name} named no address")
        self._address = address

    def _up(self) -> str:
        if not self.ready:
            raise EngineUnavailableError(f"{self.process.name} is {self.process.state}")
        return self._address

    async def _call(
        self, method: str, path: str, body: bytes = b"", exchange: ExchangeConfig | None = None
    ) -> tuple[int, bytes]:
        request = encode_request(method, path, key=self._key, body=body)
        return await call(self._up(), request, exchange or self._config.exchange)

    async def _checked(
        self, method: str, path: str, body: bytes = b"", exchange: ExchangeConfig | None = None
    ) -> bytes:
        status, answer = await self._call(method, path, body, exchange)
        if status != 200:
            raise refusal(status, answer)
        return answer


def default_threads() -> int:
    """The cores we may use, less one for the worker itself where there are several."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) - 1)


def _check_logprobs(logprobs: list[TokenLogprob]) -> None:
    """Raise unless these are logarithms of probabilities (a little over 0 is rounding)."""
    for entry in logprobs:
        if not (math.isfinite(entry.logprob) and entry.logprob <= 1e-3):
            raise ProbeFailedError(f"the probe gave a log-probability of {entry.logprob}")
