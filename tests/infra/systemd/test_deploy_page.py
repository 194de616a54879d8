"""docs/how-to/deploy-services.md: its commands are a shell's, of programs and files that exist."""

from __future__ import annotations

import re
import subprocess

import pytest
from typer.testing import CliRunner

from infra.cli import app
from tests.fakes.markdown import ROOT, commands_of
from tests.fakes.units import FOLDER

PAGE = "how-to/deploy-services.md"
COMMANDS = commands_of(PAGE)
_HEADWATER = re.compile(r"(?:bin/|origin )headwater (.*?)(?: \||$)")


def headwater_commands() -> list[str]:
    return [found[1] for command in COMMANDS if (found := _HEADWATER.search(command))]


def test_every_command_is_one_that_a_shell_takes() -> None:
    script = "\n".join(COMMANDS)
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=30)
    assert done.stderr == ""
    assert len(COMMANDS) > 30


@pytest.mark.parametrize("command", headwater_commands())
def test_every_option_that_is_named_exists(command: str) -> None:
    words = command.split()
    verbs = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    shown = CliRunner().invoke(app, [*verbs, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert shown.exit_code == 0, shown.output
    for option in re.findall(r"(--[a-z-]+)", command):
        assert option in shown.output, f"{verbs} has no {option}"


def test_every_file_that_is_copied_is_shipped() -> None:
    text = "\n".join(COMMANDS)
    for path in set(re.findall(r"infra/[\w./*-]+", text)) - {"infra/docker/TIER.lock"}:
        assert list(ROOT.glob(path)), path
    for unit in set(re.findall(r"headwater-(?:origin|worker|edge@)", text)):
        assert (FOLDER / f"{unit}.service").exists()
    for tier in ("origin", "edge", "worker"):
        assert (ROOT / f"infra/docker/{tier}.lock").exists()


def test_the_page_names_every_credential_of_every_unit() -> None:
    text = (ROOT / "docs" / PAGE).read_text()
    for unit in FOLDER.glob("*.service"):
        for name in re.findall(r"LoadCredential=([\w-]+):", unit.read_text()):
            assert f"`{name}`" in text
