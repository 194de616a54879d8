"""What an engine prints, read; and a page's commands as this machine's Compose wants them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

PROJECT_LABEL = "com.docker.compose.project"
_SERVICE_LABEL = "com.docker.compose.service"
_ONE_OFF_LABEL = "com.docker.compose.oneoff"


@dataclass(frozen=True, slots=True)
class Container:
    """One service's container, from ``docker inspect``."""

    name: str
    service: str
    status: str
    health: str
    exit_code: int
    pid: int
    """On the host; 0 where it does not run."""
    restarts: int

    @property
    def well(self) -> bool:
        return (self.status, self.health) == ("running", "healthy")

    def __str__(self) -> str:
        return f"{self.service}: {self.status}, {self.health or 'no health check'}"


@dataclass(frozen=True, slots=True)
class Rights:
    """What the first process of a container may do, from its ``/proc``."""

    user: int
    capabilities: int
    no_new_privileges: bool
    read_only: bool
    """Its root file system."""

    def too_many(self) -> list[str]:
        """What it should not have; empty where all is well."""
        found = {
            "is root": self.user == 0,
            f"has capabilities {self.capabilities:#x}": self.capabilities != 0,
            "may get new privileges": not self.no_new_privileges,
            "can write its root": not self.read_only,
        }
        return [what for what, so in found.items() if so]


def read_containers(text: str) -> dict[str, Container]:
    """Service → its container; those of ``compose run`` are left out."""
    found = {}
    for one in json.loads(text):
        labels, state = one["Config"]["Labels"], one["State"]
        if labels.get(_ONE_OFF_LABEL) == "True":
            continue
        found[labels[_SERVICE_LABEL]] = Container(
            name=one["Name"].removeprefix("/"),
            service=labels[_SERVICE_LABEL],
            status=state["Status"],
            health=(state.get("Health") or {}).get("Status", ""),
            exit_code=state["ExitCode"],
            pid=state["Pid"],
            restarts=one["RestartCount"],
        )
    return found


def read_rights(text: str) -> Rights:
    """``/proc/1/status`` and ``/proc/1/mounts``, one after the other; see proc(5)."""
    fields = dict(re.findall(r"^(\w+):\s+(\w+)", text, re.MULTILINE))
    (options,) = re.findall(r"^\S+ / \S+ (\S+) ", text, re.MULTILINE)
    return Rights(
        user=int(fields["Uid"]),
        capabilities=int(fields["CapEff"], 16) | int(fields["CapPrm"], 16),
        no_new_privileges=fields["NoNewPrivs"] == "1",
        read_only="ro" in options.split(","),
    )


def missing_libraries(text: str) -> dict[str, list[str]]:
    """File → libraries that ``ldd`` has not found for it.

    Raises:
        ValueError: it names no file at all, so that nothing was looked at.
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.endswith(":") and line.startswith("/"):
            file = line.removesuffix(":")
            found[file] = []
        elif line.rstrip().endswith("=> not found"):
            found[file].append(line.split()[0])
    if not found:
        raise ValueError(f"ldd named no file: {text[:200]!r}")
    return {file: names for file, names in found.items() if names}


def not_well(found: Mapping[str, Container], wanted: Iterable[str]) -> list[str]:
    """The services that are missing or not healthy, with what they are."""
    missing = [f"{name}: no container" for name in wanted if name not in found]
    return missing + [str(one) for one in found.values() if not one.well]


def translated(command: str, compose: str, *, waits: bool) -> str:
    """A command of the page, which is for Compose 2, without a terminal.

    Args:
        compose: how Compose is called here.
        waits: whether it knows ``--wait``; whoever types it waits instead where it does not.
    """
    said = re.sub(r"\bdocker compose (exec|run)\b", r"docker compose \1 -T", command)
    if not waits:
        said = re.sub(r"(\bdocker compose up\b.*?) --wait\b", r"\1", said)
    return re.sub(r"\bdocker compose\b", compose, said)


def filled(command: str, values: Mapping[str, str]) -> str:
    """A command with what its reader puts in; each value must have a place in it."""
    for place, value in values.items():
        if place not in command:
            raise ValueError(f"the page no longer has {place!r} in {command!r}")
        command = command.replace(place, value)
    return command
