from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.errors import RefusedError
from infra.warming import WarmAdmin
from tests.fakes.tier import Canned, StubTier, stub_tier
from wire.errors import NotFoundError

JOB: dict[str, Any] = {
    "id": "abc",
    "model": "chat",
    "channel": "stable",
    "revision": "a" * 64,
    "variant": "Q4",
    "state": "running",
    "chunks": 2,
    "done_chunks": 1,
    "bytes": 20,
    "done_bytes": 10,
    "fetched_bytes": 10,
    "code": "",
    "reason": "",
}
DONE = {**JOB, "state": "done", "done_chunks": 2, "done_bytes": 20}


def _answers(job: dict[str, Any]) -> dict[str, Canned]:
    return {"POST /admin/warm": Canned(JOB), "GET /admin/warm/abc": Canned(job)}


def _run(edge: StubTier, *arguments: str) -> tuple[int, Any]:
    environ = {"HEADWATER_ADMIN_TOKEN": "secret"}
    given = ["warm", *arguments, "--edge", edge.url, "--json"]
    result = CliRunner().invoke(app, given, env=environ)
    return result.exit_code, json.loads(result.stdout)


def test_a_job_is_watched_to_its_end() -> None:
    with stub_tier(_answers(DONE)) as edge, WarmAdmin(edge.url, "secret") as admin:
        seen: list[tuple[str, int, int]] = []
        begun = admin.warm("chat", "stable", variant="Q4", pin=True)
        assert admin.watch(begun, lambda *step: seen.append(step), poll_s=0) == DONE
    assert seen == [("fetched", 10, 20)]
    body = json.loads(edge.received[0].body)
    assert body == {"model": "chat", "channel": "stable", "variant": "Q4", "pin": True}
    assert edge.received[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ({"state": "failed", "reason": "cannot store chunks: No space"}, "No space"),
        ({"state": "cancelled"}, "cancelled"),
    ],
)
def test_a_job_that_did_not_end_well_says_why(end: dict[str, str], words: str) -> None:
    with (
        stub_tier(_answers({**JOB, **end})) as edge,
        WarmAdmin(edge.url, "secret") as admin,
        pytest.raises(RefusedError, match=words),
    ):
        admin.watch(JOB, lambda *_: None, poll_s=0)


def test_who_interrupts_the_watching_cancels_the_job() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    answers = {**_answers(JOB), "DELETE /admin/warm/abc": Canned(JOB)}
    with stub_tier(answers) as edge, WarmAdmin(edge.url, "secret") as admin:
        with pytest.raises(KeyboardInterrupt):
            admin.watch(JOB, interrupt)
        assert edge.received[-1].method == "DELETE"


def test_a_job_that_the_edge_forgot_is_not_found() -> None:
    with (
        stub_tier({}) as edge,
        WarmAdmin(edge.url, "secret") as admin,
        pytest.raises(NotFoundError),
    ):
        admin.job("abc")


def test_the_command_gives_the_job_as_json() -> None:
    with stub_tier(_answers(DONE)) as edge:
        assert _run(edge, "chat@stable", "--variant", "Q4", "--pin") == (0, DONE)
    assert json.loads(edge.received[0].body)["pin"] is True


def test_the_command_shows_what_was_done() -> None:
    with stub_tier(_answers(DONE)) as edge:
        result = CliRunner().invoke(
            app,
            ["warm", "chat", "--edge", edge.url],
            env={"HEADWATER_ADMIN_TOKEN": "secret"},
        )
    assert result.exit_code == 0
    for words in ("chat@stable", "20 B in 2 chunks", "fetched now", "Q4"):
        assert words in result.stdout


def test_the_command_releases_a_channel() -> None:
    released = {"model": "chat", "channel": "beta", "was_kept": True}
    with stub_tier({"DELETE /admin/pins/chat/beta": Canned(released)}) as edge:
        assert _run(edge, "chat@beta", "--unpin") == (0, released)


@pytest.mark.parametrize(
    "arguments", [["../x"], ["chat", "--variant", "a/b"], ["chat", "--unpin", "--variant", "Q4"]]
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str]) -> None:
    with stub_tier({}) as edge:
        code, found = _run(edge, *arguments)
    assert code == USAGE, found
    assert edge.received == []


def test_a_failed_warm_up_is_a_failure() -> None:
    with stub_tier(_answers({**JOB, "state": "failed", "reason": "origin is away"})) as edge:
        code, found = _run(edge, "chat")
    assert code == FAILED
    assert "origin is away" in found["error"]["message"]
