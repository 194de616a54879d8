"""gpu_worker.supervisor, with real child processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engine import EngineStartError
from gpu_worker.faults import Tally
from gpu_worker.supervisor import Backoff, EngineProcess, Launch, SupervisorConfig
from tests.fakes.waiting import alive, until

FAST = SupervisorConfig(
    ready_timeout_s=45, stop_grace_s=5, backoff_initial_s=0.001, backoff_max_s=0.01, restarts=3
)
READY = """
import sys, time, os, json
told = sys.stdin.readline().strip()
print(json.dumps({"told": told, "secret": os.environ.get("HEADWATER_WORKER__KEY")}), flush=True)
"""
SERVE = READY + "sys.stdin.read()"
SILENT = "import sys; sys.stdin.read()"


class Supervised(EngineProcess):
    """Remembers the ready lines."""

    def __init__(self, programs: tuple[str, ...], config: SupervisorConfig) -> None:
        self.lines: list[dict[str, Any]] = []
        self.tally = Tally()
        lives = count()

        def launch() -> Launch:
            life = next(lives)
            program = programs[min(life, len(programs) - 1)]
            return Launch(argv=(sys.executable, "-c", program), first_line=b"life%d" % life)

        super().__init__(
            "child",
            launch,
            config,
            clock=time.monotonic,
            on_ready=self.lines.append,
            tally=self.tally,
        )


Supervise = Callable[..., Supervised]


@pytest.fixture
async def supervise() -> AsyncIterator[Supervise]:
    """Build a supervised child of Python programs, one for each life; the last serves the rest."""
    made: list[Supervised] = []

    def build(*programs: str, config: SupervisorConfig = FAST) -> Supervised:
        made.append(Supervised(programs, config))
        return made[-1]

    yield build
    await asyncio.gather(*(process.aclose() for process in made))


def kill(process: EngineProcess) -> int:
    pid = process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_start_hands_over_the_first_line_and_returns_when_ready(
    supervise: Supervise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADWATER_WORKER__KEY", "hunter2")
    process = supervise(SERVE)
    await process.start()
    assert process.state == "up"
    assert process.lines == [{"told": "life0", "secret": None}]


async def test_a_child_that_dies_while_loading_is_reported_with_its_last_words(
    supervise: Supervise,
) -> None:
    process = supervise("import sys; sys.stderr.write('tensor 7 is rotten\\n'); sys.exit(3)")
    with pytest.raises(EngineStartError, match=r"exit status 3.*tensor 7 is rotten"):
        await process.start()
    assert process.state == "closed"
    assert process.pid is None


async def test_a_child_that_lost_its_last_words_is_asked_again(supervise: Supervise) -> None:
    mute, heard = "import sys; sys.exit(1)", "import sys; sys.exit('failed to load model')"
    process = supervise(mute, mute, heard)
    with pytest.raises(EngineStartError, match="failed to load model") as caught:
        await process.start()
    assert caught.value.fault == "bad_file"
    assert process.tally == Tally(Counter({"crashed": 2, "bad_file": 1}))
    with pytest.raises(EngineStartError, match="exit status 1"):
        await supervise(mute, mute, mute, SERVE).start()


async def test_a_child_that_crashes_while_loading_is_named_with_its_signal(
    supervise: Supervise,
) -> None:
    with pytest.raises(EngineStartError, match="killed by SIGABRT"):
        await supervise("import os; os.abort()").start()


async def test_a_child_that_says_why_it_cannot_load_is_believed(supervise: Supervise) -> None:
    with pytest.raises(EngineStartError, match="no such file"):
        await supervise("""print('{"error": "no such file"}')""").start()


@pytest.mark.parametrize("line", ["no json", "[1]", "x" * 100_000])
async def test_a_malformed_ready_line_is_no_start(supervise: Supervise, line: str) -> None:
    with pytest.raises(EngineStartError, match="malformed"):
        await supervise(f"import time; print({line!r}, flush=True); time.sleep(60)").start()


async def test_a_child_that_hangs_is_killed_at_the_deadline(supervise: Supervise) -> None:
    process = supervise(SILENT, config=SupervisorConfig(ready_timeout_s=0.05))
    with pytest.raises(EngineStartError, match=r"not ready after 0\.05 s"):
        await process.start()
    assert process.pid is None


async def test_a_program_that_does_not_exist_is_no_start() -> None:
    process = EngineProcess(
        "child",
        lambda: Launch(argv=("/no/such/program",), first_line=b""),
        FAST,
        clock=time.monotonic,
        on_ready=lambda _line: None,
    )
    with pytest.raises(EngineStartError, match="cannot run"):
        await process.start()


class Asked:
    """A program that says nothing by itself; it is asked, and answers the ``ready_at``-th time."""

    def __init__(self, program: str, ready_at: int, config: SupervisorConfig = FAST) -> None:
        self.asked = 0
        self._ready_at = ready_at
        argv = (sys.executable, "-c", program)
        self.process = EngineProcess(
            "program",
            lambda: Launch(argv=argv, answers=self._answers),
            config,
            clock=time.monotonic,
            on_ready=lambda line: self.lines.append(line),
        )
        self.lines: list[dict[str, Any]] = []

    async def _answers(self) -> bool:
        self.asked += 1
        return self.asked >= self._ready_at


async def test_a_program_is_asked_until_it_answers_and_its_output_is_the_log() -> None:
    asked = Asked("print('loading', flush=True); import time; time.sleep(60)", 3)
    await asked.process.start()
    assert (asked.process.state, asked.asked, asked.lines) == ("up", 3, [{}])
    await until(lambda: asked.process.log_tail() == ["loading"])
    await asked.process.aclose()


async def test_a_program_that_dies_or_never_answers_did_not_start() -> None:
    dying = Asked("import sys; sys.exit('std::bad_alloc')", 10**9)
    with pytest.raises(EngineStartError, match="bad_alloc") as caught:
        await dying.process.start()
    assert caught.value.fault == "out_of_memory"
    late = SupervisorConfig(ready_timeout_s=0.2, stop_grace_s=5)
    silent = Asked("import time; time.sleep(60)", 10**9, late)
    with pytest.raises(EngineStartError, match=r"not ready after 0\.2 s") as caught:
        await silent.process.start()
    assert caught.value.fault == "hung"
    assert silent.process.pid is None


async def test_a_condemned_child_is_killed_and_its_verdict_told(supervise: Supervise) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
    process = supervise(stubborn, SERVE)
    await process.start()
    verdict = process.verdict
    assert verdict is not None
    process.condemn("hung", "stood still")
    assert await asyncio.wait_for(verdict, 30) == "hung"
    assert "stood still" in process.last_death
    await until(lambda: process.restarts == 1 and process.state == "up")
    assert process.fault == "hung"
    assert process.verdict is not verdict
    assert process.tally == Tally(Counter({"hung": 1}), restarts=1)


async def test_what_a_child_has_started_ends_with_it(supervise: Supervise) -> None:
    family = "import subprocess, sys, os\nchild = subprocess.Popen(['sleep', '600'])\n"
    tells = "sys.stderr.write(f'{child.pid}\\n'); sys.stderr.flush()\n"
    process = supervise(family + tells + SERVE)
    await process.start()
    await until(lambda: bool(process.log_tail()))
    grandchild = int(process.log_tail()[0])
    assert alive(grandchild)
    await process.aclose()
    await until(lambda: not running(grandchild))


def running(pid: int) -> bool:
    """Whether it does anything still: nobody may be there to collect an orphan."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


