from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.state import Ready, StateDir, write_ready
from tests.fakes.headwater import ROOT, environment
from tests.fakes.tier import Canned, StubTier, stub_tier

ORDER: dict[str, Any] = {
    "command": {"id": "c1", "node": "w1", "action": "drain"},
    "state": "waiting",
    "problem": "",
    "edges": [],
}
FLEET = {
    "edges": [],
    "workers": [],
    "channels": [],
    "commands": [],
    "healthy": True,
    "takes_reports": True,
}
CONSISTENT = {
    "model": "chat",
    "channel": "stable",
    "revision": "a" * 64,
    "sequence": 2,
    "canary": "",
    "workers": 1,
    "serving": 1,
    "serving_canary": 0,
    "apart": [],
    "consistent": True,
}


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubTier]:
    """The origin of a state directory."""
    with stub_tier(
        {
            "GET /admin/fleet": Canned(FLEET),
            "GET /admin/fleet/consistency": Canned(CONSISTENT),
            "POST /admin/fleet/commands": Canned(ORDER),
            "DELETE /admin/fleet/nodes/w1": Canned({"forgotten": "w1"}),
        }
    ) as stub:
        state = StateDir(tmp_path)
        ready = Ready(
            origin=stub.url,
            edge="",
            worker="",
            cloud="",
            api_key="",
            admin_token="hwadm-x",
            state_dir=str(tmp_path),
        )
        write_ready(state.ready_file, ready)
        monkeypatch.setenv("HEADWATER_STATE_DIR", str(tmp_path))
        yield stub


def run(*arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["fleet", *arguments, "--json"])
    return result.exit_code, json.loads(result.stdout)


def shown(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["fleet", *arguments])
    return result.exit_code, result.stdout


def test_a_fleet_that_is_well_is_shown(origin: StubTier) -> None:
    assert run() == (0, FLEET)
    assert origin.received[0].headers["authorization"] == "Bearer hwadm-x"
    status, text = shown()
    assert (status, "no edge has reported" in text) == (0, True)


def test_one_that_is_not_well_exits_1(origin: StubTier) -> None:
    origin.answers["GET /admin/fleet"] = Canned({**FLEET, "healthy": False})
    assert run()[0] == FAILED


@pytest.mark.parametrize("action", ["drain", "resume", "restart", "repull"])
def test_a_node_is_commanded(origin: StubTier, action: str) -> None:
    status, order = run(action, "w1")
    assert (status, order) == (0, ORDER)
    body = json.loads(origin.received[0].body)
    assert (body["node"], body["action"]) == ("w1", action)
    assert "drain w1: waiting" in shown(action, "w1")[1]


@pytest.mark.parametrize(("state", "code"), [("done", 0), ("failed", FAILED), ("expired", FAILED)])
def test_waiting_tells_how_it_ended(origin: StubTier, state: str, code: int) -> None:
    origin.answers["GET /admin/fleet/commands/c1"] = Canned({**ORDER, "state": state})
    status, order = run("drain", "w1", "--wait")
    assert (status, order["state"]) == (code, state)


def test_waiting_has_an_end(origin: StubTier) -> None:
    origin.answers["GET /admin/fleet/commands/c1"] = Canned(ORDER)
    status, found = run("drain", "w1", "--wait", "--timeout", "0")
    assert status == FAILED
    assert "stays with the origin" in found["error"]["message"]


def test_draining_the_last_worker_of_a_model_is_said(origin: StubTier) -> None:
    worker = {"name": "w1", "model": "chat", "channel": "stable", "state": "ready"}
    origin.answers["GET /admin/fleet"] = Canned({**FLEET, "workers": [worker]})
    result = CliRunner().invoke(app, ["fleet", "drain", "w1"])
    assert result.exit_code == 0
    assert "no other worker serves chat@stable" in result.stderr
    both = [worker, {**worker, "name": "w2"}]
    origin.answers["GET /admin/fleet"] = Canned({**FLEET, "workers": both})
    assert CliRunner().invoke(app, ["fleet", "drain", "w1"]).stderr == ""
    origin.answers["GET /admin/fleet"] = Canned({}, 503)
    assert run("drain", "w1") == (0, ORDER)


def test_a_node_is_forgotten(origin: StubTier) -> None:
    assert run("forget", "w1") == (0, {"forgotten": "w1"})
    assert run("forget", "w2")[0] == FAILED


def test_consistency_is_asked_for_by_model_and_channel(origin: StubTier) -> None:
    assert run("consistency", "chat") == (0, CONSISTENT)
    assert "consistent" in shown("consistency", "chat@next")[1]
    origin.answers["GET /admin/fleet/consistency"] = Canned({**CONSISTENT, "consistent": False})
    assert run("consistency", "chat")[0] == FAILED


def test_a_live_picture_is_no_document(origin: StubTier) -> None:
    assert run("--watch")[0] == USAGE
    status, text = shown("--watch")
    assert (status, text) == (USAGE, ""), "nothing is drawn into a pipe for ever"
    assert origin.received == []


def test_a_live_picture_outlives_an_origin_that_is_away_and_ends_with_q(
    origin: StubTier, tmp_path: Path
) -> None:
    outside, inside = pty.openpty()
    command = [sys.executable, "-m", "infra.cli", "fleet", "--watch", f"--state-dir={tmp_path}"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment({"TERM": "xterm"}), stdin=inside, stdout=inside
    ) as process:
        seen = _read_until(outside, b"no edge has reported")
        origin.answers["GET /admin/fleet"] = Canned({"detail": "the store is away"}, 503)
        seen += _read_until(outside, b"the store is away")
        os.write(outside, b"q")
        assert process.wait(30) == 0
    os.close(inside)
    os.close(outside)
    assert b"Traceback" not in seen


def _read_until(descriptor: int, text: bytes) -> bytes:
    seen = b""
    while text not in seen:
        seen += os.read(descriptor, 65_536)
    return seen
