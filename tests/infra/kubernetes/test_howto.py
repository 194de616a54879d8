"""What docs/how-to/kubernetes.md says is so."""

from __future__ import annotations

import re

import pytest
import typer.main

from infra.cli import app
from tests.fakes.kubernetes import ROOT, bytes_of, named, overlay, pod, tiers
from tests.fakes.kubernetes_checks import startup_budget_s

REPOSITORY = ROOT.parents[1]
DOCKER = REPOSITORY / "infra" / "docker"
TEXT = (REPOSITORY / "docs" / "how-to" / "kubernetes.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"^```\n(.*?)^```", TEXT.replace("\\\n", " "), re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
    if line.startswith("headwater ")
]


def test_every_file_that_is_named_is_there() -> None:
    named_paths = set(re.findall(r"\b((?:infra|docs|tests)/[\w./-]+\w)", TEXT))
    assert "infra/kubernetes/overlays/laptop" in named_paths
    for path in named_paths:
        if path == "docs/adr/0037" or (path.startswith("infra/docker") and not DOCKER.exists()):
            continue
        assert (REPOSITORY / path).exists(), path
    for short in re.findall(r"`((?:base|components|overlays)/[\w./-]+)`", TEXT):
        assert (ROOT / short).exists(), short


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_takes_the_options_that_are_given(line: str) -> None:
    words = line.split("#")[0].split()[1:]
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = getattr(command, "commands", {})[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_laptop_asks_for_what_is_said() -> None:
    asked = [found.container["resources"]["requests"] for found in tiers(overlay("laptop"))]
    cpu = sum(int(one["cpu"].removesuffix("m")) for one in asked)
    memory = sum(bytes_of(one["memory"]) for one in asked) // 2**20
    assert f"{cpu}m CPU and {memory} MiB" in TEXT


def test_the_arithmetic_of_scaling_is_that_of_the_objects() -> None:
    objects = overlay("eu-west")
    metrics = named(objects, "HorizontalPodAutoscaler", "edge")["spec"]["metrics"]
    streams = metrics[1]["pods"]["target"]["averageValue"]
    assert f"`headwater_gateway_streams` is held to {streams} an edge" in TEXT
    assert f"CPU to {metrics[0]['resource']['target']['averageUtilization']} %" in TEXT
    triggers = named(objects, "ScaledObject", "worker")["spec"]["triggers"]
    waiting, running = (int(trigger["metadata"]["threshold"]) for trigger in triggers)
    assert f"requests that run at {running} a worker and those that wait at {waiting}" in TEXT
    assert "24 streams make 8 workers; 12 that run and 10 that wait make 5" in TEXT
    assert (24 / running, max(12 / running, 10 / waiting)) == (8, 5)


def test_the_time_for_a_first_pull_is_that_of_the_probe() -> None:
    worker = pod(overlay("eu-west"), "worker")
    probe = worker.container["startupProbe"]
    assert f"{probe['failureThreshold']} × {probe['periodSeconds']} s are given" in TEXT
    assert startup_budget_s(worker) >= 43e9 / 100e6 + 600 == 1_030
