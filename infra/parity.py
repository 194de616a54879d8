"""llama.cpp as the oracle of a publish: the edge's tokenizer must give the very ids that it gives,
and the edge's chat template the very prompts.

The engine runs in a process of its own, as on a worker, with as little context as it takes. It is
started by the first question, which comes after our own bounded reader has accepted the file: no
engine sees a file that was not checked.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from gpu_worker.engines.llamacpp_api import decode_answer
from wire.errors import ConfigError

_CONTEXT_TOKENS = 512


def engine_is_installed() -> bool:
    """Whether llama.cpp can be asked here (extra ``worker``)."""
    return importlib.util.find_spec("xllamacpp") is not None


class EngineOracle:
    """A ``ParityOracle``, and with :meth:`render` a ``RenderOracle``, as long as the context lasts.
    Blocking; not for an event loop's thread.

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
        self._engine: _AskedEngine | None = None

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

    def render(self, turns: Sequence[tuple[str, str]]) -> str | None:
        """The prompt that the engine makes of a conversation of roles and contents, up to where
        the assistant begins; None where the template refuses it.
        """
        return self._runner.run(self._prompt(turns))

    async def _ids(self, text: str) -> list[int]:
        engine = await self._started()
        return await engine.tokenize(text, parse_special=True)

    async def _prompt(self, turns: Sequence[tuple[str, str]]) -> str | None:
        engine = await self._started()
        return await engine.render(turns)

    async def _started(self) -> _AskedEngine:
        if self._engine is None:
            config = LlamaCppConfig(
                slots=1,
                context_tokens=_CONTEXT_TOKENS,
                gpu_layers=0,
                prompt_cache_mib=0,
                warmup=False,
            )
            revision = "0" * 64
            engine = _AskedEngine(self._file, model=self._model, revision=revision, config=config)
            await engine.start()
            self._engine = engine
        return self._engine


class _Rendered(msgspec.Struct, frozen=True):
    """llama.cpp's answer to ``/apply-template``."""

    prompt: str


class _AskedEngine(LlamaCpp):
    """llama.cpp, which also says what its template makes of messages."""

    async def render(self, turns: Sequence[tuple[str, str]]) -> str | None:
        """The prompt; None where the template refuses the messages."""
        messages = [{"role": role, "content": content} for role, content in turns]
        question = msgspec.json.encode({"messages": messages})
        status, answer = await self._call("POST", "/apply-template", question)
        return decode_answer(answer, _Rendered).prompt if status == 200 else None
