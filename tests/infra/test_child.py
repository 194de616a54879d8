from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.child import Backoff, Child, ChildConfig, Program
from infra.errors import ChildError
from tests.fakes import tier_program
from tests.fakes.waiting import alive, until

QUICK = ChildConfig(poll_s=0.005, backoff_initial_s=0.01)
StartChild = Callable[..., Child]


@pytest.fixture
async def child_of(tmp_path: Path) -> AsyncIterator[StartChild]:
    """Make children that run the fake program in some mode; all are stopped at the end."""
    reader, writer = os.pipe()
    made: list[Child] = []

    def make(
        mode: str = "ok",
        *,
        config: ChildConfig = QUICK,
        report: Callable[[str], None] = lambda _: None,
    ) -> Child:
        ready = tmp_path / "ready.json"
        program = Program(
            name="edge",
            argv=(sys.executable, tier_program.__file__),
            environ={**os.environ, "FAKE_MODE": mode, "FAKE_READY_FILE": str(ready)},
            folder=tmp_path,
            ready_file=ready,
            log=tmp_path / "logs" / "edge.log",
        )
        child = Child(program, reader, config=config, report=report)
        made.append(child)
        return child

    yield make
    for child in made:
        await child.stop()
    os.close(reader)
    os.close(writer)


async def test_a_started_child_has_a_url_and_becomes_ready(child_of: StartChild) -> None:
    child = child_of()
    url = await child.start()
    assert url.startswith("http://127.0.0.1:")
    await child.ready()
    assert alive(child.pid)


async def test_a_stopped_child_is_gone(child_of: StartChild) -> None:
    child = child_of()
    await child.start()
    pid = child.pid
    await child.stop()
    await child.stop()
    assert child.pid is None
    assert not alive(pid)


async def test_a_killed_child_comes_back_at_its_port(child_of: StartChild) -> None:
    told: list[str] = []
    child = child_of(report=told.append)
    url = await child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: any("listens again" in text for text in told))
    await child.ready()
    assert child.url == url
    assert child.restarts == 1
    assert child.pid != first
    assert "status -9" in told[0]


async def test_deaths_are_noted_in_the_log(child_of: StartChild) -> None:
    child = child_of()
    await child.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: child.restarts == 1)
    assert "launcher: edge ended with status -9" in child.tail()


async def test_a_child_that_dies_at_once_is_an_error_with_its_last_words(
    child_of: StartChild,
) -> None:
    child = child_of("dies")
    with pytest.raises(ChildError, match="ended with status 2") as caught:
        await child.start()
    assert "no such model" in caught.value.message


async def test_a_child_that_says_nothing_is_given_up_and_stopped(child_of: StartChild) -> None:
    child = child_of("mute", config=replace(QUICK, listen_timeout_s=0.5))
    with pytest.raises(ChildError, match="did not listen"):
        await child.start()
    assert child.pid is None


async def test_a_child_that_never_gets_ready_is_an_error_with_its_reason(
    child_of: StartChild,
) -> None:
    for limit_s in (0.3, 10.0):  # a busy machine may give no answer sooner
        child = child_of("unready", config=replace(QUICK, ready_timeout_s=limit_s))
        await child.start()
        with pytest.raises(ChildError, match=f"is not ready after {limit_s:g} s") as caught:
            await child.ready()
        await child.stop()
        if "no model yet" in caught.value.message:
            break
    assert "no model yet" in caught.value.message


async def test_a_child_that_does_not_stop_is_killed(child_of: StartChild) -> None:
    told: list[str] = []
    child = child_of("stubborn", config=replace(QUICK, stop_timeout_s=0.3), report=told.append)
    await child.start()
    pid = child.pid
    await child.stop()
    assert not alive(pid)
    assert "killed" in told[-1]


async def test_a_child_does_not_outlive_the_other_end_of_its_lifeline(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    ready = tmp_path / "ready.json"
    program = Program(
        name="edge",
        argv=(sys.executable, tier_program.__file__),
        environ={**os.environ, "FAKE_MODE": "stubborn", "FAKE_READY_FILE": str(ready)},
        folder=tmp_path,
        ready_file=ready,
        log=tmp_path / "edge.log",
    )
    child = Child(program, reader, config=ChildConfig(backoff_initial_s=60.0))
    await child.start()
    pid = child.pid
    os.close(writer)
    await until(lambda: not alive(pid))
    await child.stop()
    os.close(reader)


async def test_one_earlier_log_is_kept(child_of: StartChild, tmp_path: Path) -> None:
    for _ in range(3):
        child = child_of()
        await child.start()
        await child.stop()
    names = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert names == ["edge.log", "edge.log.1"]


async def test_a_stale_ready_file_is_not_believed(child_of: StartChild, tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    assert await child_of().start() != "http://127.0.0.1:1"


@given(st.lists(st.floats(0, 29), max_size=2_000))
def test_the_delay_doubles_up_to_its_bound(lives: list[float]) -> None:
    backoff = Backoff(ChildConfig())
    delays = [backoff.after_death(lived) for lived in lives]
    assert delays == sorted(delays)
    assert all(0.2 <= delay <= 10.0 for delay in delays)


def test_a_child_that_lived_long_is_forgiven() -> None:
    backoff = Backoff(ChildConfig())
    assert [backoff.after_death(1) for _ in range(3)] == [0.2, 0.4, 0.8]
    assert backoff.after_death(31) == 0.2
