"""The real ``headwater`` command in processes of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import infra
from tests.fakes.fleet import eventually

ROOT = Path(infra.__file__).parent.parent
COMMAND = (sys.executable, "-m", "infra.cli")
START_S = 90.0


@dataclass(slots=True)
class Up:
    """A running ``headwater up``."""

    process: subprocess.Popen[bytes]
    ready_file: Path
    state_dir: Path
    seen_broken: int = 0
    """Looks at the ready file that found a part of it."""

    def is_ready(self) -> bool:
        """Whether the ready file is there; whoever finds it must find it whole."""
        try:
            return bool(self.ready)
        except FileNotFoundError:
            return False
        except ValueError:
            self.seen_broken += 1
            return False

    @property
    def ready(self) -> dict[str, str]:
        """What the ready file says."""
        found: dict[str, str] = json.loads(self.ready_file.read_bytes())
        return found

    def interrupt(self, timeout_s: float = 60.0) -> int:
        """Ctrl-C; returns its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout_s)

    def kill(self) -> None:
        """kill -9 of the launcher alone."""
        self.process.kill()
        self.process.wait()


@contextmanager
def running_up(state_dir: Path) -> Iterator[Up]:
    """``headwater up`` on free ports, until the block ends; given once its ready file is there."""
    ready_file = state_dir.with_name(f"{state_dir.name}-ready.json")
    ports = [f"--{tier}-port=0" for tier in ("origin", "edge", "worker", "cloud")]
    log = state_dir.with_name(f"{state_dir.name}-up.log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*COMMAND, "up", f"--state-dir={state_dir}", *ports, f"--ready-file={ready_file}"],
            cwd=ROOT,
            env=environment(),
            stdout=output,
            stderr=output,
        )
    up = Up(process, ready_file, state_dir)
    try:
        eventually(lambda: up.is_ready() or process.poll() is not None, START_S)
        assert process.poll() is None, log.read_text()
        yield up
    finally:
        if process.poll() is None:
            up.interrupt()


def headwater(
    *arguments: str, state_dir: Path, environ: Mapping[str, str] | None = None
) -> tuple[int, Any, str]:
    """Run a command with ``--json`` to its end: exit status, its document, and what it noted."""
    done = subprocess.run(
        [*COMMAND, *arguments, f"--state-dir={state_dir}", "--json"],
        cwd=ROOT,
        env=environment(environ),
        capture_output=True,
        timeout=150,  # it may watch a roll
    )
    document = json.loads(done.stdout) if done.stdout.strip() else None
    return done.returncode, document, done.stderr.decode()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours, without what could send a command elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", **(more or {})}
