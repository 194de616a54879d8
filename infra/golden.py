"""The golden file of a publish: each variant of a model, asked in the real llama.cpp on this
machine what its prompts continue with.

The engine runs in a process of its own, without a GPU, with one slot and no cache of prompts, and
answers one prompt after the other; log-probabilities are rounded. So the same file gives the same
golden file, and with it the same revision, on a machine of the same kind. (llama.cpp's kernels for
another kind of processor add in another order: there the last digit may differ, and with it the
name of the revision.) It was seen to give the same bytes whatever the number of threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.engine import EngineError
from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from gpu_worker.engines.llamacpp_golden import golden_tokens
from infra.parity import engine_is_installed
from origin.errors import PublishError
from wire.errors import ConfigError
from wire.golden import (
    MAX_PROMPT_TOKENS,
    MAX_PROMPTS,
    Answer,
    Golden,
    GoldenInvalidError,
    GoldenPrompt,
    build,
    encode,
)

PROMPTS = (
    "The capital of France is",
    "1, 2, 3, 4, 5, 6,",
    "def add(a, b):\n    return",
    "Es war einmal ein kleines Mädchen, das lebte am Rande eines großen Waldes bei seiner "
    "Großmutter. Jeden Morgen ging es hinaus, um Beeren zu sammeln, und",
)
"""Plain text, no chat: facts, counting, code, and a longer one in another language."""
_DIGITS = 3
_MAX_FILE_BYTES = 256 * 1024
_SPARE_TOKENS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenConfig:
    """Bounds of making a golden file."""

    answer_tokens: int = 8
    """For each prompt. With four prompts and four slots a worker decodes eight times."""
    max_bytes: int = 4 * 10**9
    """Without being told to, no larger variant is loaded: publishing needs no large machine."""
    timeout_s: float = 900.0
    """For one variant, loading included."""


def read_prompts(file: Path) -> tuple[str, ...]:
    """Prompts of a publisher's own, one on each line that is not empty.

    Raises:
        ConfigError: it cannot be read, is no UTF-8, holds none, or too many.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
        lines = data.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the golden prompts {file}: {error}") from error
    prompts = tuple(line for line in lines if line.strip())
    if len(data) > _MAX_FILE_BYTES or not 0 < len(prompts) <= MAX_PROMPTS:
        raise ConfigError(
            f"{file} must hold 1 to {MAX_PROMPTS} prompts, one on a line, in at most "
            f"{_MAX_FILE_BYTES} B"
        )
    return prompts


def golden_maker() -> GoldenMaker | None:
    """What asks a model where an engine is installed."""
    return GoldenMaker() if engine_is_installed() else None


class GoldenMaker:
    """A ``origin.publish.GoldenMaker``: blocking, not for an event loop's thread.

    Args:
        prompts: plain text.
        required: somebody asked for it. Otherwise a model that is too large to be loaded just so,
            or that llama.cpp cannot ask (it may be for another engine, or give embeddings only),
            is published without, and ``note`` says why.
    """

    def __init__(
        self,
        prompts: Sequence[str] = PROMPTS,
        *,
        required: bool = False,
        config: GoldenConfig | None = None,
    ) -> None:
        self._prompts = tuple(prompts)
        self._required = required
        self._config = config or GoldenConfig()
        self.note = ""
        """Why no golden file was made, where none was."""

    def __call__(self, models: Mapping[str, Sequence[Path]]) -> bytes | None:
        """The bytes of ``golden.json`` for these variants, by the parts of each; None where there
        is only a note.

        Raises:
            PublishError: it is required, and a prompt is too long, or there was no answer in time.
            EngineError: it is required, and llama.cpp could not load a variant, or not answer.
            GoldenInvalidError: it is required, and there is nothing in the answers.
        """
        largest = max(sum(part.stat().st_size for part in parts) for parts in models.values())
        if largest > self._config.max_bytes and not self._required:
            why = f"a variant has {largest} B, over {self._config.max_bytes} B"
            self.note = f"no golden answers were made: {why}; --golden makes them all the same"
            return None
        first = {variant: parts[0] for variant, parts in models.items()}
        try:
            return encode(asyncio.run(self._make(first)))
        except (PublishError, EngineError, GoldenInvalidError) as error:
            if self._required:
                raise
            self.note = f"no golden answers were made: {error.message}"
            return None

    async def _make(self, models: Mapping[str, Path]) -> Golden:
        prompts: tuple[GoldenPrompt, ...] = ()
        answers: dict[str, tuple[Answer, ...]] = {}
        for variant, file in models.items():
            try:
                async with asyncio.timeout(self._config.timeout_s):
                    prompts, answers[variant] = await self._asked(file, prompts)
            except TimeoutError as error:
                limit = f"{self._config.timeout_s:g} s"
                raise PublishError(
                    f"{file.name} gave none within {limit}; --no-golden leaves them out"
                ) from error
        return build(prompts, answers)

    async def _asked(
        self, file: Path, prompts: tuple[GoldenPrompt, ...]
    ) -> tuple[tuple[GoldenPrompt, ...], tuple[Answer, ...]]:
        """The prompts as ids, made by the first variant (all share one tokenizer), and what this
        variant answers."""
        count = self._config.answer_tokens
        config = LlamaCppConfig(
            slots=1,
            context_tokens=MAX_PROMPT_TOKENS + count + _SPARE_TOKENS,
            gpu_layers=0,
            prompt_cache_mib=0,
            cache_prompt=False,
            warmup=False,
            probe_timeout_s=self._config.timeout_s,
        )
        engine = LlamaCpp(file, model="golden", revision="0" * 64, config=config)
        try:
            await engine.start()
            if not prompts:
                prompts = tuple([await _prompt(engine, text) for text in self._prompts])
            raw = [await engine.ask_golden(prompt.ids, count) for prompt in prompts]
        finally:
            await engine.aclose()
        return prompts, tuple(golden_tokens(answer, _DIGITS) for answer in raw)


async def _prompt(engine: LlamaCpp, text: str) -> GoldenPrompt:
    """Nothing in the text is read as a control token, as for any text from outside."""
    ids = await engine.tokenize(text, add_special=True)
    if len(ids) > MAX_PROMPT_TOKENS:
        raise PublishError(
            f"a golden prompt has {len(ids)} tokens; at most {MAX_PROMPT_TOKENS} are taken"
        )
    return GoldenPrompt(ids=tuple(ids), text=text)
