from __future__ import annotations

import asyncio
import os
import signal

import pytest

from infra.signals import run_until_told, told_to_stop


def test_work_that_ends_gives_its_result() -> None:
    async def work() -> int:
        return 7

    assert run_until_told(work()) == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_work_through_its_cleanup(number: signal.Signals) -> None:
    steps: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        run_until_told(work())
    assert steps == ["cleaned up"]


def test_being_told_to_stop_is_an_orderly_end() -> None:
    async def work() -> str:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGTERM)
        await told_to_stop()
        return "stopped"

    assert run_until_told(work()) == "stopped"


def test_handlers_do_not_outlive_the_work() -> None:
    before = signal.getsignal(signal.SIGTERM)

    async def work() -> None:
        return None

    run_until_told(work())
    assert signal.getsignal(signal.SIGTERM) == before