async def test_a_crash_of_a_gpu_is_counted_apart(supervise: Supervise) -> None:
    words = "CUDA error: an illegal memory access was encountered"
    process = supervise(f"{READY}sys.exit({words!r})", SERVE)
    await process.start()
    await until(lambda: process.restarts == 1 and process.state == "up")
    assert (process.fault, process.tally) == ("crashed", Tally(Counter({"gpu": 1}), restarts=1))


async def test_a_stop_of_ours_is_no_fault(supervise: Supervise) -> None:
    process = supervise(SERVE)
    await process.start()
    verdict = process.verdict
    assert verdict is not None
    await process.aclose()
    assert (verdict.result(), process.fault) == ("", "")
    assert process.tally == Tally()


async def test_a_killed_child_is_noticed_at_once_and_started_again(supervise: Supervise) -> None:
    process = supervise(SERVE)
    await process.start()
    first = kill(process)
    await until(lambda: process.restarts == 1 and process.state == "up")
    assert process.pid not in {None, first}
    assert [line["told"] for line in process.lines] == ["life0", "life1"]
    assert "SIGKILL" in process.last_death
    assert not process.dead.done()


async def test_a_child_that_keeps_dying_is_given_up(supervise: Supervise) -> None:
    process = supervise(READY + "sys.exit(9)")
    await process.start()
    assert "exit status 9" in await process.dead
    assert process.state == "dead"
    assert process.restarts == FAST.restarts


