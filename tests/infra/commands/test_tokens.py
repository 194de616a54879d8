from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.state import StateDir
from wire.pull_tokens import PullTokens


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    state = StateDir(tmp_path / "state")
    state.make()
    monkeypatch.setenv("HEADWATER_STATE_DIR", str(state.root))
    return state


def run(*arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["tokens", *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def test_a_token_is_shown_once_and_opens_what_was_asked_for(state: StateDir) -> None:
    code, made = run("create", "--model", "chat-*", "--model", "code", "--note", "farm")
    assert code == 0
    reader = PullTokens.open(state.pull_tokens("edge")).reader(made["token"])
    assert reader is not None
    assert reader.patterns == ("chat-*", "code")
    code, listed = run("list")
    (shown,) = listed["tokens"]
    assert shown["token_id"] == made["token_id"]
    assert (shown["models"], shown["expires"], shown["note"]) == (["chat-*", "code"], None, "farm")
    assert made["token"] not in str(listed)


def test_each_tier_has_tokens_of_its_own(state: StateDir) -> None:
    run("create", "--model", "*", "--tier", "origin", "--expires-days", "1")
    assert run("list")[1]["tokens"] == []
    (shown,) = run("list", "--tier", "origin")[1]["tokens"]
    assert shown["expires"] > shown["created"]


def test_a_revoked_token_is_gone(state: StateDir) -> None:
    _, made = run("create", "--model", "*")
    assert run("revoke", made["token_id"])[0] == 0
    assert PullTokens.open(state.pull_tokens("edge")).reader(made["token"]) is None
    code, refused = run("revoke", made["token_id"])
    assert code == FAILED
    assert "headwater tokens list" in refused["error"]["message"]


def test_another_file_can_be_named(tmp_path: Path) -> None:
    file = tmp_path / "pull-tokens.json"
    _, made = run("create", "--model", "*", "--file", str(file))
    assert PullTokens.open(file).reader(made["token"]) is not None


def test_what_cannot_be_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_STATE_DIR", str(tmp_path / "none"))
    code, refused = run("create", "--model", "*")
    assert code == USAGE
    assert "headwater up" in refused["error"]["message"]
    code, refused = run("create", "--model", "a b", "--file", str(tmp_path / "x.json"))
    assert code == USAGE


def test_people_see_a_table(state: StateDir) -> None:
    result = CliRunner().invoke(app, ["tokens", "create", "--model", "chat"])
    assert result.exit_code == 0
    assert "hf_" in result.stdout
    assert "not shown again" in result.stderr
    assert "never" in CliRunner().invoke(app, ["tokens", "list"]).stdout
