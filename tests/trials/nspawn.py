"""A folder as a machine: systemd as its process 1, the host's network, in systemd-nspawn."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from pathlib import Path

import psutil

from tests.trials.stepping import TrialError, wait_for

_POWER_OFF = signal.SIGRTMIN + 4
"""systemd(1), signals: starts poweroff.target."""
_BOOT_S = 60.0
_STOP_S = 120.0
_TAIL_LINES = 30
_NOISE = re.compile(r"ci-info:|<14>|SSH HOST KEY|^(ssh|ecdsa)-")


def argv(folder: Path, name: str, *, under_systemd: bool) -> list[str]:
    """How nspawn is called. Without a systemd on the host nobody could make it a scope."""
    made = ["systemd-nspawn", "--quiet", "--directory", str(folder), "--machine", name, "--boot"]
    made += ["--register=no", "--resolv-conf=off", "--console=pipe"]
    # Where the host is a container itself, it often lacks this one and cannot pass it on.
    made += ["--drop-capability=CAP_SYS_RESOURCE"]
    return made if under_systemd else [*made, "--keep-unit"]


def enter(pid: int, *command: str) -> list[str]:
    """How a command is run in a machine whose process 1 is ``pid`` here."""
    return ["nsenter", "-t", str(pid), "-m", "-u", "-i", "-p", "-C", *command]


class Machine:
    """One machine: started, asked, stopped, started again."""

    def __init__(self, name: str, folder: Path, log: Path) -> None:
        self.name = name
        self.folder = folder
        self._log = log
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init = 0

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._nspawn is not None and self._nspawn.poll() is None

    def start(self) -> None:
        """Boot it; returns once its systemd has begun."""
        call = argv(self.folder, self.name, under_systemd=Path("/run/systemd/system").is_dir())
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C reaches the trial alone, which then stops the machines.
            self._nspawn = subprocess.Popen(
                call, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(f"{self.name} boots", self._find_init, _BOOT_S, lambda: self.alive)

    def stop(self) -> None:
        """Power it off, and kill what is left; may be called twice."""
        nspawn = self._nspawn
        if nspawn is None or nspawn.poll() is not None:
            return
        with contextlib.suppress(ProcessLookupError, subprocess.TimeoutExpired):
            if self._init:
                os.kill(self._init, _POWER_OFF)
                nspawn.wait(_STOP_S)
        if nspawn.poll() is None:
            # With its process 1 everything in it ends.
            for process in reversed(psutil.Process(nspawn.pid).children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            nspawn.kill()
            nspawn.wait()
        self._init = 0

    def ask(self, *command: str, within_s: float = 60.0) -> tuple[int, str]:
        """Run a command in it: its status and what it printed. Status -1: it took too long."""
        try:
            done = subprocess.run(
                enter(self._init, *command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=within_s,
            )
        except subprocess.TimeoutExpired as error:
            said = error.stdout or b""
            return -1, said.decode(errors="replace") if isinstance(said, bytes) else said
        return done.returncode, done.stdout.strip()

    def told(self, *command: str) -> str:
        """What a command in it printed.

        Raises:
            TrialError: it failed.
        """
        status, said = self.ask(*command)
        if status:
            raise TrialError(f"{self.name}: {' '.join(command)}: status {status}\n{said}")
        return said

    def last_words(self) -> str:
        """The ends of cloud-init's log, of the journal and of nspawn's own output."""
        parts = [
            ("cloud-init-output.log", _tail(self.folder / "var/log/cloud-init-output.log")),
            ("nspawn", _tail(self._log)),
        ]
        if self.alive and self._init:
            journal = ("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "400")
            parts.append(("journal", telling(self.ask(*journal)[1], without=" cloud-init[")))
        return "\n".join(f"--- {self.name}: {name}\n{text}" for name, text in parts if text)

    def _find_init(self) -> str:
        """nspawn's child that is systemd: as a step of waiting."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(self._nspawn.pid).children(recursive=True):
                    if is_init(child.cmdline()):
                        self._init = child.pid
                        return ""
        return "no systemd in it yet"


def is_init(command: list[str]) -> bool:
    """Whether a process is a machine's first: nspawn calls what it finds there."""
    return bool(command) and command[0] in {
        "/usr/lib/systemd/systemd",
        "/lib/systemd/systemd",
        "/sbin/init",
    }


def telling(text: str, *, without: str = "") -> str:
    """The last lines of a log that may say why; keys and addresses of the machine do not."""
    lines = (line for line in text.splitlines() if line and not _NOISE.search(line))
    return "\n".join([line for line in lines if not without or without not in line][-_TAIL_LINES:])


def _tail(file: Path) -> str:
    try:
        return telling(file.read_text(errors="replace"))
    except OSError:
        return ""