async def test_restarts_that_do_not_come_up_count_as_deaths(supervise: Supervise) -> None:
    process = supervise(SERVE, "import sys; sys.exit(1)")
    await process.start()
    kill(process)
    assert "died while loading" in await process.dead
    assert process.restarts == FAST.restarts
    assert process.tally == Tally(Counter({"crashed": 1 + FAST.restarts}), FAST.restarts)


async def test_aclose_ends_the_child_and_is_no_death_to_restart_from(supervise: Supervise) -> None:
    process = supervise(SERVE)
    await process.start()
    pid = process.pid
    await process.aclose()
    await process.aclose()
    assert await process.dead == "closed"
    assert (process.state, process.restarts) == ("closed", 0)
    assert not alive(pid)


async def test_aclose_kills_a_child_that_ignores_the_polite_signal(supervise: Supervise) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
    process = supervise(stubborn, config=SupervisorConfig(stop_grace_s=0.05))
    await process.start()
    pid = process.pid
    await process.aclose()
    assert not alive(pid)


async def test_aclose_ends_a_child_that_is_still_loading(supervise: Supervise) -> None:
    process = supervise(SILENT)
    starting = asyncio.create_task(process.start())
    await until(lambda: process.pid is not None)
    pid = process.pid
    await process.aclose()
    with pytest.raises(EngineStartError):
        await starting
    assert not alive(pid)


async def test_a_close_that_is_cut_off_leaves_no_child(supervise: Supervise) -> None:
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SERVE
    process = supervise(stubborn, config=SupervisorConfig(stop_grace_s=30))
    await process.start()
    pid = process.pid
    closing = asyncio.create_task(process.aclose())
    await asyncio.wait({closing}, timeout=0.05)
    closing.cancel()
    await asyncio.gather(closing, return_exceptions=True)
    await until(lambda: not alive(pid))
    assert (process.dead.done(), process.pid) == (True, None)


async def test_what_is_closed_before_its_child_is_there_does_not_start() -> None:
    may_start = asyncio.Event()

    class Late:
        """A place where nobody stands by, which takes its time to say so."""

        async def take(self, launch: Launch) -> None:
            await may_start.wait()

    launch = Launch(argv=(sys.executable, "-c", SERVE), first_line=b"", spares=Late())
    process = EngineProcess(
        "child", lambda: launch, FAST, clock=time.monotonic, on_ready=lambda _line: None
    )
    starting = asyncio.create_task(process.start())
    await asyncio.sleep(0)
    await process.aclose()
    may_start.set()
    with pytest.raises(EngineStartError, match="closed"):
        await starting
    assert (process.state, process.pid) == ("closed", None)


async def test_a_cancelled_start_leaves_no_child(supervise: Supervise) -> None:
    process = supervise(SILENT)
    starting = asyncio.create_task(process.start())
    await until(lambda: alive(process.pid))
    pid = process.pid
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert not alive(pid)


async def test_a_child_that_floods_its_log_does_not_block_and_is_bounded(
    supervise: Supervise,
) -> None:
    flood = "import sys\nfor i in range(20000): sys.stderr.write('x' * 99 + str(i) + '\\n')\n"
    process = supervise(flood + SERVE)
    await process.start()
    await until(lambda: process.log_tail()[-1:] == ["x" * 99 + "19999"])
    assert len(process.log_tail()) == FAST.log_lines


async def test_a_process_is_started_once(supervise: Supervise) -> None:
    process = supervise(SERVE)
    await process.start()
    with pytest.raises(EngineStartError, match="before"):
        await process.start()
    assert process.state == "up"


def test_backoff_doubles_to_its_bound_and_then_gives_up() -> None:
    config = SupervisorConfig(backoff_initial_s=1, backoff_max_s=5, restarts=4)
    backoff = Backoff(config)
    assert [backoff.after_death(0.0) for _ in range(5)] == [1, 2, 4, 5, None]


def test_a_long_life_is_forgiven() -> None:
    config = SupervisorConfig(backoff_initial_s=1, restarts=2, stable_s=60)
    backoff = Backoff(config)
    assert [backoff.after_death(lived_s) for lived_s in (0, 0, 60, 0, 0)] == [1, 2, 1, 2, None]


@given(st.lists(st.floats(0, 1e6), max_size=2_000), st.integers(0, 2_000))
def test_backoff_is_always_within_its_bounds(lives: list[float], restarts: int) -> None:
    config = SupervisorConfig(restarts=restarts, backoff_initial_s=0.1, backoff_max_s=30)
    backoff = Backoff(config)
    delays = [backoff.after_death(lived_s) for lived_s in lives]
    assert all(delay is None or 0.1 <= delay <= 30 for delay in delays)
