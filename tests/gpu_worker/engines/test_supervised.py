"""gpu_worker.engines.supervised: what becomes of real engines that crash, hang, run out of memory
or are given a bad file, and of those who wait for them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from gpu_worker.engine import (
    EngineBrokenError,
    EngineCrashedError,
    EngineFailedError,
    EngineHungError,
    EngineStartError,
    Generation,
    Sampling,
    collect,
)
from gpu_worker.engines.native import NativeEngine
from gpu_worker.hang import HangConfig
from gpu_worker.supervisor import SupervisorConfig
from tests.fakes.clock import HeldClock
from tests.fakes.processes import cpu_s_until_free
from tests.fakes.scripted_gguf import SCRIPT, write_scripted_gguf
from tests.fakes.waiting import alive, until
from tests.fakes.worker_api import CHAT, StartApi

StartChild = Callable[..., Awaitable[NativeEngine]]
KINDS = ["llamacpp", "llama-server"]
QUICK = HangConfig(stall_s=0.4, silent_s=0.4, health_s=0.1)
ROUND = len(SCRIPT.encode())

pytestmark = pytest.mark.parametrize("kind", KINDS)


def ask(max_tokens: int = ROUND, prompt: tuple[int, ...] = tuple(b"\0")) -> Generation:
    return Generation(prompt=prompt, max_tokens=max_tokens, sampling=Sampling(temperature=0.0))


def send(engine: NativeEngine, number: signal.Signals) -> None:
    assert engine.process.pid is not None
    os.kill(engine.process.pid, number)


async def broken(
    engine: NativeEngine, number: signal.Signals, clock: HeldClock | None = None
) -> EngineBrokenError:
    """How a running stream ends when the engine is sent a signal; a held clock runs meanwhile."""
    clock = clock or HeldClock()
    stream = engine.stream(ask(4_000))
    await anext(stream)
    send(engine, number)
    clock.run()
    with pytest.raises(EngineBrokenError) as caught:
        async for _ in stream:
            pass
    clock.hold()
    await stream.aclose()
    return caught.value


async def serves_again(engine: NativeEngine) -> None:
    await until(lambda: engine.process.restarts >= 1 and engine.ready)
    assert (await collect(engine.stream(ask())))[0] == SCRIPT
    assert not engine.dead.done()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_crash_is_named_and_healed(
    start_child: StartChild, kind: str, number: signal.Signals
) -> None:
    engine = await start_child(kind)
    error = await broken(engine, number)
    assert type(error) is EngineCrashedError
    assert (error.code, error.status, error.headers) == (
        "engine_crashed",
        503,
        {"Retry-After": "1"},
    )
    assert "ended while it answered: crashed" in error.message
    assert signal.Signals(number).name in engine.process.last_death
    await serves_again(engine)
    assert engine.fault == "crashed"


async def test_a_frozen_engine_is_killed_named_and_healed(
    start_child: StartChild, kind: str
) -> None:
    clock = HeldClock()
    engine = await start_child(kind, hang=QUICK, clock=clock)
    error = await broken(engine, signal.SIGSTOP, clock)
    assert type(error) is EngineHungError
    assert error.code == "engine_hung"
    assert "for 0.4 s" in engine.process.last_death
    await serves_again(engine)
    assert engine.fault == "hung"


async def test_an_engine_that_freezes_while_it_is_idle_is_found_by_its_health(
    start_child: StartChild, kind: str
) -> None:
    hang, clock = HangConfig(stall_s=60, silent_s=0.4, health_s=0.1), HeldClock()
    engine = await start_child(kind, hang=hang, clock=clock)
    send(engine, signal.SIGSTOP)
    clock.run()
    await until(lambda: engine.fault == "hung")
    clock.hold()
    await serves_again(engine)
    assert engine.fault == "hung"
    assert "no answer to its health check" in engine.process.last_death


async def test_an_engine_at_work_is_not_taken_for_one_that_hangs(
    start_child: StartChild, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time goes on only after signs of life, however long those take on a busy machine."""
    hang, clock = HangConfig(stall_s=1.0, silent_s=1.0, health_s=0.02), HeldClock()
    engine = await start_child(kind, hang=hang, clock=clock)
    health, seen = engine.health, Counter[str]()

    async def counted() -> bool:
        good = await health()
        seen["health"] += good
        return good

    async def read() -> None:
        while True:
            async with aclosing(engine.stream(ask(4_000))) as stream:
                async for _ in stream:
                    seen["batches"] += 1

    monkeypatch.setattr(engine, "health", counted)
    reading = asyncio.create_task(read())
    for _ in range(8):
        before = seen.copy()
        await until(lambda then=before: all(seen[n] > then[n] for n in ("health", "batches")))  # type: ignore[misc]
        await looked(clock)
        clock.advance(0.3)
        await looked(clock)
    assert not reading.done()
    assert (engine.process.restarts, engine.fault) == (0, "")
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)


async def looked(clock: HeldClock) -> None:
    """Until somebody has looked at the clock after this."""
    before = clock.looks
    await until(lambda: clock.looks > before)


