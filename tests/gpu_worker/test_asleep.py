from __future__ import annotations

import pytest

from gpu_worker.asleep import Asleep
from gpu_worker.engine import Engine, EngineUnavailableError, Generation, Slots


async def test_a_sleeper_is_an_engine_that_does_nothing_and_says_so() -> None:
    asleep = Asleep("chat", "a" * 64, frozenset({"tools"}))
    engine: Engine = asleep
    await engine.start()
    assert (engine.ready, engine.capacity, engine.base_url, asleep.fault) == (False, 0, "", "")
    assert engine.features == {"tools"}
    assert (await engine.slots(), await engine.health()) == (Slots(0, 0), False)
    for ask in (engine.probe(), engine.tokenize("x"), engine.embed(("x",))):
        with pytest.raises(EngineUnavailableError, match="chat sleeps"):
            await ask
    with pytest.raises(EngineUnavailableError):
        engine.stream(Generation(prompt="hi"))


async def test_it_is_given_up_once() -> None:
    asleep = Asleep("chat", "a" * 64, frozenset())
    asleep.give_up("out of memory")
    await asleep.aclose()
    await asleep.aclose()
    assert asleep.dead.result() == "out of memory"
