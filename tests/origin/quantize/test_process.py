from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from origin.quantize.errors import QuantizeError
from origin.quantize.process import ProcessLimits, run_process
from tests.fakes.waiting import until


def run(code: str, *, limits: ProcessLimits | None = None, first_line: bytes = b"") -> list[bytes]:
    lines: list[bytes] = []
    run_process(
        [sys.executable, "-c", code],
        first_line=first_line,
        limits=limits or ProcessLimits(),
        on_line=lines.append,
    )
    return lines


def test_what_it_says_and_what_it_is_told() -> None:
    code = "import sys; print(input()); print('two', file=sys.stderr)"
    assert set(run(code, first_line=b"one\n")) == {b"one\n", b"two\n"}


def test_a_failure_comes_with_the_last_words() -> None:
    with pytest.raises(QuantizeError, match=r"failed \(3\): 2 \| 3 \| 4$"):
        run("import sys; [print(i) for i in range(5)]; sys.exit(3)")


def test_a_crash_is_named() -> None:
    with pytest.raises(QuantizeError, match="killed by SIGABRT"):
        run("import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.abort()")


async def test_what_takes_too_long_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    wrapper = ["/bin/sh", "-c", f"sleep 70 & echo $! > {pid_file}; wait"]
    for limit_s in (0.5, 5.0, 20.0):  # a busy machine may not have started it sooner
        limits = ProcessLimits(timeout_s=limit_s)
        with pytest.raises(QuantizeError, match=f"sh took over {limit_s:g} s"):
            await asyncio.to_thread(run_process, wrapper, limits=limits, on_line=lambda _: None)
        if pid_file.exists() and pid_file.read_text():
            break
    grandchild = int(pid_file.read_text())
    await until(lambda: not _runs(grandchild))


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_what_says_too_much_is_stopped() -> None:
    limits = ProcessLimits(output_bytes=10_000, line_bytes=100, stop_grace_s=0.2)
    with pytest.raises(QuantizeError, match="more than 10000 B"):
        run("while True: print('x' * 1000)", limits=limits)


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(QuantizeError, match="cannot run /absent"):
        run_process(["/absent"], limits=ProcessLimits(), on_line=lambda _: None)


def test_it_learns_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_PUBLISHER_TOKEN", "secret")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    said = b"".join(run("import os; print(sorted(os.environ))"))
    assert b"HEADWATER" not in said
    assert b"LC_ALL" in said
    assert os.environ["HEADWATER_PUBLISHER_TOKEN"] == "secret"
