"""llama.cpp's own program, ``llama-server``: a build of one's own, with any of its backends.

It speaks what the wheel's server speaks (``native.py``), so the two differ only in how they are
started. Flags as of ``llama-server --help`` of build 10434 (2026-08). Its key is in its
environment, where other users of the machine cannot read it; command lines they can.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.engines.guarded import guarded
from gpu_worker.engines.native import LlamaCppConfig, NativeEngine
from gpu_worker.faults import Tally
from gpu_worker.supervisor import Launch, SupervisorConfig

PROGRAM = "llama-server"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaServerConfig:
    """The program, and what else it is told."""

    program: str = PROGRAM
    """A path, or a name on the PATH."""
    arguments: tuple[str, ...] = ()
    """Further ones, after ours: ``("--flash-attn", "on")``. No secrets: anybody can read them."""


class LlamaServer(NativeEngine):
    """An engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        path: the GGUF file, or the first of a split one.
        clock: monotonic seconds.
        tally: as of ``SupervisedEngine``.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        revision: str,
        config: LlamaCppConfig | None = None,
        server: LlamaServerConfig | None = None,
        supervisor: SupervisorConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self._server = server or LlamaServerConfig()
        super().__init__(
            "llama-server",
            path,
            model=model,
            revision=revision,
            config=config or LlamaCppConfig(),
            supervisor=supervisor,
            clock=clock,
            tally=tally,
        )

    def _launch(self) -> Launch:
        host, port = self._choose_address()
        environ = {"LLAMA_API_KEY": self._renew_key(), "GGML_NO_BACKTRACE": "1"}
        argv = (self._server.program, "--host", host, "--port", port, *self._arguments())
        return Launch(
            argv=guarded((*argv, *self._server.arguments)), environ=environ, answers=self._answers
        )

    def _arguments(self) -> tuple[str, ...]:
        """How to load the model; what these say is as in ``llamacpp_process``."""
        config = self._config
        threads, layers = str(self._threads()), config.gpu_layers
        values = {
            "--model": str(self.path),
            "--alias": self.model,
            "--parallel": str(config.slots),
            "--ctx-size": str(config.context_tokens * config.slots),
            "--batch-size": str(config.batch_tokens),
            "--ubatch-size": str(min(512, config.batch_tokens)),
            "--gpu-layers": "all" if layers < 0 else str(layers),
            "--fit": "off",
            "--threads": threads,
            "--threads-batch": threads,
            "--threads-http": str(2 * config.slots + 8),
            "--cache-ram": str(config.prompt_cache_mib),
            "--reasoning-format": "none",
            "--cors-origins": "",
            "--verbosity": str(config.verbosity),
            "--log-colors": "off",
        }
        if config.embeddings:
            values["--pooling"] = "last"
        switches = {
            "--no-kv-unified": True,
            "--no-cors-credentials": True,
            "--no-prefill-assistant": True,
            "--no-ui": True,
            "--offline": True,
            "--slots": True,
            "--metrics": True,
            "--no-warmup": not config.warmup,
            "--no-cache-prompt": not config.cache_prompt,
            "--embeddings": config.embeddings,
            "--no-mmap": config.mmap is False,
        }
        pairs = (word for pair in values.items() for word in pair)
        return (*pairs, *(name for name, wanted in switches.items() if wanted))
