"""``headwater publish`` says what is missing before it reads or asks anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import USAGE


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["x.gguf"], "--model NAME"),
        (["https://example.org/x.gguf"], "--model NAME"),
        (["x.gguf", "--model", "m", "--keep-source"], "goes with --quant"),
        (["hf://org/name"], "no origin is known"),
        (["x.gguf", "--model=m", "--no-golden", "--golden-prompts=p.txt"], "with --golden"),
        (["x.gguf", "--model=m", "--golden-prompts=absent.txt"], "golden prompts absent.txt"),
        (["x.gguf", "--model=m", "--immutable=*.js"], "goes with --kind static"),
        (["dist", "--kind=static"], "give the site a name: --model NAME"),
        (["dist", "--kind=static", "--model=m", "--quant=Q8_0", "--golden"], "--quant, --golden:"),
        (["dist", "--kind=other", "--model=m"], "Invalid value"),
    ],
)
def test_a_publish_that_cannot_be_is_refused(
    tmp_path: Path, arguments: list[str], why: str
) -> None:
    done = CliRunner().invoke(app, ["publish", *arguments, "--state-dir", str(tmp_path)])
    assert done.exit_code == USAGE
    assert why in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_a_size_is_a_number_of_gigabytes(tmp_path: Path) -> None:
    for size in ("0", "-1", "nan", "x", "1e9", "1000000"):
        arguments = ["publish", "hf://org/name", "--max-size", size, "--state-dir", str(tmp_path)]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == USAGE
        assert "Invalid value" in done.stderr
