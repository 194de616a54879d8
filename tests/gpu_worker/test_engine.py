"""gpu_worker.engine: what holds for any engine, and for the fake that stands for one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from gpu_worker.engine import (
    Engine,
    EngineBrokenError,
    EngineError,
    EngineUnavailableError,
    Generation,
    TokenStream,
    collect,
    failed,
)
from gpu_worker.engines.llama_server import LlamaServer
from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.engines.openai_server import OpenAIServer
from gpu_worker.engines.supervised import ChildConfig
from gpu_worker.engines.vllm import Vllm
from tests.fakes.engine import FakeEngine, finish, tokens
from wire.workers import Fault

ASK = Generation(prompt=(1, 2, 3))


def as_engine(engine: Engine) -> Engine:
    """Checked by the type checker: what is passed here has the interface."""
    return engine


def as_stream(stream: TokenStream) -> TokenStream:
    return stream


async def test_the_engines_have_the_interface_that_the_worker_needs(tmp_path: Path) -> None:
    who: Any = {"model": "m", "revision": "a" * 64}
    path = tmp_path / "none"
    engines = (
        as_engine(FakeEngine()),
        as_engine(LlamaCpp(path, **who)),
        as_engine(LlamaServer(path, **who)),
        as_engine(Vllm(path, **who, config=ChildConfig())),
        as_engine(OpenAIServer(**who)),
    )
    for engine in engines:
        stream = as_stream(engine.stream(ASK))
        await stream.aclose()
        await stream.aclose()
        assert engine.fault == ""
        await engine.aclose()


def test_every_fault_has_an_error_that_tells_to_come_again() -> None:
    faults: tuple[Fault, ...] = get_args(Fault)
    codes = {fault: failed(fault, "why").code for fault in faults}
    assert codes["hung"] == "engine_hung"
    assert codes["out_of_memory"] == "engine_out_of_memory"
    assert {codes[fault] for fault in ("crashed", "bad_file", "")} == {"engine_crashed"}
    error = failed("hung", "why")
    assert (error.status, error.headers) == (503, {"Retry-After": "1"})


async def test_collect_gives_text_and_finish_and_closes_the_stream() -> None:
    engine = FakeEngine([*tokens("Hel", "lo"), [finish("length")]])
    assert await collect(engine.stream(ASK)) == ("Hello", finish("length"))
    assert engine.open == 0


async def test_collect_reads_tokens_that_came_with_the_finish() -> None:
    engine = FakeEngine([[*tokens("Hel")[0], *tokens("lo")[0], finish()]])
    assert (await collect(engine.stream(ASK)))[0] == "Hello"


async def test_an_answer_without_a_finish_is_broken_not_short() -> None:
    engine = FakeEngine(tokens("Hel"))
    with pytest.raises(EngineBrokenError, match="without a finish"):
        await collect(engine.stream(ASK))
    assert engine.open == 0


async def test_collect_closes_the_stream_of_an_engine_that_breaks() -> None:
    engine = FakeEngine(tokens("Hel"))
    engine.breaks_with = EngineBrokenError("gone")
    with pytest.raises(EngineBrokenError, match="gone"):
        await collect(engine.stream(ASK))
    assert engine.open == 0


def test_an_unavailable_engine_says_when_to_come_again() -> None:
    error: EngineError = EngineUnavailableError("restarting")
    assert (error.status, error.headers) == (503, {"Retry-After": "1"})
