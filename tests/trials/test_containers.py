"""What the trial of containers reads and types; the trial itself needs an engine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.dockerfile import IMAGES, ROOT
from tests.fakes.markdown import commands_in, section
from tests.trials.container_steps import BASE, BUILD, PAGE, REDIS, SECTION, SERVICES, Trial
from tests.trials.reading import (
    Rights,
    filled,
    missing_libraries,
    not_well,
    read_containers,
    read_rights,
    translated,
)
from tests.trials.stepping import TrialError
from tests.trials.terminal import Engine, Terminal

COMMANDS = commands_in(section((ROOT / PAGE).read_text(), SECTION))
OLD = Engine("20.10.24", "docker-compose", waits=False)
STATUS = """Name:	python
Uid:	10001	10001	10001	10001
CapPrm:	0000000000000000
CapEff:	0000000000000000
NoNewPrivs:	1
overlay / overlay ro,relatime,lowerdir=/a:/b 0 0
tmpfs /tmp tmpfs rw,nosuid 0 0
"""


def inspected(service: str, status: str = "running", **more: Any) -> dict[str, Any]:
    labels = {
        "com.docker.compose.service": service,
        "com.docker.compose.oneoff": more.get("oneoff", "False"),
    }
    state: dict[str, Any] = {"Status": status, "ExitCode": 0, "Pid": 7}
    if health := more.get("health", "healthy"):
        state["Health"] = {"Status": health}
    return {
        "Name": f"/p_{service}_1",
        "RestartCount": 2,
        "Config": {"Labels": labels},
        "State": state,
    }


def test_containers_are_read_by_service_without_those_that_ran_once() -> None:
    listed = [inspected("edge"), inspected("edge", "exited", oneoff="True")]
    (edge,) = read_containers(json.dumps(listed)).values()
    assert (edge.name, edge.pid, edge.restarts, edge.exit_code) == ("p_edge_1", 7, 2, 0)
    assert edge.well


def test_whoever_is_missing_or_not_healthy_is_named() -> None:
    listed = [inspected("edge", health="starting"), inspected("redis", health=""), inspected("a")]
    assert not_well(read_containers(json.dumps(listed)), ["edge", "worker"]) == [
        "worker: no container",
        "edge: running, starting",
        "redis: running, no health check",
    ]


def test_rights_are_read_from_proc() -> None:
    assert read_rights(STATUS) == Rights(10001, 0, no_new_privileges=True, read_only=True)
    assert read_rights(STATUS).too_many() == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("Uid:\t10001", "Uid:\t0", "is root"),
        ("CapPrm:\t0000000000000000", "CapPrm:\t0000000000000400", "has capabilities 0x400"),
        ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "may get new privileges"),
        ("overlay ro,", "overlay rw,", "can write its root"),
    ],
)
def test_each_right_that_is_too_many_is_named(right: str, wrong: str, said: str) -> None:
    assert read_rights(filled(STATUS, {right: wrong})).too_many() == [said]


def test_a_library_that_is_not_found_is_named_with_its_file() -> None:
    said = "/a.so:\n\tlibc.so.6 => /lib/libc.so.6 (0x1)\n/b.so:\n\tlibgomp.so.1 => not found\n"
    assert missing_libraries(said) == {"/b.so": ["libgomp.so.1"]}
    assert missing_libraries("/a.so:\n\tstatically linked\n") == {}
    with pytest.raises(ValueError, match="named no file"):
        missing_libraries("sh: ldd: not found\n")


def test_the_page_has_every_command_that_the_trial_gives_something_to() -> None:
    assert COMMANDS[0].startswith("cd infra/compose ")
    assert BUILD in COMMANDS
    for part, places in (
        ("headwater publish", {"/srv/models:": "", "chat.gguf": ""}),
        ("curl http://127.0.0.1:7401/", {"KEY": "", ":7401/": ""}),
    ):
        (command,) = (command for command in COMMANDS if part in command)
        filled(command, places)
    ups = [command for command in COMMANDS if command.startswith("docker compose up ")]
    assert ups == ["docker compose up -d --wait origin edge", "docker compose up -d --wait"]
    with pytest.raises(ValueError, match="no longer has 'KEY'"):
        filled("curl", {"KEY": "k"})


def test_the_trial_knows_the_services_images_and_ports_of_the_compose_file() -> None:
    compose = (ROOT / "infra/compose/compose.yaml").read_text()
    assert {*IMAGES, "redis"} == set(SERVICES)
    assert f"image: {REDIS}\n" in compose
    for tier in IMAGES:
        dockerfile = (ROOT / f"infra/docker/{tier}.Dockerfile").read_text()
        assert f"ARG PYTHON_IMAGE={BASE}\n" in dockerfile
        assert f"image: headwater-{tier}:${{HEADWATER_VERSION:-local}}\n" in compose
    assert "${HEADWATER_ORIGIN_LISTEN:-" in compose
    assert "${HEADWATER_EDGE_LISTEN:-" in compose


@pytest.mark.parametrize(
    ("command", "old", "new"),
    [
        (
            "docker compose up -d --wait origin edge",
            "docker-compose up -d origin edge",
            "docker compose up -d --wait origin edge",
        ),
        (
            "docker compose run --rm origin a | sudo tee b",
            "docker-compose run -T --rm origin a | sudo tee b",
            "docker compose run -T --rm origin a | sudo tee b",
        ),
        ("docker compose exec a b", "docker-compose exec -T a b", "docker compose exec -T a b"),
        ("docker inspect a", "docker inspect a", "docker inspect a"),
    ],
)
def test_commands_are_typed_as_compose_wants_them(command: str, old: str, new: str) -> None:
    assert translated(command, "docker-compose", waits=False) == old
    assert translated(command, "docker compose", waits=True) == new


def test_a_terminal_stays_open(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, tmp_path / "left", os.environ)
    terminal.type("mkdir in && cd in && umask 077")
    assert terminal.type("touch made; pwd; sudo echo said") == f"{tmp_path / 'in'}\nsaid\n"
    assert (tmp_path / "in/made").stat().st_mode & 0o777 == 0o600
    with pytest.raises(TrialError, match=r"(?s)exit status 3: .*\nwhy"):
        terminal.type("(echo why >&2; exit 3) | cat")


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, tmp_path / "left", os.environ)
    with pytest.raises(TrialError, match="no end after 0 s"):
        terminal.type("sleep 60 & sleep 60", timeout_s=0.1)


def test_whatever_goes_wrong_with_a_step_ends_the_trial(tmp_path: Path) -> None:
    trial = Trial(OLD, tmp_path, BASE)
    with trial.step("well"):
        pass
    with pytest.raises(TrialError, match="not in time"), trial.step("late"):
        raise TimeoutError("not in time")
    assert [(step.step, step.ok) for step in trial.steps.done] == [("well", True), ("late", False)]
