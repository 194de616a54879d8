"""The page's commands, typed into a fresh clone, and what is looked at afterwards."""

from __future__ import annotations

import asyncio
import json
import secrets
import shlex
import socket
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from infra.ask import Answer, Asker
from infra.errors import AnswerError
from tests.fakes.headwater import ROOT, environment
from tests.fakes.markdown import commands_in, section
from tests.trials.reading import (
    PROJECT_LABEL,
    Container,
    filled,
    missing_libraries,
    not_well,
    read_containers,
    read_rights,
    translated,
)
from tests.trials.stepping import Step, Steps, TrialError
from tests.trials.terminal import Engine, Terminal

PAGE, SECTION = Path("docs/how-to/deploy-services.md"), "In containers"
BASE, REDIS = "python:3.11-slim-bookworm", "redis:7-alpine"
TIERS = ("origin", "edge", "worker")
SERVICES = (*TIERS, "redis")
BUILD = "docker compose build"
BUILD_S, HEALTHY_S = 900.0, 240.0
_LDD = "find /opt/headwater -type f -name '*.so*' -exec ldd {} + 2>/dev/null"


@dataclass(slots=True)
class Trial:
    """One run of the page.

    Args:
        folder: where the clone goes.
        base: the base image of all that is built.
    """

    engine: Engine
    folder: Path
    base: str
    project: str = field(default_factory=lambda: f"headwater-try-{secrets.token_hex(4)}")
    ports: dict[str, int] = field(default_factory=lambda: {"origin": _port(), "edge": _port()})
    key: str = ""
    steps: Steps = field(default_factory=Steps)
    terminal: Terminal = field(init=False)

    def __post_init__(self) -> None:
        told = {
            "COMPOSE_PROJECT_NAME": self.project,
            "HEADWATER_VERSION": self.project,
            # Compose 1 builds by the engine's own builder only when it is told to.
            "COMPOSE_DOCKER_CLI_BUILD": "1",
            "DOCKER_BUILDKIT": "1",
        }
        told |= {
            f"HEADWATER_{tier.upper()}_LISTEN": f"127.0.0.1:{port}"
            for tier, port in self.ports.items()
        }
        kept = {k: v for k, v in environment().items() if not k.startswith("COMPOSE_")}
        self.terminal = Terminal(self.folder, self.folder / "left", kept | told)

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """One step; what goes wrong with it ends the trial."""
        with self.steps.step(name) as one:
            try:
                yield one
            except (TimeoutError, AnswerError, ValueError) as error:
                raise TrialError(str(error)) from error

    def run(self) -> None:
        """All steps. Raises ``TrialError`` at the first that fails."""
        with self.step("clone the last commit"):
            self.type(f"git clone --quiet --depth 1 file://{shlex.quote(str(ROOT))} headwater")
            self.terminal.folder = self.folder / "headwater"
        page = (self.terminal.folder / PAGE).read_text()
        for command in commands_in(section(page, SECTION)):
            with self.step(textwrap.shorten(command, 48, placeholder=" …")):
                self.follow(command)
            if command == BUILD:
                with self.step("ldd finds every library, in each image"):
                    self.libraries()
        for name, check in (
            ("a streamed answer is whole", self.ask),
            ("no root, no capabilities, no writable root", self.rights),
            ("an edge that is killed comes back", self.kill),
            ("stop: exit status 0 of each", self.stop),
        ):
            with self.step(name):
                check()

    def type(self, command: str, timeout_s: float = 120.0) -> str:
        return self.terminal.type(
            translated(command, self.engine.compose, waits=self.engine.waits), timeout_s=timeout_s
        )

    def follow(self, command: str) -> None:
        """One command of the page, with what its reader puts in."""
        if command == BUILD:
            self.type(f"{command} --build-arg PYTHON_IMAGE={shlex.quote(self.base)}", BUILD_S)
        elif "headwater publish" in command:
            models = self.folder / "headwater/infra/demo_models"
            places = {"/srv/models:": f"{models}:", "chat.gguf": "edge-small-r1.gguf"}
            self.type(filled(command, places))
        elif "headwater keys create" in command:
            self.key = json.loads(self.type(f"{command} --json"))["key"]
        elif command.startswith("curl "):
            places = {"KEY": self.key, ":7401/": f":{self.ports['edge']}/"}
            answer = json.loads(self.type(filled(command, places)))
            if not answer.get("choices"):
                raise TrialError(f"no answer: {answer}")
        elif command.startswith("docker compose up "):
            self.type(command, HEALTHY_S)
            self.wait([name for name in SERVICES if f" {name}" in command] or SERVICES)
        else:
            self.type(command)

    def containers(self) -> dict[str, Container]:
        found = self.made("docker ps -aq")
        return read_containers(self.type(f"docker inspect {found}")) if found else {}

    def made(self, listing: str) -> str:
        """The ids of what belongs to the project."""
        said = self.type(f"{listing} --filter label={PROJECT_LABEL}={self.project}")
        return " ".join(said.split())

    def wait(self, services: tuple[str, ...] | list[str]) -> None:
        """Until all of them are healthy."""
        with suppress(TimeoutError):
            _soon(lambda: not not_well(self.containers(), services), HEALTHY_S)
        if problems := not_well(self.containers(), services):
            raise TrialError("; ".join(problems))

    def ask(self) -> None:
        answer = asyncio.run(_ask(f"http://127.0.0.1:{self.ports['edge']}", self.key))
        if not answer.whole or not answer.text.strip():
            raise TrialError(f"not whole: {answer.text!r} {answer.finish_reason} {answer.error}")

    def libraries(self) -> None:
        for tier in TIERS:
            image = f"headwater-{tier}:{self.project}"
            said = self.type(f"docker run --rm --network none {image} sh -c {shlex.quote(_LDD)}")
            if missing := missing_libraries(said):
                raise TrialError(f"{tier} lacks {missing}")

    def rights(self) -> None:
        for name, one in self.containers().items():
            rights = read_rights(
                self.type(f"docker exec {one.name} cat /proc/1/status /proc/1/mounts")
            )
            if too_many := rights.too_many():
                raise TrialError(f"{name} {', '.join(too_many)}")

    def kill(self) -> None:
        """kill -9, as the kernel does when memory is short; ``docker kill`` counts as a stop."""
        before = self.containers()["edge"]
        # From outside of its namespace, where its first process is not spared; see kill(2).
        killer = f"--pid host --network none headwater-edge:{self.project}"
        self.type(f"docker run --rm --user 0 {killer} sh -c 'kill -9 {before.pid}'")
        _soon(lambda: self.containers()["edge"].restarts > before.restarts, 60)
        self.wait(SERVICES)
        # The worker tells the new process of itself with its next heartbeat.
        _soon(self._answers, 60)

    def _answers(self) -> bool:
        try:
            self.ask()
        except (TrialError, AnswerError):
            return False
        return True

    def stop(self) -> None:
        self.type("docker compose stop", 200)
        bad = {
            name: one.exit_code
            for name, one in self.containers().items()
            if (one.status, one.exit_code) != ("exited", 0)
        }
        if bad:
            raise TrialError(f"ended otherwise: {bad}")

    def logs(self) -> str:
        with suppress(TrialError):
            return self.type("docker compose logs --no-color --tail 15")
        return ""

    def remove(self) -> None:
        """Everything that was made, also what a broken step has left."""
        with self.step("remove everything"):
            if running := self.made("docker ps -aq"):
                self.type(f"docker rm --force --volumes {running}")
            for kind in ("volume", "network"):
                if found := self.made(f"docker {kind} ls -q"):
                    self.type(f"docker {kind} rm {found}")
            mine = f"--filter reference='headwater-*:{self.project}'"
            named = self.type(f"docker images {mine} --format '{{{{.Repository}}}}:{{{{.Tag}}}}'")
            if named.strip():
                # By name: another tag may be of the same image.
                self.type(f"docker rmi {' '.join(named.split())}")


async def _ask(url: str, key: str) -> Answer:
    async with Asker(url, key, timeout_s=60) as asker:
        return await asker.ask(
            [{"role": "user", "content": "What is the capital of France?"}], model="edge-small"
        )


def _soon(condition: Callable[[], bool], deadline_s: float) -> None:
    """Wait until it holds; each look is a few processes. Raises ``TimeoutError``."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"not within {deadline_s:.0f} s")
        time.sleep(0.5)


def _port() -> int:
    """A port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
