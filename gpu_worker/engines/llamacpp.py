"""llama.cpp through the ``xllamacpp`` wheel, in a process of its own: the engine by default."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from gpu_worker.engines import llamacpp_process
from gpu_worker.engines.native import LlamaCppConfig, NativeEngine, default_threads
from gpu_worker.supervisor import Launch, SupervisorConfig

__all__ = ["LlamaCpp", "LlamaCppConfig", "default_threads"]


class LlamaCpp(NativeEngine):
    """An engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        path: the GGUF file, or the first of a split one.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        revision: str,
        config: LlamaCppConfig | None = None,
        supervisor: SupervisorConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(
            "llama.cpp",
            path,
            model=model,
            revision=revision,
            config=config or LlamaCppConfig(),
            supervisor=supervisor,
            clock=clock,
        )

    def _launch(self) -> Launch:
        config = self._config
        settings = llamacpp_process.Settings(
            model_path=str(self.path),
            model_alias=self.model,
            key=self._renew_key(),
            parent_pid=os.getpid(),
            slots=config.slots,
            context_tokens=config.context_tokens,
            threads=self._threads(),
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
