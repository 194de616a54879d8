from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from tests.fakes.tier import Canned
from tests.infra.test_restoring import ONE, Lost, answers_of, lost
from wire.paths import manifest_path

__all__ = ["lost"]


@pytest.fixture(autouse=True)
def _where(lost: Lost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("store", "keys_dir", "admin_token_file"):
        value = str(getattr(lost.config, name))
        monkeypatch.setenv(f"HEADWATER_ORIGIN__{name.upper()}", value)


def run(lost: Lost, *more: str) -> Result:
    result = CliRunner().invoke(app, ["origin", "restore", "--from", lost.edge.url, *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_it_says_what_it_did_and_what_it_could_not(lost: Lost) -> None:
    lost.edge.answers |= answers_of(lost.repository, f"revision:{ONE.id}")
    result = run(lost)
    assert result.exit_code == 0, result.output
    for said in (
        f"from {lost.edge.url}: timestamp 3, root 1, 1 channels, 2 revisions; fresh",
        "1 revisions, 2 chunks, 2.00 kB",
        f"headwater purge revision:{ONE.id} --hard",
        "pins: `headwater pin` again",
    ):
        assert said in result.stdout


def test_what_is_on_no_edge_is_a_failure(lost: Lost) -> None:
    del lost.edge.answers[f"GET {manifest_path(ONE.id)}"]
    result = run(lost, "--json")
    assert result.exit_code == FAILED
    told = json.loads(result.stdout)
    assert told["failed"].keys() == {ONE.id}
    assert told["not_restored"]


def test_only_documents_and_the_rest_from_the_running_origin(lost: Lost) -> None:
    result = run(lost, "--documents-only")
    assert result.exit_code == 0
    assert "headwater verify --repair-from URL" in result.stdout


def test_a_second_time_is_refused(lost: Lost) -> None:
    run(lost)
    result = run(lost, "--json")
    assert result.exit_code == USAGE
    assert "never overwritten" in json.loads(result.stdout)["error"]["message"]


def test_a_root_of_another_place(lost: Lost, tmp_path: Path) -> None:
    file = tmp_path / "no-root.json"
    file.write_text("{}")
    result = run(lost, "--trust-root", str(file))
    assert result.exit_code == USAGE
    lost.edge.answers.clear()
    lost.edge.answers["GET /artifacts/trust/bundle"] = Canned(b"lie")
    assert run(lost).exit_code == FAILED
