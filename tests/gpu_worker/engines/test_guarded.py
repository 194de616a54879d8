"""gpu_worker.engines.guarded: programs of others end with the worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from gpu_worker.engines.guarded import guarded


def run(argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=50, check=False)


def test_the_guard_becomes_the_program() -> None:
    what = "import os, resource; print(os.getppid(), resource.getrlimit(resource.RLIMIT_CORE))"
    done = run(guarded((sys.executable, "-c", what)))
    assert done.stdout.split(maxsplit=1) == [str(os.getpid()), "(0, 0)\n"]


def test_a_program_that_is_not_there_is_named() -> None:
    done = run(guarded(("no-such-program", "--flag")))
    assert done.returncode == 127
    assert done.stderr == "cannot run no-such-program: No such file or directory\n"


def test_whose_parent_is_gone_does_not_begin(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    argv = list(guarded(("touch", str(mark))))
    argv[3] = "1"
    assert run(tuple(argv)).returncode == 1
    assert not mark.exists()
