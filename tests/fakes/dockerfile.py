"""Reads the Dockerfiles that are shipped, and does what they say below a folder of this machine:
the same commands in the same order, with the image's paths put below the folder. No engine needed.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "docker"
IMAGES = ("origin", "edge", "worker")
_PATHS = ("/opt/headwater", "/var/lib/headwater", "/run/secrets", "/src", "/data")
_FLAG = re.compile(r"--([\w-]+)=(\S+)\s+")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    value: str

    @property
    def flags(self) -> dict[str, str]:
        """``--from=build`` and the like."""
        return dict(_FLAG.findall(self._split()[0]))

    @property
    def rest(self) -> str:
        """What follows the flags."""
        return self._split()[1]

    @property
    def command(self) -> list[str]:
        """The exec form of CMD, and of HEALTHCHECK's CMD."""
        found: list[str] = json.loads(self.rest.removeprefix("CMD").strip())
        return found

    def _split(self) -> tuple[str, str]:
        found = re.match(rf"((?:{_FLAG.pattern})*)(.*)", self.value, re.DOTALL)
        assert found is not None
        return found[1], found[found.re.groups]


@dataclass(frozen=True, slots=True)
class Stage:
    """From one FROM to the next."""

    base: str
    name: str
    instructions: list[Instruction]

    def all(self, name: str) -> list[Instruction]:
        return [one for one in self.instructions if one.name == name]

    def last(self, name: str) -> Instruction:
        return self.all(name)[-1]

    @property
    def environment(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for one in self.all("ENV"):
            found |= dict(word.split("=", 1) for word in shlex.split(one.value))
        return found


def read_dockerfile(text: str) -> tuple[dict[str, str], list[Stage]]:
    """The arguments before the first stage with their defaults, and the stages."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in joined.splitlines():
        name, _, value = line.strip().partition(" ")
        if name == "FROM":
            base, _, alias = value.partition(" AS ")
            stages.append(Stage(base, alias, []))
        elif stages:
            stages[-1].instructions.append(Instruction(name, value.strip()))
        else:
            assert name == "ARG", line
            key, _, default = value.partition("=")
            arguments[key] = default
    return arguments, stages


def image(tier: str) -> tuple[dict[str, str], list[Stage]]:
    """A tier's Dockerfile."""
    return read_dockerfile((FOLDER / f"{tier}.Dockerfile").read_text())


def python_for(user: int) -> str:
    """A Python of this version that a user without rights may run; empty where there is none."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    here = Path(sys.base_prefix) / "bin" / f"python{version}"
    for python in (str(here), f"/usr/local/bin/python{version}", f"/usr/bin/python{version}"):
        try:
            done = subprocess.run([python, "-c", "import venv"], user=user, check=False)
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return ""


def in_context(path: str) -> bool:
    """Whether ``.dockerignore`` lets a file into the build; the last pattern that fits decides."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        wanted, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        if _fits(path, pattern):
            kept = wanted
    return kept


def _fits(path: str, pattern: str) -> bool:
    """A pattern fits a file, and everything below a folder that it fits."""
    parts = path.split("/")
    above = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    if pattern.startswith("**/"):
        return any(fnmatch.fnmatch(part, pattern[3:]) for part in parts)
    return any(
        fnmatch.fnmatch(one, pattern) and one.count("/") == pattern.count("/") for one in above
    )


@dataclass(slots=True)
class Built:
    """An image below a folder.

    Args:
        root: stands for the image's root.
        python: the base image's.
    """

    tier: str
    root: Path
    python: str
    environment: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)
    """The image's port → the one that is used here."""

    def here(self, text: str) -> str:
        """Text with the image's paths, and its port, put to where they are here."""
        for path in _PATHS:
            text = text.replace(path, str(self.root) + path)
        for port, used in self.ports.items():
            text = re.sub(rf"(?<=:){port}\b", used, text)
        return text

    def build(self) -> None:
        """Do what the Dockerfile says, up to its last stage."""
        _, (first, last) = image(self.tier)
        tools = self.root / "tools"
        tools.mkdir(parents=True)
        # Python as the base image has it: one that anybody may run, and pip.
        pip, python = f'exec "{sys.executable}" "$@"', f'exec "{self.python}" "$@"'
        (tools / "python").write_text(f'#!/bin/sh\n[ "$2" = pip ] && {pip}\n{python}\n')
        (tools / "python").chmod(0o755)
        environ = {name: os.environ[name] for name in os.environ if not name.startswith("PYTHON")}
        # The image keeps no cache; this machine may, and is spared a download each time.
        environ |= {n: v for n, v in first.environment.items() if n != "PIP_NO_CACHE_DIR"}
        environ["PATH"] = f"{tools}:{environ['PATH']}"
        folder = Path(self.here("/src"))
        folder.mkdir()
        for one in first.instructions:
            if one.name == "RUN":
                self._run(one.value, folder, environ)
            elif one.name == "ARG":
                key, _, default = one.value.partition("=")
                environ[key] = default.strip('"')
            elif one.name == "COPY":
                self._copy(one, folder)
        for one in last.all("COPY"):
            source, target = one.rest.split()
            if source != target:
                Path(self.here(target)).parent.mkdir(parents=True, exist_ok=True)
                shutil.move(self.here(source), self.here(target))
        for name, value in last.environment.items():
            self.environment[name] = self.here(value)
        self.environment["PATH"] = self.environment["PATH"].replace("$PATH", os.environ["PATH"])

    def command(self, words: list[str]) -> list[str]:
        """A command of the image as it is run here."""
        found = [self.here(word) for word in words]
        found[0] = self.here(f"/opt/headwater/bin/{found[0]}")
        return found

    def _run(self, command: str, folder: Path, environ: Mapping[str, str]) -> None:
        done = subprocess.run(
            ["/bin/sh", "-ec", self.here(command)],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"

    def _copy(self, one: Instruction, folder: Path) -> None:
        source, target = one.rest.split()
        place = Path(self.here(target)) if target.startswith("/") else folder / target
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, place, ignore=_ignored)
            return
        place = place / Path(source).name if target.endswith("/") else place
        shutil.copy2(ROOT / source, place)
        if "chmod" in one.flags:
            place.chmod(int(one.flags["chmod"], 8))
            place.write_text(self.here(place.read_text()))


def _ignored(folder: str, names: list[str]) -> set[str]:
    below = Path(folder).relative_to(ROOT)
    return {name for name in names if not in_context(str(below / name))}
