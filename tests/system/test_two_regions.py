"""docs/how-to/two-regions.md, done as its reader does it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.fleet import eventually
from tests.fakes.headwater import ROOT, Up, environment, headwater
from tests.fakes.markdown import commands_of
from tests.fakes.processes import processes_in

COMMANDS = commands_of("how-to/two-regions.md")
REGIONS = ("eu-west", "us-east")
# The page's ports may be taken here.
PORTS = "".join(f" --{tier}-port=0" for tier in ("origin", "edge", "worker", "cloud"))


@dataclass(slots=True)
class Reader:
    """Somebody who types what the page says, in the folder that they cloned."""

    folder: Path
    done: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return environment({"HEADWATER_STATE_DIR": str(self.folder), "COLUMNS": "120"})

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


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """The whole page, once; the system runs on until the tests are over."""
    pytest.importorskip("xllamacpp")
    folder = tmp_path_factory.mktemp("regions")
    reader = Reader(folder)
    (up,) = (command for command in COMMANDS if " up " in command)
    with (folder.parent / "up.log").open("wb") as log:
        process = subprocess.Popen(
            reader.argv(up + PORTS), cwd=ROOT, env=reader.environ, stdout=log, stderr=log
        )
    running = Up(process, folder / "ready.json", folder)
    try:
        eventually(lambda: running.is_ready() or process.poll() is not None, 90)
        assert process.poll() is None, (folder.parent / "up.log").read_text()
        for command in COMMANDS[COMMANDS.index(up) + 1 :]:
            reader.type(command)
        yield reader
        assert running.interrupt() == 0
        assert processes_in(folder) == []
    finally:
        process.kill()
        process.wait()


def fleet(reader: Reader) -> dict[str, Any]:
    _, document, _ = headwater("fleet", state_dir=reader.folder)
    found: dict[str, Any] = document
    return found


def test_it_takes_six_commands_from_the_clone() -> None:
    assert len(COMMANDS) <= 6
    assert COMMANDS[0].startswith("git clone ")
    assert COMMANDS[1] == "make venv"
    assert "venv:" in (ROOT / "Makefile").read_text()
    assert (ROOT / "infra/demo_models/edge-small-r2.gguf").exists()


def test_a_region_that_is_named_answers(reader: Reader) -> None:
    said = reader.said("chat")
    assert "Paris" in said
    assert "worker; model=edge-small" in said


def test_the_fleet_shows_both_regions_and_is_well(reader: Reader) -> None:
    said = reader.said("fleet")
    for region in REGIONS:
        assert f"edge-{region}" in said
        assert f"worker-{region}" in said


def test_a_roll_reaches_both_regions(reader: Reader) -> None:
    reader.said("publish")

    def consistent() -> bool:
        found = fleet(reader)
        (channel,) = (c for c in found["channels"] if c["model"] == "edge-small")
        return bool(channel["consistent"]) and channel["serving"] == len(REGIONS)

    eventually(consistent, 60)
    assert {edge["region"] for edge in fleet(reader)["edges"]} == set(REGIONS)


def test_every_region_has_what_the_page_says(reader: Reader) -> None:
    ready = json.loads((reader.folder / "ready.json").read_text())
    assert [region["name"] for region in ready["regions"]] == list(REGIONS)
    for region in REGIONS:
        home = reader.folder / "regions" / region
        assert (home / "headwater.toml").exists()
        assert (home / "logs" / "edge.log").exists()
        assert (home / "run" / "worker.json").exists()
        assert (home / "secrets" / "worker-token").stat().st_mode & 0o077 == 0
        for name in ("edge", "worker"):
            assert any((home / name).iterdir())
