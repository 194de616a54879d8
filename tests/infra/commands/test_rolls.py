"""``headwater roll | rollback | rolls`` against an origin that answers what it was given."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.state import Ready, StateDir, write_ready
from tests.fakes.tier import Canned, StubTier, stub_tier

NEW, OLD = "a" * 64, "b" * 64
STATUS = {
    "channels": [{"model": "chat", "channel": "stable", "revision": OLD, "sequence": 3}],
    "revisions": [{"model": "chat", "revision": r} for r in (NEW, OLD)],
    "trust": {"versions": {}, "expires": {}},
}
BEGUN: dict[str, Any] = {
    "id": "1",
    "model": "chat",
    "channel": "stable",
    "revision": NEW,
    "previous": OLD,
    "percent": 10,
    "started": 100.0,
    "who": "ann@desk",
}
DONE = {**BEGUN, "stage": "done", "ended": 142.0, "serving": 3, "notes": ["edge e2 was late"]}
ABORTED = {
    **BEGUN,
    "stage": "aborted",
    "ended": 103.5,
    "reason": "worker w1 refused it: probe_failed",
}
MOVES = [{"sequence": 3, "revision": OLD, "at": 1.0, "kind": "roll", "who": "ann", "why": "first"}]


def channel(*past: dict[str, Any], current: dict[str, Any] | None = None) -> dict[str, Any]:
    record: dict[str, Any] = {
        "model": "chat",
        "channel": "stable",
        "past": list(past),
        "moves": MOVES,
    }
    if current is not None:
        record["current"] = current
    return {"record": record, "pointer": None, "before": OLD, "now": None}


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubTier]:
    path = "/admin/rollouts/chat/stable"
    with stub_tier(
        {
            "GET /healthz": Canned({}),
            "GET /admin/status": Canned(STATUS),
            "GET /admin/rollouts": Canned({"channels": [channel(DONE)["record"]]}),
            "POST /admin/rollouts": Canned(BEGUN),
            f"GET {path}": Canned(channel(DONE)),
            f"POST {path}/rollback": Canned({**BEGUN, "kind": "rollback", "revision": OLD}),
            f"POST {path}/abort": Canned(ABORTED),
            f"POST {path}/promote": Canned({**BEGUN, "stage": "rolling"}),
        }
    ) as stub:
        ready = Ready(
            origin=stub.url,
            edge="",
            worker="",
            cloud="",
            api_key="",
            admin_token="hwadm-x",
            state_dir=str(tmp_path),
        )
        write_ready(StateDir(tmp_path).ready_file, ready)
        monkeypatch.setenv("HEADWATER_STATE_DIR", str(tmp_path))
        monkeypatch.setenv("COLUMNS", "80")
        yield stub


def run(*arguments: str) -> tuple[int, Any, str]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    return result.exit_code, json.loads(result.stdout), result.stderr


def shown(*arguments: str) -> str:
    return CliRunner().invoke(app, list(arguments)).stdout


def sent(origin: StubTier) -> Any:
    return json.loads([r for r in origin.received if r.method == "POST"][-1].body)


def test_a_roll_that_is_over_at_once_says_how(origin: StubTier) -> None:
    origin.answers["POST /admin/rollouts"] = Canned({**ABORTED, "reason": "no worker is known"})
    status, found, notes = run("roll", "chat", "--to", "aaaaaaaa", "--canary", "10%")
    assert (status, found["stage"], found["reason"]) == (FAILED, "aborted", "no worker is known")
    assert notes == ""
    origin.answers["POST /admin/rollouts"] = Canned(DONE)
    status, found, notes = run("roll", "chat", "--to", "aaaaaaaa")
    assert (status, found["stage"], notes) == (0, "done", "")


def test_a_roll_is_accepted_and_not_waited_for(origin: StubTier) -> None:
    status, found, notes = run("roll", "chat", "--to", "aaaaaaaa", "--why", "new data")
    assert status == 0
    assert "headwater rolls chat --watch" in " ".join(notes.split())
    assert found == {
        "model": "chat",
        "channel": "stable",
        "revision": NEW,
        "previous": OLD,
        "rollout": "1",
        "stage": "preheating",
        "reason": "",
    }
    asked = sent(origin)
    assert "@" in asked.pop("who")
    assert asked == {
        "model": "chat",
        "channel": "stable",
        "revision": NEW,
        "percent": 0,
        "by": "workers",
        "preheat": True,
        "abort_on_failure": True,
        "force": False,
        "why": "new data",
    }


def test_a_canary_is_asked_for_as_it_is_written(origin: StubTier) -> None:
    options = ["--canary", "5%", "--by", "callers", "--no-preheat", "--keep-going", "--force"]
    run("roll", "chat@stable", "--to", NEW, *options)
    asked = sent(origin)
    assert (asked["percent"], asked["by"]) == (5, "callers")
    assert (asked["preheat"], asked["abort_on_failure"], asked["force"]) == (False, False, True)


@pytest.mark.parametrize("share", ["0", "100%", "ten", "10 %%", "-1"])
def test_a_share_that_cannot_be_one_is_a_usage_error(origin: StubTier, share: str) -> None:
    status, found, _ = run("roll", "chat", "--to", NEW, "--canary", share)
    assert (status, found["error"]["code"]) == (USAGE, "name_invalid")
    assert not [r for r in origin.received if r.method == "POST"]


def test_a_roll_that_is_watched_ends_in_a_line(origin: StubTier) -> None:
    status, found, notes = run("roll", "chat", "--to", NEW, "--watch")
    assert (status, found["stage"], found["took_s"]) == (0, "done", 42.0)
    assert found["notes"] == ["edge e2 was late"]
    assert "done" in notes
    text = shown("roll", "chat", "--to", NEW, "--watch")
    assert text.split("\n")[0].startswith("done: chat@stable serves aaaaaaaaaaaa on 3 workers")


def test_a_roll_that_is_aborted_exits_with_one_and_says_why(origin: StubTier) -> None:
    origin.answers["GET /admin/rollouts/chat/stable"] = Canned(channel(ABORTED))
    status, found, _ = run("roll", "chat", "--to", NEW, "--canary", "10%", "--watch")
    assert status == FAILED
    assert (found["stage"], found["reason"]) == ("aborted", ABORTED["reason"])
    text = " ".join(shown("roll", "chat", "--to", NEW, "--watch").split())
    assert "aborted: worker w1 refused it: probe_failed; chat@stable is back at bbbb" in text


def test_a_roll_while_one_runs_is_refused(origin: StubTier) -> None:
    origin.answers["POST /admin/rollouts"] = Canned({"detail": "one runs"}, status=409)
    status, found, _ = run("roll", "chat", "--to", NEW)
    assert (status, found["error"]["code"]) == (FAILED, "conflict")
    assert "one runs" in found["error"]["message"]


def test_a_rollback_needs_no_revision(origin: StubTier) -> None:
    status, found, _ = run("rollback", "chat")
    assert (status, found["revision"]) == (0, OLD)
    assert sent(origin)["revision"] == ""
    run("rollback", "chat", "--to", "aaaaaaaa", "--why", "short answers")
    assert (sent(origin)["revision"], sent(origin)["why"]) == (NEW, "short answers")


def test_a_rollback_that_aborts_what_runs_has_done_what_was_wanted(origin: StubTier) -> None:
    origin.answers["POST /admin/rollouts/chat/stable/rollback"] = Canned(ABORTED)
    origin.answers["GET /admin/rollouts/chat/stable"] = Canned(channel(ABORTED))
    status, found, _ = run("rollback", "chat", "--watch")
    assert (status, found["stage"]) == (0, "aborted")
    assert (found["revision"], found["previous"]) == (OLD, NEW)


def test_what_was_rolled_is_shown_with_its_reasons(origin: StubTier) -> None:
    status, found, _ = run("rolls")
    assert (status, found["channels"][0]["past"][0]["stage"]) == (0, "done")
    assert "chat@stable" in shown("rolls")
    origin.answers["GET /admin/rollouts/chat/stable"] = Canned(channel(ABORTED, DONE))
    text = shown("rolls", "chat")
    assert "probe_failed" in " ".join(text.split())
    assert "first" in text


def test_a_running_roll_is_aborted_promoted_and_watched(origin: StubTier) -> None:
    origin.answers["GET /admin/rollouts/chat/stable"] = Canned(channel(ABORTED))
    status, found, _ = run("rolls", "chat", "--abort", "--why", "wrong file")
    assert (status, found["stage"], sent(origin)["why"]) == (0, "aborted", "wrong file")
    status, found, _ = run("rolls", "chat", "--promote")
    assert (status, found["stage"]) == (0, "rolling")
    status, found, _ = run("rolls", "chat", "--watch")
    assert (status, found["record"]["past"][0]["stage"]) == (0, "aborted")


@pytest.mark.parametrize("options", [["--abort"], ["--watch"], ["chat", "--abort", "--promote"]])
def test_what_makes_no_sense_together_is_a_usage_error(
    origin: StubTier, options: list[str]
) -> None:
    status, found, _ = run("rolls", *options)
    assert (status, found["error"]["code"]) == (USAGE, "config_invalid")
    assert origin.received == [] or all(r.method == "GET" for r in origin.received)


def test_on_a_terminal_a_picture_is_drawn_while_it_is_watched(
    origin: StubTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, a terminal
    status, found, notes = run("roll", "chat", "--to", NEW, "--watch")
    assert (status, found["stage"]) == (0, "done")
    assert "chat@stable to aaaaaaaaaaaa" in notes
