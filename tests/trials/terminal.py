"""A terminal that a page's commands are typed into, and the engine that they find there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.trials.stepping import TrialError

# A command leaves its folder and umask behind, as in a shell that stays open. Root needs no sudo.
_BEFORE = """set -o pipefail
trap 'pwd > "$LEFT"; umask >> "$LEFT"' EXIT
command -v sudo > /dev/null || sudo() { "$@"; }
"""


class MissingError(Exception):
    """What this machine lacks for a trial."""


@dataclass(slots=True)
class Terminal:
    """A shell that stays open.

    Args:
        folder: where it stands.
        left: a file of its own, outside of what it works on.
    """

    folder: Path
    left: Path
    environ: Mapping[str, str]
    umask: int = 0o022

    def type(self, command: str, *, timeout_s: float = 120.0) -> str:
        """What the command printed.

        Raises:
            TrialError: it did not go well, or took too long; with what it printed last.
        """
        with subprocess.Popen(
            ["bash", "-c", _BEFORE + command],
            cwd=self.folder,
            env={**self.environ, "LEFT": str(self.left)},
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                raise TrialError(f"no end after {timeout_s:.0f} s: {command}") from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode != 0:
            raise TrialError(f"exit status {process.returncode}: {command}\n{(out + err)[-2000:]}")
        folder, umask = self.left.read_text().splitlines()
        self.folder, self.umask = Path(folder), int(umask, 8)
        return out


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine that answers, and its Compose."""

    version: str
    compose: str
    waits: bool
    """Whether ``up`` knows ``--wait``."""

    def __str__(self) -> str:
        return f"Docker {self.version}, {self.compose}"


def find_engine() -> Engine:
    """Raises ``MissingError`` with what is missing."""
    if os.geteuid() != 0:
        raise MissingError("root is needed: secrets are given to the user of the images")
    for program in ("bash", "curl", "docker", "git", "openssl"):
        if shutil.which(program) is None:
            raise MissingError(f"{program} is not installed")
    version = _said("docker", "version", "--format", "{{.Server.Version}}")
    if not version:
        raise MissingError("no container engine answers `docker version`")
    if _said("docker", "compose", "version"):
        return Engine(version, "docker compose", waits=True)
    standing_alone = _said("docker-compose", "version", "--short")
    if not standing_alone:
        raise MissingError("neither `docker compose` nor `docker-compose` answers")
    return Engine(version, "docker-compose", waits=not standing_alone.startswith("1."))


def fetch_image(name: str) -> None:
    """Raises ``MissingError`` where the engine neither has an image nor can get it."""
    if not _said("docker", "image", "inspect", "--format", "{{.Id}}", name) and not _said(
        "docker", "pull", "--quiet", name, timeout_s=300
    ):
        raise MissingError(f"the image {name} is neither here nor to be had (--base names another)")


def _said(*argv: str, timeout_s: float = 30.0) -> str:
    """What a program printed; empty where it is absent, failed or hung."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
