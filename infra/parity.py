"""llama.cpp as the oracle of a publish: the edge's tokenizer must give the very ids that it gives.

The engine runs in a process of its own, as on a worker, with as little context as it takes. It is
started by the first question, which comes after our own bounded reader has accepted the file: no
engine sees a file that was not checked.
"""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from types import TracebackType

from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from wire.errors import ConfigError

_CONTEXT_TOKENS = 512


def engine_is_installed() -> bool:
    """Whether llama.cpp can be asked here (extra ``worker``)."""
    return importlib.util.find_spec("xllamacpp") is not None


class EngineOracle:
    """A ``ParityOracle``, as long as the context lasts. Blocking; not for an event loop's thread.

    Raises:
        ConfigError: no engine is installed.
        EngineStartError: at the first question, where the engine cannot load the file.
    """

    def __init__(self, file: Path, model: str) -> None:
        if not engine_is_installed():
            raise ConfigError(
                "no engine is installed to check the tokenizer with: "
                "pip install 'headwater[worker]', or give --no-parity"
            )
        self._file = file
        self._model = model
        self._runner = asyncio.Runner()
        self._engine: LlamaCpp | None = None

    def __enter__(self) -> EngineOracle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._runner:
            if self._engine is not None:
                self._runner.run(self._engine.aclose())

    def __call__(self, text: str) -> list[int]:
        """The ids of ``text``, special tokens in it counting, without BOS and EOS."""
        return self._runner.run(self._ids(text))

    async def _ids(self, text: str) -> list[int]:
        if self._engine is None:
            config = LlamaCppConfig(
                slots=1,
                context_tokens=_CONTEXT_TOKENS,
                gpu_layers=0,
                prompt_cache_mib=0,
                warmup=False,
            )
            engine = LlamaCpp(self._file, model=self._model, revision="0" * 64, config=config)
            await engine.start()
            self._engine = engine
        return await self._engine.tokenize(text, parse_special=True)
