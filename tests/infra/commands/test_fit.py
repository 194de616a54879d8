"""``headwater fit`` on files: its options, its answer, its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from tests.fakes.shaped_gguf import LLAMA_8B, write_shaped_gguf


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """8.5 GB of holes."""
    return str(write_shaped_gguf(tmp_path_factory.mktemp("m") / "m-Q8_0.gguf", LLAMA_8B, "Q8_0"))


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["fit", *arguments])


def answer(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_asked_context_and_slots_count(model: str) -> None:
    usual = answer(model, "--hardware", "rtx4090")
    assert usual["ask"]["context_tokens"] == 4_096
    more = answer(model, "--hardware", "rtx4090", "--context", "8192", "--slots", "2")
    assert more["ask"]["context_tokens"] == 8_192
    assert more["variants"][0]["kv_bytes"] == usual["variants"][0]["kv_bytes"]
    fewer_bits = answer(model, "--hardware", "rtx4090", "--kv-type", "q8_0")
    assert fewer_bits["variants"][0]["kv_bytes"] < usual["variants"][0]["kv_bytes"]


def test_the_configuration_counts_and_the_command_line_over_it(model: str, tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(
        '[worker.engine]\nslots = 1\n[worker.fit]\nhardware = "t4"\nmemory_share = 0.5\n'
    )
    found = answer(model, "--config", str(file))
    assert (found["ask"]["slots"], found["hardware"]["name"]) == (1, "Tesla T4")
    assert found["choice"]["row"]["where"] == "partial"
    other = answer(model, "--config", str(file), "--hardware", "h100", "--slots", "3")
    assert (other["ask"]["slots"], other["choice"]["row"]["where"]) == (3, "gpu")


def test_this_machine_is_judged_where_none_is_named(model: str) -> None:
    result = run(model, "--json")
    assert result.exit_code in {0, FAILED}
    assert json.loads(result.stdout)["hardware"]["ram_bytes"] > 0


def test_what_fits_nowhere_is_shown_and_is_a_failure(model: str) -> None:
    result = run(model, "--hardware", "cpu-laptop", "--ram", "8")
    assert result.exit_code == FAILED
    assert "boot would refuse it" in result.stdout
    assert "are missing" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--hardware", "abacus"], "known: rtx3060-12"),
        (["--kv-type", "q9"], "keys and values are kept as"),
        (["--ram", "8"], "--ram goes with --hardware"),
        (["--variant", "Q4_0"], "a file is one variant"),
    ],
)
def test_what_cannot_be_asked_is_refused(model: str, arguments: list[str], why: str) -> None:
    result = run(model, *arguments)
    assert result.exit_code == USAGE
    assert why in " ".join(result.stderr.split())


def test_a_model_without_a_system_or_a_source_is_refused(tmp_path: Path) -> None:
    result = run("chat", "--state-dir", str(tmp_path))
    assert result.exit_code == USAGE
    assert "nothing runs" in result.stderr
