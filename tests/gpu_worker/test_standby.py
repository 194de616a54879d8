"""gpu_worker.standby, with real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from gpu_worker.engine import EngineStartError
from gpu_worker.standby import Standby
from gpu_worker.supervisor import EngineProcess, Launch, SupervisorConfig
from tests.fakes.waiting import alive, until

CONFIG = SupervisorConfig(ready_timeout_s=45, stop_grace_s=5, restarts=0)
PROGRAM = """
import json, os, sys
line = sys.stdin.readline().strip()
if line:
    print(json.dumps({"told": line, "pid": os.getpid()}), flush=True)
    sys.stdin.read()
"""
ARGV = (sys.executable, "-c", PROGRAM)
ENVIRON = {"A_SETTING": "1"}
LAUNCH = Launch(argv=ARGV, first_line=b"orders", environ=ENVIRON)


@pytest.fixture
async def standby() -> AsyncIterator[Standby]:
    made = Standby(ARGV, ENVIRON, CONFIG)
    yield made
    await made.aclose()


async def start(launch: Launch) -> tuple[EngineProcess, dict[str, object]]:
    lines: list[dict[str, object]] = []
    process = EngineProcess(
        "child", lambda: launch, CONFIG, clock=time.monotonic, on_ready=lines.append
    )
    await process.start()
    return process, lines[0]


async def spare(standby: Standby) -> int:
    """The process id of the child that stands by."""
    standby.prepare()
    await until(lambda: standby.pid is not None)
    assert standby.pid is not None
    return standby.pid


async def test_the_child_that_stands_by_gets_the_orders(standby: Standby) -> None:
    pid = await spare(standby)
    process, told = await start(replace(LAUNCH, spares=standby))
    assert told == {"told": "orders", "pid": pid}
    assert process.pid == pid
    assert standby.pid is None
    await process.aclose()
    assert not alive(pid)


async def test_a_launch_need_not_wait_for_a_spare_that_is_still_starting(standby: Standby) -> None:
    standby.prepare()
    process, told = await start(replace(LAUNCH, spares=standby))
    assert (told["told"], told["pid"]) == ("orders", process.pid)
    await process.aclose()


async def test_one_is_enough(standby: Standby) -> None:
    pid = await spare(standby)
    standby.prepare()
    assert standby.pid == pid


async def test_without_a_spare_a_child_is_started_as_ever(standby: Standby) -> None:
    process, told = await start(replace(LAUNCH, spares=standby))
    assert told["told"] == "orders"
    await process.aclose()


async def test_a_spare_that_died_is_replaced(standby: Standby) -> None:
    pid = await spare(standby)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: standby.pid is None)
    process, told = await start(replace(LAUNCH, spares=standby))
    assert (told["told"], told["pid"]) == ("orders", process.pid)
    assert await spare(standby) not in {pid, process.pid}
    await process.aclose()


async def test_a_launch_of_something_else_leaves_the_spare_alone(standby: Standby) -> None:
    pid = await spare(standby)
    for other in (replace(LAUNCH, argv=(*ARGV, "more")), replace(LAUNCH, environ={})):
        assert await standby.take(other) is None
    assert standby.pid == pid


async def test_who_gives_up_waiting_for_a_spare_leaves_it_to_the_next(standby: Standby) -> None:
    standby.prepare()
    taking = asyncio.create_task(standby.take(LAUNCH))
    await asyncio.sleep(0)
    taking.cancel()
    await asyncio.gather(taking, return_exceptions=True)
    await until(lambda: standby.pid is not None)
    pid = standby.pid
    process, told = await start(replace(LAUNCH, spares=standby))
    assert (told["told"], told["pid"]) == ("orders", pid)
    await process.aclose()


async def test_a_spare_that_nobody_takes_gives_its_memory_back() -> None:
    standby = Standby(ARGV, ENVIRON, replace(CONFIG, standby_s=0.2))
    pid = await spare(standby)
    await until(lambda: not alive(pid))
    assert standby.pid is None
    assert await standby.take(LAUNCH) is None
    assert await spare(standby) != pid
    await standby.aclose()


async def test_nothing_is_left_of_it(standby: Standby) -> None:
    pid = await spare(standby)
    await standby.aclose()
    assert not alive(pid)
    standby.prepare()
    assert standby.pid is None
    assert await standby.take(LAUNCH) is None
    await standby.aclose()


async def test_one_that_cannot_be_run_is_not_missed() -> None:
    missing = ("/nowhere/python",)
    standby = Standby(missing, {}, CONFIG)
    standby.prepare()
    assert await standby.take(Launch(argv=missing, first_line=b"")) is None
    with pytest.raises(EngineStartError, match="cannot run"):
        await start(Launch(argv=missing, first_line=b"", spares=standby))
    await standby.aclose()
