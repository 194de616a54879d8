"""What the engines that speak llama.cpp's own HTTP API have in common.

Token ids go to llama.cpp's native ``/completion``, which takes ids, answers with the least JSON per
token and holds back bytes until they are whole characters. Messages go to ``/v1/chat/completions``,
because there the engine renders the template. Both stream; closing the connection frees the slot.

What was seen of the server (llama.cpp of 2026-10): a closed connection is noticed at the next write
(so within a token, or within a batch of the prompt, because prompt progress is asked for) and
otherwise by a poll once a second; a prompt that is too long is refused before the stream begins.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpu_worker.engine import (
    ContextLengthError,
    Embeddings,
    EngineError,
    EngineRefusedError,
    Generation,
    Slots,
)
from gpu_worker.engines import llamacpp_golden
from gpu_worker.engines.event_stream import Decode
from gpu_worker.engines.exchange import Exchange, Receiver, encode_request, open_exchange
from gpu_worker.engines.llamacpp_api import (
    SlotState,
    Tokenized,
    compose,
    decode_answer,
    embeddings,
    refusal,
)
from gpu_worker.engines.llamacpp_tools import Props, features
from gpu_worker.engines.supervised import ChildConfig, SupervisedEngine
from gpu_worker.faults import Tally
from gpu_worker.golden_probe import probe_ids
from gpu_worker.supervisor import SupervisorConfig
from wire.golden import Expectations, SeenToken, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaCppConfig(ChildConfig):
    """How llama.cpp loads a model, in whichever program. ``gpu_layers`` -1 puts all layers on the
    GPU where there is one."""

    threads: int = 0
    """0: the cores we may use, less one where there are several. llama.cpp's threads spin at every
    barrier, so a worker process that takes one of their cores makes all of them wait."""
    gpu_layers: int = -1
    """-1: as many as fit (``headwater fit``); 0: none, all stays in main memory."""
    batch_tokens: int = 512
    """Prompt tokens between two looks at whether the client is still there."""
    prompt_cache_mib: int = 512
    """Main memory for prompts of idle slots."""
    cache_prompt: bool = True
    """Whether what a slot has computed of a prompt is used again for the next one that begins
    alike."""
    warmup: bool = False
    """Whether llama.cpp decodes once before it listens. The probe that every engine has to answer
    does the same, so this would only be done twice."""
    mmap: bool | None = None
    """Whether the file is mapped instead of read; None: as llama.cpp thinks best."""
    embeddings: bool = False
    """Whether it gives embeddings besides answers. It costs every prompt something: llama.cpp then
    computes an output for each of its tokens."""
    verbosity: int = 2
    """llama.cpp's: 1 errors, 2 warnings, 3 all it does. From 4 on it logs prompts."""


class NativeEngine(SupervisedEngine):
    """An engine over llama.cpp's native API; how it is started is its subclass's."""

    def __init__(
        self,
        kind: str,
        path: Path,
        *,
        model: str,
        revision: str,
        config: LlamaCppConfig,
        supervisor: SupervisorConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        super().__init__(
            kind,
            path,
            model=model,
            revision=revision,
            config=config,
            supervisor=supervisor,
            clock=clock,
            tally=tally,
        )
        self._config = config

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

    async def continued(self, prompt: tuple[int, ...], max_tokens: int) -> tuple[SeenToken, ...]:
        """What it says greedily after ``prompt``, and what else was likely at each place.

        Raises:
            EngineError: it failed, or did not answer within ``probe_timeout_s``.
        """
        return llamacpp_golden.seen_tokens(await self.ask_golden(prompt, max_tokens))

    async def ask_golden(self, prompt: tuple[int, ...], max_tokens: int) -> bytes:
        """The same as llama.cpp says it."""
        body = llamacpp_golden.question(prompt, max_tokens)
        path, patience_s = llamacpp_golden.PATH, self._config.probe_timeout_s
        return await self._checked("POST", path, body, patience_s)

    async def _compare(self, golden: Expectations) -> Verdict:
        return await probe_ids(golden, self.continued)

    async def _greet(self) -> None:
        with contextlib.suppress(EngineError):
            # A template that cannot show tools would be asked with them and drop them silently.
            props = decode_answer(await self._checked("GET", "/props"), Props)
            self.features = features(props, embeddings=self._config.embeddings)

    async def _open(self, request: Generation, receiver: Receiver) -> tuple[Exchange, Decode]:
        if isinstance(request.prompt, str):
            ids = await self.tokenize(request.prompt, add_special=True)
            request = msgspec.structs.replace(request, prompt=tuple(ids))
        path, body, decode = compose(request, cache_prompt=self._config.cache_prompt)
        message = encode_request("POST", path, key=self._key, body=body)
        return await open_exchange(self._up(), message, receiver, self._config.exchange), decode

    def _refusal(self, status: int, answer: bytes) -> EngineError:
        return refusal(status, answer)

    def _threads(self) -> int:
        return self._config.threads or default_threads()


def default_threads() -> int:
    """The cores we may use, less one for the worker itself where there are several."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) - 1)