async def test_a_reader_that_is_slow_is_no_hang(start_child: StartChild, kind: str) -> None:
    hang, clock = HangConfig(stall_s=0.2, silent_s=30, health_s=0.05), HeldClock()
    engine = await start_child(kind, hang=hang, clock=clock)
    stream = engine.stream(ask(4_000))
    await anext(stream)
    await until(lambda: not stream.waiting)
    for _ in range(12):
        clock.advance(hang.look_s)
        await looked(clock)
    assert (engine.process.restarts, engine.fault) == (0, "")
    await stream.aclose()


async def test_a_close_that_is_cut_off_leaves_no_process(
    start_child: StartChild, kind: str
) -> None:
    engine = await start_child(kind)
    pid = engine.process.pid
    closing = asyncio.create_task(engine.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await until(lambda: not alive(pid))
    assert engine.dead.done()


async def test_a_first_token_that_takes_long_is_no_hang(
    start_child: StartChild, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of weights that are read from a cold disk while the probe waits."""
    hang = HangConfig(stall_s=0.2, silent_s=30, health_s=0.05)
    engine = await start_child(kind, hang=hang)
    tokenize = engine.tokenize

    async def and_stop(text: str, **options: bool) -> list[int]:
        ids = await tokenize(text, **options)
        send(engine, signal.SIGSTOP)
        return ids

    monkeypatch.setattr(engine, "tokenize", and_stop)
    probing = asyncio.create_task(engine.probe())
    await asyncio.wait({probing}, timeout=4 * hang.stall_s)
    send(engine, signal.SIGCONT)
    assert (await probing).tokens > 0
    assert (engine.process.restarts, engine.fault) == (0, "")


async def test_a_context_beyond_memory_is_named(start_child: StartChild, kind: str) -> None:
    prlimit = shutil.which("prlimit")
    assert prlimit is not None
    limit = (prlimit, f"--as={4 << 30}")
    with pytest.raises(EngineStartError, match="insufficient memory") as caught:
        await start_child(kind, wrapper=limit, context_tokens=4_000_000)
    assert caught.value.fault == "out_of_memory"


async def test_a_file_that_only_the_engine_finds_bad_is_named(
    start_child: StartChild, kind: str, tmp_path: Path
) -> None:
    unknown = write_scripted_gguf(tmp_path / "unknown.gguf", architecture="nosuch")
    with pytest.raises(EngineStartError) as caught:
        await start_child(kind, unknown)
    assert caught.value.fault == "bad_file"


async def test_a_file_that_crashes_the_loader_is_a_crash(
    start_child: StartChild, kind: str, tmp_path: Path
) -> None:
    hostile = write_scripted_gguf(tmp_path / "hostile.gguf", rms_epsilon=-1.0)
    with pytest.raises(EngineStartError, match="SIGABRT") as caught:
        await start_child(kind, hostile)
    assert caught.value.fault == "crashed"


async def test_an_abort_frees_its_slot_long_before_the_work_is_done(
    start_child: StartChild, kind: str
) -> None:
    engine = await start_child(kind, context_tokens=4_096)
    for request in (ask(4_000), ask(8, tuple(b"ab" * 2_000))):
        stream = engine.stream(request)
        reading = asyncio.ensure_future(anext(stream))
        # Between two looks the first token may have come, too; it is at work then as well.
        while not (await engine.slots()).busy and not reading.done():
            pass
        reading.cancel()
        await stream.aclose()
        assert await cpu_s_until_free(engine, engine.process.pid) < 1.0
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_client_is_told_by_name_and_others_to_come_again(
    start_child: StartChild, start_api: StartApi, kind: str
) -> None:
    engine = await start_child(kind)
    api = await start_api(engine)
    body = {"prompt_token_ids": [0], "max_tokens": 4_000, "temperature": 0, "stream": True}
    async with await api.post(CHAT, body) as answer:
        await answer.content.readany()
        send(engine, signal.SIGKILL)
        rest = (await answer.content.read()).decode()
    assert '"code":"engine_crashed"' in rest.splitlines()[-2]
    assert "[DONE]" not in rest
    async with await api.post(CHAT, body) as answer:
        assert answer.status in {200, 503}
        assert answer.status == 200 or answer.headers["Retry-After"] == "1"


async def test_streams_of_an_engine_that_is_closed_are_no_crash(
    start_child: StartChild, kind: str
) -> None:
    engine = await start_child(kind, supervisor=SupervisorConfig(stop_grace_s=0.1))
    stream = engine.stream(ask(4_000))
    await anext(stream)
    closing = asyncio.create_task(engine.aclose())
    with pytest.raises(EngineBrokenError) as caught:
        async for _ in stream:
            pass
    await closing
    assert not isinstance(caught.value, EngineFailedError)
    assert engine.fault == ""


@pytest.mark.parametrize("stream", [True, False])
async def test_who_waits_for_the_first_token_of_a_frozen_engine_is_told_to_come_again(
    start_child: StartChild, start_api: StartApi, kind: str, stream: bool
) -> None:
    clock = HeldClock()
    engine = await start_child(kind, hang=QUICK, clock=clock)
    api = await start_api(engine)
    send(engine, signal.SIGSTOP)
    clock.run()
    async with await api.post(CHAT, {"prompt_token_ids": [0], "stream": stream}) as answer:
        text = await answer.text()
        assert (answer.status, answer.headers.get("Retry-After")) == (503, "1"), text
        assert json.loads(text)["error"]["code"] == "engine_hung"
    clock.hold()
    await serves_again(engine)
