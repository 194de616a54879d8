"""Somebody who types what a page says, in the folder that they cloned."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.fleet import eventually
from tests.fakes.headwater import ROOT, START_S, Up, environment
from tests.fakes.markdown import commands_of
from tests.fakes.processes import processes_in

# The page's ports may be taken here.
_PORTS = "".join(f" --{tier}-port=0" for tier in ("origin", "edge", "worker", "cloud"))


@dataclass(slots=True)
class Reader:
    """Keeps what every command printed. ``folder`` is the ``.headwater`` of the pages."""

    folder: Path
    done: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return environment({"HEADWATER_STATE_DIR": str(self.folder), "COLUMNS": "120"})

    @property
    def log(self) -> Path:
        """What ``up`` printed."""
        return self.folder.with_name(f"{self.folder.name}-up.log")

    def argv(self, command: str) -> list[str]:
        program, *rest = shlex.split(command)
        assert program == ".venv/bin/headwater"
        return [sys.executable, "-m", "infra.cli", *rest]

    def type(self, command: str) -> None:
        self.done[command] = subprocess.run(
            self.argv(command),
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def said(self, what: str) -> str:
        """What the command that has this word printed; it must have gone well."""
        (done,) = (done for command, done in self.done.items() if f"headwater {what}" in command)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@contextmanager
def following(page: str, folder: Path) -> Iterator[Reader]:
    """The page's ``headwater up``, which runs until the block ends, and what is typed after it."""
    reader, commands = Reader(folder), commands_of(page)
    (up,) = (command for command in commands if f"{command} ".startswith(".venv/bin/headwater up "))
    with reader.log.open("wb") as log:
        process = subprocess.Popen(
            reader.argv(up + _PORTS), cwd=ROOT, env=reader.environ, stdout=log, stderr=log
        )
    running = Up(process, folder / "ready.json", folder)
    try:
        eventually(lambda: running.is_ready() or process.poll() is not None, START_S)
        assert process.poll() is None, reader.log.read_text()
        for command in commands[commands.index(up) + 1 :]:
            reader.type(command)
        yield reader
        assert running.interrupt() == 0
        assert processes_in(folder) == []
    finally:
        process.kill()
        process.wait()
