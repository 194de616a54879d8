from __future__ import annotations

import math
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpu_worker.engine import Generation, Sampling, Token
from gpu_worker.engines.llamacpp import LlamaCpp, LlamaCppConfig
from infra import demo_models
from infra.perplexity import (
    TEXT,
    PerplexityConfig,
    mean_perplexity,
    perplexity,
    token_logprobs,
)

SMALL = demo_models.path("edge-small-r1")
VOCABULARY = 1280
SHORT = PerplexityConfig(max_tokens=40)


@pytest.fixture
async def engine() -> AsyncIterator[LlamaCpp]:
    config = LlamaCppConfig(slots=1, context_tokens=256, gpu_layers=0, warmup=False)
    made = LlamaCpp(SMALL, model="small", revision="0" * 64, config=config)
    await made.start()
    yield made
    await made.aclose()


async def distribution(engine: LlamaCpp, before: list[int]) -> dict[bytes, float]:
    """The log-probabilities of all tokens after ``before``, without any bias."""
    sampling = Sampling(temperature=0.0, logprobs=True, top_logprobs=VOCABULARY)
    stream = engine.stream(Generation(prompt=tuple(before), max_tokens=1, sampling=sampling))
    found: dict[bytes, float] = {}
    async for batch in stream:
        for event in batch:
            if isinstance(event, Token) and event.logprobs:
                top = event.logprobs[0].top_logprobs
                found |= {bytes(entry.bytes or []): entry.logprob for entry in top}
    await stream.aclose()
    return found


async def test_a_forced_tokens_number_is_the_models_own(engine: LlamaCpp) -> None:
    words = [b"The", b" capital", b" of", b" France", b" is"]
    ids = [(await engine.tokenize(word.decode()))[0] for word in words]
    found = await token_logprobs(engine, ids)
    for at, logprob in enumerate(found, start=1):
        whole = await distribution(engine, ids[:at])
        assert math.fsum(map(math.exp, whole.values())) == pytest.approx(
            1, abs=5e-3
        )  # some share their bytes
        assert logprob == pytest.approx(whole[words[at]], abs=1e-3)
    assert max(found) - min(found) > 3  # some were likely, some were not


def test_the_mean_is_geometric() -> None:
    assert mean_perplexity([math.log(1 / 2), math.log(1 / 8)]) == pytest.approx(4)


def test_a_model_is_measured_in_a_process_of_its_own() -> None:
    found = perplexity(SMALL, 2048, config=SHORT)
    assert found.value is not None
    assert found.value > 1
    assert (found.tokens, found.why) == (39, "")
    assert perplexity(SMALL, 10, config=SHORT).tokens == 9


def test_without_a_number_there_is_a_reason(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 64)
    bad = perplexity(tmp_path / "bad.gguf", 2048, config=SHORT)
    assert bad.value is None
    assert "could not load" in bad.why
    late = perplexity(SMALL, 2048, config=PerplexityConfig(timeout_s=0.01))
    assert (late.value, late.why) == (None, "not measured within 0.01 s")
    assert "nothing can be measured" in perplexity(SMALL, 1, config=SHORT).why


def test_the_text_is_plain_and_of_a_useful_length() -> None:
    text = TEXT.read_text()
    assert text.isascii()
    assert 300 < len(text.split()) < 600
