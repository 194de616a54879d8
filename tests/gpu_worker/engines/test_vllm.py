"""gpu_worker.engines.vllm against a stand-in with vLLM's command line and API over llama.cpp."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.engine import (
    ContextLengthError,
    EngineHungError,
    EngineRefusedError,
    EngineStartError,
    Generation,
    Message,
    ProbeFailedError,
    Sampling,
    Token,
    collect,
)
from gpu_worker.engines.supervised import ChildConfig
from gpu_worker.engines.vllm import Vllm, VllmConfig
from gpu_worker.hang import HangConfig
from gpu_worker.supervisor import SupervisorConfig
from tests.fakes.clock import HeldClock
from tests.fakes.golden import expecting
from tests.fakes.processes import cpu_s_until_free
from tests.fakes.programs import vllm_model, vllm_stand_in
from tests.fakes.scripted_gguf import SCRIPT
from tests.fakes.waiting import until

GREEDY = Sampling(temperature=0.0)
ROUND = len(SCRIPT.encode())
FAST = SupervisorConfig(ready_timeout_s=45, backoff_initial_s=0.01, backoff_max_s=0.05)
StartVllm = Callable[..., Awaitable[Vllm]]


@pytest.fixture
async def start_vllm(scripted_model: Path, tmp_path: Path) -> AsyncIterator[StartVllm]:
    engines: list[Vllm] = []
    folder = vllm_model(tmp_path / "model", scripted_model)

    async def start(
        vllm: VllmConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
        **changes: Any,
    ) -> Vllm:
        vllm = vllm or VllmConfig(program=vllm_stand_in(tmp_path))
        given = {"slots": 2, "context_tokens": 2_048, "verdict_s": 30, **changes}
        engine = Vllm(
            folder,
            model="chat",
            revision="a" * 64,
            config=ChildConfig(**given),
            vllm=vllm,
            supervisor=FAST,
            clock=clock,
        )
        engines.append(engine)
        await engine.start()
        return engine

    yield start
    await asyncio.gather(*(engine.aclose() for engine in engines))


def ask(prompt: Any, tokens: int | None = ROUND, sampling: Sampling = GREEDY) -> Generation:
    return Generation(prompt=prompt, max_tokens=tokens, sampling=sampling)


async def test_the_whole_life_of_an_engine(start_vllm: StartVllm) -> None:
    engine = await start_vllm()
    assert engine.features == {"logprobs", "json_schema"}
    probe = await engine.probe()
    assert SCRIPT.startswith(probe.text)
    text, finish = await collect(engine.stream(ask((0,))))
    assert text == SCRIPT
    assert (finish.reason, finish.prompt_tokens, finish.completion_tokens) == ("length", 1, ROUND)
    text, _ = await collect(engine.stream(ask((Message("user", "x"),))))
    assert text == SCRIPT
    assert await engine.tokenize("ab") == [97, 98]
    with pytest.raises(ContextLengthError):
        await collect(engine.stream(ask((1,) * 2_048)))
    with pytest.raises(EngineRefusedError, match="no embeddings"):
        await engine.embed(("x",))
    await golden_prompts_are_compared_by_their_text(engine)
    await log_probabilities_come_with_their_tokens(engine)
    await an_abort_frees_its_slot_at_once(engine)
    await its_key_is_out_of_sight(engine)


async def golden_prompts_are_compared_by_their_text(engine: Vllm) -> None:
    verdict = (await engine.probe(expecting())).verdict
    assert verdict is not None
    assert verdict.problem == ""
    with pytest.raises(ProbeFailedError, match="not what was published: 1 of 1 texts differ"):
        await engine.probe(expecting("holo"))


async def log_probabilities_come_with_their_tokens(engine: Vllm) -> None:
    sampling = Sampling(temperature=0.0, logprobs=True, top_logprobs=2)
    stream = engine.stream(ask((0,), 4, sampling))
    tokens = [event async for batch in stream for event in batch if isinstance(event, Token)]
    await stream.aclose()
    assert [token.text for token in tokens] == list(SCRIPT[:4])
    for token in tokens:
        assert token.logprobs is not None
        assert token.logprobs[0].logprob <= 0
        assert len(token.logprobs[0].top_logprobs) == 2


async def an_abort_frees_its_slot_at_once(engine: Vllm) -> None:
    stream = engine.stream(ask((0,), 2_000))
    await anext(stream)
    assert (await engine.slots()).busy == 1
    await stream.aclose()
    assert await cpu_s_until_free(engine, engine.process.pid) < 1.0


async def its_key_is_out_of_sight(engine: Vllm) -> None:
    line = await asyncio.to_thread(Path(f"/proc/{engine.process.pid}/cmdline").read_bytes)
    launches = [engine.process.launch() for _ in range(2)]
    keys = {launch.environ["VLLM_API_KEY"] for launch in launches}
    assert len(keys) == 2
    assert not any(key.encode() in line for key in keys)


async def test_a_frozen_engine_is_killed_named_and_healed(start_vllm: StartVllm) -> None:
    clock = HeldClock()
    hang = HangConfig(stall_s=0.5, silent_s=5, health_s=0.1)
    engine = await start_vllm(clock=clock, hang=hang)
    stream = engine.stream(ask((0,), 2_000))
    await anext(stream)
    assert engine.process.pid is not None
    os.kill(engine.process.pid, signal.SIGSTOP)
    clock.run()
    with pytest.raises(EngineHungError, match="hung"):
        async for _ in stream:
            pass
    clock.hold()
    await until(lambda: engine.process.restarts >= 1 and engine.ready)
    assert (await collect(engine.stream(ask((0,)))))[0] == SCRIPT
    assert engine.fault == "hung"


async def test_what_it_is_told(tmp_path: Path) -> None:
    vllm = VllmConfig(program="v", arguments=("--tensor-parallel-size", "2"), tool_parser="hermes")
    engine = Vllm(tmp_path, model="m", revision="r", config=ChildConfig(), vllm=vllm)
    launch = engine.process.launch()
    argv = launch.argv[launch.argv.index("v") :]
    await engine.aclose()
    assert argv[:3] == ("v", "serve", str(tmp_path))
    assert argv[-2:] == ("--tensor-parallel-size", "2")
    assert argv[argv.index("--load-format") + 1] == "safetensors"
    assert argv[argv.index("--tool-call-parser") + 1] == "hermes"
    assert "--trust-remote-code" not in argv
    assert launch.environ["HF_HUB_OFFLINE"] == "1"


async def test_a_program_that_dies_is_quoted(start_vllm: StartVllm, tmp_path: Path) -> None:
    program = tmp_path / "dying"
    program.write_text(
        "#!/bin/sh\necho 'torch.OutOfMemoryError: CUDA out of memory.' >&2\nexit 1\n"
    )
    program.chmod(0o755)
    with pytest.raises(EngineStartError, match="CUDA out of memory") as caught:
        await start_vllm(VllmConfig(program=str(program)))
    assert caught.value.fault == "out_of_memory"
