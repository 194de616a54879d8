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
from gpu_worker.faults import Tally
from gpu_worker.standby import Standby
from gpu_worker.supervisor import Launch, SupervisorConfig

ARGV = (sys.executable, "-P", str(Path(llamacpp_process.__file__)))
"""By its file and with -P, so it starts from any working directory and nothing in ours shadows the
standard library."""
ENVIRON = {"GGML_NO_BACKTRACE": "1"}
"""A failed assertion would otherwise first run a debugger over the process."""
__all__ = ["ARGV", "ENVIRON", "LlamaCpp", "LlamaCppConfig", "default_threads"]


class LlamaCpp(NativeEngine):
    """An engine (``gpu_worker.engine.Engine``). Needs a running event loop.

    Args:
        path: the GGUF file, or the first of a split one.
        standby: where a child may wait that has started already.
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
        supervisor: SupervisorConfig | None = None,
        standby: Standby | None = None,
        clock: Callable[[], float] = time.monotonic,
        tally: Tally | None = None,
    ) -> None:
        self._standby = standby
        super().__init__(
            "llama.cpp",
            path,
            model=model,
            revision=revision,
            config=config or LlamaCppConfig(),
            supervisor=supervisor,
            clock=clock,
            tally=tally,
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
            mmap=config.mmap,
        )
        return Launch(
            argv=ARGV,
            first_line=msgspec.json.encode(settings),
            environ=dict(ENVIRON),
            spares=self._standby,
        )
