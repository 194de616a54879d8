"""Reads the systemd units that are shipped, and stands in for systemd: specifiers, environment,
credentials, the notify socket."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "systemd"
UNITS = sorted(path for path in FOLDER.glob("*.service"))
_PR_SET_MDWE = 65
_REFUSE_EXEC_GAIN = 1


def read_unit(path: Path) -> dict[str, list[str]]:
    """``Section.Key`` → its values, in order."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(f"{section}.{key}", []).append(value)
    return found


def environment_of(unit: Mapping[str, list[str]]) -> dict[str, str]:
    """What ``Environment=`` says, specifiers and all."""
    return dict(line.split("=", 1) for line in unit.get("Service.Environment", ()))


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine below a folder: where each specifier leads."""

    root: Path
    instance: str = "1"

    @property
    def specifiers(self) -> dict[str, str]:
        """``%X`` → its value."""
        return {
            "%S": str(self.root / "var/lib"),
            "%C": str(self.root / "var/cache"),
            "%t": str(self.root / "run"),
            "%d": str(self.credentials),
            "%i": self.instance,
            "%l": "machine",
        }

    @property
    def credentials(self) -> Path:
        return self.root / "run/credentials"

    def expand(self, text: str) -> str:
        """A value with its specifiers, and ``/etc/headwater`` and ``/opt/headwater``, put in."""
        for specifier, value in self.specifiers.items():
            text = text.replace(specifier, value)
        text = text.replace("/etc/headwater", str(self.root / "etc/headwater"))
        return text.replace("/opt/headwater/bin/python", sys.executable)

    def make_folders(self, unit: Mapping[str, list[str]]) -> None:
        """The folders that systemd makes for the service."""
        for key, below in (("State", "%S"), ("Cache", "%C"), ("Runtime", "%t")):
            for value in unit.get(f"Service.{key}Directory", ()):
                for name in self.expand(value).split():
                    (Path(self.expand(below)) / name).mkdir(parents=True, exist_ok=True)


@dataclass(slots=True)
class Service:
    """A unit that runs."""

    process: subprocess.Popen[bytes]
    notify: socket.socket
    said: list[dict[str, str]] = field(default_factory=list)

    def wait_for(self, key: str) -> dict[str, str]:
        """The next message that has this key."""
        while True:
            lines = self.notify.recv(8192).decode().splitlines()
            self.said.append(dict(line.split("=", 1) for line in lines))
            if key in self.said[-1]:
                return self.said[-1]


@contextmanager
def running(unit: Mapping[str, list[str]], machine: Machine, log: Path) -> Iterator[Service]:
    """Run a unit's ``ExecStart`` as systemd would, with memory that cannot be written and run where
    the unit says so."""
    machine.make_folders(unit)
    address = machine.root / f"notify-{log.stem}"
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environ |= {"PYTHONPATH": str(ROOT), "CREDENTIALS_DIRECTORY": str(machine.credentials)}
    environ |= {name: machine.expand(text) for name, text in environment_of(unit).items()}
    environ |= {"NOTIFY_SOCKET": str(address), "WATCHDOG_USEC": "3000000"}
    denied = "yes" in unit.get("Service.MemoryDenyWriteExecute", ())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("wb") as output:
        notify.bind(str(address))
        notify.settimeout(45)
        process = subprocess.Popen(
            machine.expand(unit["Service.ExecStart"][0]).split(),
            cwd=machine.expand(unit["Service.WorkingDirectory"][0]),
            env=environ,
            stdout=output,
            stderr=output,
            preexec_fn=_deny_write_execute if denied else None,
        )
        try:
            yield Service(process, notify)
        finally:
            process.kill()
            process.wait()


def _deny_write_execute() -> None:
    """prctl(2), from Linux 6.3 on; an older kernel goes without."""
    ctypes.CDLL(None).prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN, 0, 0, 0)
