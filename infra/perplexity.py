"""The perplexity of a model on a small text: how surprised it is by plain English.

llama.cpp runs in a process of its own, as on a worker. Its server has no request for the
probabilities of a prompt's tokens, so each token is asked for in turn: the text before it is the
prompt, one token is generated, and a bias on exactly that token makes it the greedy choice. The
log-probability that the server reports is the model's own, before any bias (llama.cpp
``tools/server/README.md``: ``n_probs`` without ``post_sampling_probs``; the tests compare it with
the whole distribution). The prompt is cached, so each step costs one token.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.engine import EngineBrokenError, EngineError, Generation, Sampling, Token
from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from infra.parity import engine_is_installed

TEXT = Path(__file__).with_name("perplexity.txt")
_BIAS = 1_000.0
_SPARE_TOKENS = 8
_MIN_TOKENS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PerplexityConfig:
    """Bounds of a measurement."""

    max_tokens: int = 512
    """Of the text; the rest is not read."""
    timeout_s: float = 600.0
    """For one file, loading included."""


@dataclass(frozen=True, slots=True)
class Perplexity:
    """exp of the mean negative log-probability of ``tokens`` tokens; or why there is none."""

    value: float | None
    tokens: int = 0
    seconds: float = 0.0
    why: str = ""


def perplexity(
    file: Path, context_tokens: int, *, config: PerplexityConfig | None = None
) -> Perplexity:
    """Measure a model on the text that is shipped with this package. Blocking; not for an event
    loop's thread.

    Args:
        file: a GGUF file that our own reader has accepted.
        context_tokens: what the model was trained for; no more of the text is read.
    """
    if not engine_is_installed():
        return Perplexity(None, why="no engine is installed (pip install 'headwater[worker]')")
    config = config or PerplexityConfig()
    limit = min(config.max_tokens, context_tokens)
    began = time.monotonic()
    try:
        logprobs = asyncio.run(_measure(file, TEXT.read_text(), limit, config.timeout_s))
    except TimeoutError:
        return Perplexity(None, why=f"not measured within {config.timeout_s:g} s")
    except EngineError as error:
        return Perplexity(None, why=error.message)
    return Perplexity(mean_perplexity(logprobs), len(logprobs), time.monotonic() - began)


def mean_perplexity(logprobs: Sequence[float]) -> float:
    """exp of the negative mean of natural-log probabilities."""
    return math.exp(-math.fsum(logprobs) / len(logprobs))


async def token_logprobs(engine: LlamaCpp, ids: Sequence[int]) -> list[float]:
    """The log-probability of every token but the first, given those before it.

    Raises:
        EngineError: the engine failed, or did not give exactly one number for a token.
    """
    return [await _logprob(engine, tuple(ids[:at]), ids[at]) for at in range(1, len(ids))]


async def _measure(file: Path, text: str, limit: int, timeout_s: float) -> list[float]:
    config = LlamaCppConfig(
        slots=1,
        context_tokens=limit + _SPARE_TOKENS,
        gpu_layers=0,
        prompt_cache_mib=0,
        warmup=False,
    )
    engine = LlamaCpp(file, model="perplexity", revision="0" * 64, config=config)
    try:
        async with asyncio.timeout(timeout_s):
            await engine.start()
            ids = (await engine.tokenize(text, add_special=True))[:limit]
            if len(ids) < _MIN_TOKENS:
                raise EngineBrokenError(f"the text is {len(ids)} tokens; nothing can be measured")
            return await token_logprobs(engine, ids)
    finally:
        await engine.aclose()


async def _logprob(engine: LlamaCpp, before: tuple[int, ...], token: int) -> float:
    sampling = Sampling(temperature=0.0, logprobs=True, logit_bias=((token, _BIAS),))
    found: list[float] = []
    stream = engine.stream(Generation(prompt=before, max_tokens=1, sampling=sampling))
    try:
        async for batch in stream:
            for event in batch:
                if isinstance(event, Token):
                    found.extend(entry.logprob for entry in event.logprobs or [])
    finally:
        await stream.aclose()
    if len(found) != 1 or not math.isfinite(found[0]):
        raise EngineBrokenError(f"the engine gave {found} as the log-probability of one token")
    return found[0]
