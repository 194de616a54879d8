"""gpu_worker.engines.native: what its two programs have in common; test_llamacpp asks it more."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable

import pytest

from gpu_worker.engine import (
    ContextLengthError,
    EngineRefusedError,
    EngineUnavailableError,
    Generation,
    Slots,
    collect,
)
from gpu_worker.engines.native import NativeEngine, default_threads

StartChild = Callable[..., Awaitable[NativeEngine]]
both = pytest.mark.parametrize("kind", ["llamacpp", "llama-server"])


def test_a_core_is_left_to_the_worker_where_there_are_several() -> None:
    cores = len(os.sched_getaffinity(0))
    assert default_threads() == max(1, cores - 1)


@both
async def test_it_knows_its_slots_and_what_it_cannot_do(start_child: StartChild, kind: str) -> None:
    engine = await start_child(kind, slots=3)
    assert engine.capacity == 3
    assert await engine.slots() == Slots(3, 0)
    # The template of this model shows no tools.
    assert engine.features == {"logprobs", "json_schema", "token_ids"}
    with pytest.raises(EngineRefusedError, match=r"engine\.embeddings"):
        await engine.embed(("x",))


@both
async def test_a_text_that_is_too_long_gets_no_vector(start_child: StartChild, kind: str) -> None:
    engine = await start_child(kind, embeddings=True, batch_tokens=64)
    with pytest.raises(ContextLengthError, match="65 tokens; at most 64"):
        await engine.embed(("x" * 65,))


@both
async def test_a_closed_engine_says_so(start_child: StartChild, kind: str) -> None:
    engine = await start_child(kind)
    await engine.aclose()
    assert (engine.ready, engine.base_url, await engine.health()) == (False, "", False)
    with pytest.raises(EngineUnavailableError, match="closed"):
        await collect(engine.stream(Generation(prompt=(1,))))
