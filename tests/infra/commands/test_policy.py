from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra.cli import app

FILE = """
[tenants]
hospital = "strict"
[policies.strict]
privacy = "local"
residency = "eu"
shadow = true
[[policies.strict.content]]
name = "codenames"
words = ["bluebird"]
[[policies.strict.routes]]
name = "nights"
when = { latency = "batch" }
target = "local"
"""


def run(*arguments: str, status: int = 0) -> str:
    result = CliRunner().invoke(app, ["policy", "check", *arguments], env={"COLUMNS": "80"})
    assert result.exit_code == status, result.output
    return result.output


def test_a_valid_file_is_summed_up_without_its_words(tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(FILE)
    out = run(str(file))
    for text in ("default", "strict", "local", "eu", "codenames", "nights", "hospital", "valid"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(run(str(file), "--json"))
    assert found["valid"] is True
    assert found["policies"]["strict"]["routes"] == ["nights"]
    assert found["policies"]["strict"]["tenants"] == ["hospital"]
    assert found["policies"]["default"]["privacy"] == "any"
    assert "bluebird" not in out + json.dumps(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [(FILE.replace("latency", "latenzy"), "latenzy"), ("nonsense", "not TOML"), (None, "cannot")],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "policies.toml"
    if text is not None:
        file.write_text(text)
    assert said in run(str(file), status=2)
    assert (
        said
        in json.loads(run(str(file), "--json", status=2).partition("\nerror:")[0])["error"][
            "message"
        ]
    )
