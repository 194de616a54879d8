"""vLLM (``vllm serve``), for folders of safetensors, AWQ and other quantizations among them.

Token ids go to ``/v1/completions``, whose ``prompt`` takes them; messages to
``/v1/chat/completions``. vLLM stops a generation when its connection closes. Flags and environment
as of vLLM 0.12 to 0.28 (``vllm serve --help``; ``docs/configuration/env_vars``).

Its key is in its environment. It guards ``/v1`` only (vLLM's security notes): other processes on
this machine could ask through ``/invocations``, so vLLM belongs on a machine of its own. And in
plain text vLLM reads control tokens, which it cannot be told not to do; edges send ids.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gpu_worker.engine import (
    Embeddings,
    EngineError,
    EngineRefusedError,
    Generation,
    Slots,
)
from gpu_worker.engines.event_stream import Decode
from gpu_worker.engines.exchange import Exchange, Receiver, encode_request, open_exchange
from gpu_worker.engines.guarded import guarded
from gpu_worker.engines.llamacpp_api import Tokenized, decode_answer
from gpu_worker.engines.openai_api import compose, refusal
from gpu_worker.engines.supervised import ChildConfig, SupervisedEngine
from gpu_worker.faults import Tally
from gpu_worker.supervisor import Launch, SupervisorConfig

PROGRAM = "vllm"
_RUNNING = re.compile(rb"^vllm:num_requests_running(?:\{[^\n]*\})? ([0-9.e+]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmConfig:
    """The program, and what else it is told."""

    program: str = PROGRAM
    """A path, or a name on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further ones, after ours: ``("--tensor-parallel-size", "2")``. No secrets: anybody can read
    them."""
    tool_parser: str = ""
    """What reads calls of tools in the model's text (``hermes``, ``llama3_json``, …); without one
    the engine has no tools."""


class Vllm(SupervisedEngine):
    """An engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        path: the folder with ``config.json`` and the weights.
        clock: monotonic seconds.
        tally: as of ``SupervisedEngine``.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        revision: str,
        config: ChildConfig,
        vllm: VllmConfig | None = None,
        supervisor: SupervisorConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self._config = config
        self._vllm = vllm or VllmConfig()
        super().__init__(
            "vLLM",
            path,
            model=model,
            revision=revision,
            config=config,
            supervisor=supervisor,
            clock=clock,
            tally=tally,
        )

    async def slots(self) -> Slots:
        counts = [
            float(found) for found in _RUNNING.findall(await self._checked("GET", "/metrics"))
        ]
        return Slots(self.capacity, int(sum(counts)))

    async def tokenize(
        self,
        text: str,
        *,
        add_special: bool = False,
        parse_special: bool = False,  # noqa: ARG002 - the interface's
    ) -> list[int]:
        """Token ids; control tokens in the text are read whatever ``parse_special`` says."""
        question = {"model": self.model, "prompt": text, "add_special_tokens": add_special}
        answer = await self._checked("POST", "/tokenize", msgspec.json.encode(question))
        return decode_answer(answer, Tokenized).tokens

    async def embed(self, texts: tuple[str, ...]) -> Embeddings:  # noqa: ARG002 - the interface's
        raise EngineRefusedError("this engine gives no embeddings")

    async def _greet(self) -> None:
        names = {"logprobs", "json_schema"}
        self.features = frozenset(names | {"tools"} if self._vllm.tool_parser else names)

    async def _open(self, request: Generation, receiver: Receiver) -> tuple[Exchange, Decode]:
        config = self._config
        path, body, decode = compose(
            request, self.model, takes_ids=True, context_tokens=config.context_tokens
        )
        message = encode_request("POST", path, key=self._key, body=body)
        return await open_exchange(self._up(), message, receiver, config.exchange), decode

    def _refusal(self, status: int, answer: bytes) -> EngineError:
        return refusal(status, answer)

    def _launch(self) -> Launch:
        host, port = self._choose_address()
        environ = {
            "VLLM_API_KEY": self._renew_key(),
            # What it loads is on this disk, and nobody is told of it.
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
        }
        argv = (self._vllm.program, "serve", str(self.path), "--host", host, "--port", port)
        return Launch(
            argv=guarded((*argv, *self._arguments(), *self._vllm.arguments)),
            environ=environ,
            answers=self._answers,
        )

    def _arguments(self) -> tuple[str, ...]:
        config, parser = self._config, self._vllm.tool_parser
        tools = ("--enable-auto-tool-choice", "--tool-call-parser", parser) if parser else ()
        return (
            *("--served-model-name", self.model),
            *("--max-model-len", str(config.context_tokens)),
            *("--max-num-seqs", str(config.slots)),
            # Pickles are never loaded, whatever lies beside the weights.
            *("--load-format", "safetensors"),
            # Sampling is the request's, not a file's that nobody looks at.
            *("--generation-config", "vllm"),
            "--disable-uvicorn-access-log",
            *tools,
        )
