"""llama.cpp as the oracle of a publish: it loads the file, and the edge's tokenizer must agree.

A file that the engine cannot load is not published either. The engine runs in a process of its own,
as on a worker, with as little context as it takes.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from origin.bundle import ParityOracle
from wire.errors import ConfigError

_CONTEXT_TOKENS = 512


def engine_is_installed() -> bool:
    """Whether llama.cpp can be asked here (extra ``worker``)."""
    return importlib.util.find_spec("xllamacpp") is not None


@contextmanager
def engine_oracle(file: Path, model: str) -> Iterator[ParityOracle]:
    """The engine with this file, as long as the context lasts. Blocking; not for an event loop.

    Raises:
        ConfigError: no engine is installed.
        EngineStartError: it cannot load the file.
    """
    if not engine_is_installed():
        raise ConfigError(
            "no engine is installed to check the tokenizer with: pip install 'headwater[worker]', "
            "or give --no-parity"
        )
    config = LlamaCppConfig(
        slots=1, context_tokens=_CONTEXT_TOKENS, gpu_layers=0, prompt_cache_mib=0, warmup=False
    )
    with asyncio.Runner() as runner:
        engine = runner.run(_started(file, model, config))
        try:
            yield partial(_ids, runner, engine)
        finally:
            runner.run(engine.aclose())


def _ids(runner: asyncio.Runner, engine: LlamaCpp, text: str) -> list[int]:
    return runner.run(engine.tokenize(text, parse_special=True))


async def _started(file: Path, model: str, config: LlamaCppConfig) -> LlamaCpp:
    # Made where a loop runs: an engine belongs to one.
    engine = LlamaCpp(file, model=model, revision="0" * 64, config=config)
    await engine.start()
    return engine
