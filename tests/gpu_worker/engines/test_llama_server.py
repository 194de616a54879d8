"""gpu_worker.engines.llama_server: llama.cpp's own program, where it is installed."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gpu_worker.engine import (
    EngineStartError,
    Generation,
    Message,
    Sampling,
    Token,
    TokenEvent,
    collect,
)
from gpu_worker.engines.exchange import ExchangeConfig, call, encode_request
from gpu_worker.engines.llama_server import LlamaServer, LlamaServerConfig
from gpu_worker.engines.native import LlamaCppConfig, NativeEngine
from infra import demo_models
from tests.fakes.programs import WHY_NO_LLAMA_SERVER, real_llama_server
from tests.fakes.scripted_gguf import SCRIPT
from tests.fakes.waiting import alive, until

StartChild = Callable[..., Awaitable[NativeEngine]]
PROGRAM = real_llama_server() or ""
KIND = "llama-server"
needs_program = pytest.mark.skipif(not PROGRAM, reason=WHY_NO_LLAMA_SERVER)


def ask(prompt: tuple[int, ...] | str | tuple[Message, ...], tokens: int = 24) -> Generation:
    sampling = Sampling(temperature=0.0, logprobs=True, top_logprobs=2)
    return Generation(prompt=prompt, max_tokens=tokens, sampling=sampling)


async def all_tokens(engine: NativeEngine, request: Generation) -> list[Token]:
    stream = engine.stream(request)
    try:
        events: list[TokenEvent] = [event async for batch in stream for event in batch]
    finally:
        await stream.aclose()
    return [event for event in events if isinstance(event, Token)]


async def test_it_answers_as_the_wheel_does(start_child: StartChild) -> None:
    """Two builds may round differently, but not by much."""
    path = demo_models.path("edge-small-r1")
    program = await start_child(KIND, path, context_tokens=512)
    wheel = await start_child("llamacpp", path, context_tokens=512)
    assert program.features == wheel.features
    text = "The capital of France is <|im_end|>"
    assert await program.tokenize(text) == await wheel.tokenize(text)
    for prompt in ((1, 2, 3), text, (Message("user", "What is the capital of France?"),)):
        mine = await all_tokens(program, ask(prompt))
        others = await all_tokens(wheel, ask(prompt))
        assert [token.text for token in mine] == [token.text for token in others] != []
        for token, other in zip(mine, others, strict=True):
            assert token.logprobs is not None
            assert other.logprobs is not None
            assert {len(entry.top_logprobs) for entry in token.logprobs} == {2}
            assert token.logprobs[0].logprob == pytest.approx(other.logprobs[0].logprob, abs=1e-3)


@pytest.mark.parametrize("tokens", range(len(SCRIPT.encode()) - 5, len(SCRIPT.encode())))
async def test_an_answer_that_ends_within_a_character_is_whole(
    start_child: StartChild, tokens: int
) -> None:
    engine = await start_child(KIND)
    text, finish = await collect(engine.stream(ask((0,), tokens)))
    assert SCRIPT.startswith(text.rstrip("\ufffd"))
    assert (finish.reason, finish.completion_tokens) == ("length", tokens)


async def test_it_is_probed_and_tells_its_slots(start_child: StartChild) -> None:
    engine = await start_child(KIND, slots=3)
    probe = await engine.probe()
    assert probe.text == SCRIPT[: len(probe.text)] != ""
    assert (engine.capacity, (await engine.slots()).total, await engine.health()) == (3, 3, True)


async def test_it_gives_embeddings_where_it_is_told_to(start_child: StartChild) -> None:
    engine = await start_child(KIND, embeddings=True)
    assert "embeddings" in engine.features
    found = await engine.embed(("one", "two"))
    assert len(found.vectors) == 2
    assert (await collect(engine.stream(ask((1,), 4))))[1].completion_tokens == 4


async def test_its_key_is_out_of_sight_and_wanted(start_child: StartChild) -> None:
    engine = await start_child(KIND)
    line = await asyncio.to_thread(Path(f"/proc/{engine.process.pid}/cmdline").read_bytes)
    assert b"key" not in line.lower()
    for path in ("/slots", "/props", "/metrics"):
        status, _ = await call(engine.base_url, encode_request("GET", path), ExchangeConfig())
        assert status == 401
    keys = {engine.process.launch().environ["LLAMA_API_KEY"] for _ in range(2)}
    assert len(keys) == 2


async def told(folder: Path, config: LlamaCppConfig, *arguments: str) -> tuple[str, ...]:
    """The command line, after the guard's part."""
    server = LlamaServerConfig(program="prog", arguments=arguments)
    path = folder / "m.gguf"
    engine = LlamaServer(path, model="m", revision="a" * 64, config=config, server=server)
    argv = engine.process.launch().argv
    await engine.aclose()
    return argv[argv.index("prog") :]


async def test_what_it_is_told(tmp_path: Path) -> None:
    plain = await told(tmp_path, LlamaCppConfig(warmup=True))
    assert plain[plain.index("--gpu-layers") + 1] == "all"
    assert plain[plain.index("--ctx-size") + 1] == str(4 * 4_096)
    assert plain[plain.index("--host") + 1] == "127.0.0.1"
    optional = {"--no-warmup", "--no-cache-prompt", "--embeddings", "--no-mmap"}
    assert not optional & set(plain)
    config = LlamaCppConfig(
        gpu_layers=7, warmup=False, cache_prompt=False, embeddings=True, mmap=False, threads=3
    )
    other = await told(tmp_path, config, "--flash-attn", "on")
    assert other[other.index("--gpu-layers") + 1] == "7"
    assert other[other.index("--threads") + 1] == "3"
    assert optional < set(other)
    assert other[-2:] == ("--flash-attn", "on")


async def test_a_program_that_is_not_there_is_a_clear_error(tmp_path: Path) -> None:
    server = LlamaServerConfig(program="/no/such/llama-server")
    engine = LlamaServer(tmp_path / "m.gguf", model="m", revision="a" * 64, server=server)
    with pytest.raises(EngineStartError, match="cannot run /no/such/llama-server: No such file"):
        await engine.start()


ORPHANAGE = """
import asyncio, sys
from pathlib import Path
from gpu_worker.engines.llama_server import LlamaServer, LlamaServerConfig
from gpu_worker.engines.native import LlamaCppConfig

async def main():
    config = LlamaCppConfig(threads=1, context_tokens=256, warmup=False)
    server = LlamaServerConfig(program=sys.argv[2])
    engine = LlamaServer(
        Path(sys.argv[1]), model="m", revision="a" * 64, config=config, server=server
    )
    await engine.start()
    print(engine.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@needs_program
async def test_a_killed_worker_leaves_no_orphan(scripted_model: Path) -> None:
    arguments = (sys.executable, "-c", ORPHANAGE, str(scripted_model), PROGRAM)
    worker = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    try:
        assert worker.stdout is not None
        pid = int(await worker.stdout.readline())
        assert alive(pid)
        os.kill(worker.pid, 9)
        await until(lambda: not alive(pid))
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()
