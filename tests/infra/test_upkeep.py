from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.errors import RefusedError
from infra.state import write_private
from infra.upkeep import UpkeepAdmin
from origin.upkeep.gc import GcReport
from origin.upkeep.jobs import Job
from origin.upkeep.verify import VerifyReport
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.tier import Canned, StubTier, stub_tier
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.paths import manifest_path

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)], "a.txt": [chunk_of(3)]})
TWO = make_revision({"m.gguf": [chunk_of(1), chunk_of(4)]})
STATUS = {
    "channels": [
        {"model": "chat", "channel": "stable", "revision": ONE.id, "sequence": 1},
        {"model": "chat", "channel": "next", "revision": TWO.id, "sequence": 1},
    ],
    "revisions": [{"model": "chat", "revision": r.id} for r in (ONE, TWO)],
    "pins": [],
    "trust": {"versions": {}, "expires": {}},
}


@pytest.fixture
def origin() -> Iterator[StubTier]:
    """An origin that knows two revisions."""
    answers = {
        "GET /admin/status": Canned(STATUS),
        **{f"GET {manifest_path(r.id)}": Canned(r.data) for r in (ONE, TWO)},
    }
    with stub_tier(answers) as made:
        yield made


@pytest.fixture
def run(origin: StubTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command against the origin: exit status and what it says."""
    monkeypatch.setenv("COLUMNS", "100")
    write_private(tmp_path / "token", b"secret")
    ends = ("--origin", origin.url, "--token-file", str(tmp_path / "token"))

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, *ends, "--state-dir", str(tmp_path / "no")])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout

    return call


def job(kind: str, result: object, **fields: Any) -> Canned:
    made = Job(kind=kind, **{"number": 1, "state": "done", "result": result, **fields})
    return Canned(json.loads(msgspec.json.encode(made)))


def answer_job(origin: StubTier, kind: str, result: object, **fields: Any) -> None:
    """It is running when it is started, and ended when it is asked for."""
    origin.answers[f"POST /admin/{kind}"] = job(kind, None, state="running")
    origin.answers[f"GET /admin/jobs/{kind}"] = job(kind, result, **fields)


def body(origin: StubTier, path: str) -> Any:
    return next(json.loads(r.body) for r in origin.received if r.path == path)


def test_gc_follows_its_job(origin: StubTier, run: Any) -> None:
    answer_job(origin, "gc", GcReport(dry_run=True, removed_chunks=3, removed_bytes=1_500_000))
    status, out = run("gc", "--dry-run", "--json")
    assert (status, json.loads(out)["removed_chunks"]) == (0, 3)
    assert body(origin, "/admin/gc") == {"dry_run": True}
    assert "3 chunks, 1.50 MB" in run("gc", "--dry-run")[1]


def test_a_dry_prune_signs_nothing(origin: StubTier, run: Any) -> None:
    answer_job(origin, "gc", GcReport(dry_run=True))
    remove = [{"model": "chat", "revision": TWO.id}]
    origin.answers["POST /admin/prune/plan"] = Canned({"remove": remove, "keep": []})
    status, out = run("gc", "--dry-run", "--prune", "--keep-recent=1", "--keep-days=2", "--json")
    assert (status, json.loads(out)["pruned"]) == (0, remove)
    keeps = {"keep_recent": 1, "keep_younger_s": 172_800.0}
    assert body(origin, "/admin/prune/plan") == keeps
    assert "/admin/prune" not in [received.path for received in origin.received]


def test_a_job_that_failed_is_a_failure_that_says_why(origin: StubTier, run: Any) -> None:
    answer_job(origin, "gc", None, state="failed", error="a manifest is rotten")
    status, out = run("gc", "--json")
    assert status == FAILED
    assert "a manifest is rotten" in json.loads(out)["error"]["message"]


def test_a_job_that_somebody_else_started_is_not_taken_for_ours(origin: StubTier) -> None:
    answer_job(origin, "verify", None, number=2)
    with (
        UpkeepAdmin(origin.url, "secret") as admin,
        pytest.raises(RefusedError, match="another one was started"),
    ):
        admin.run("verify", {}, poll_s=0.001)


def test_an_interrupt_cancels_the_job(origin: StubTier) -> None:
    answer_job(origin, "verify", None, state="running")
    origin.answers["DELETE /admin/jobs/verify"] = Canned({})

    def interrupt(_step: str, _done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with UpkeepAdmin(origin.url, "secret") as admin, pytest.raises(KeyboardInterrupt):
        admin.run("verify", {}, interrupt, poll_s=0.001)
    assert origin.received[-1].method == "DELETE"


def test_verify_fails_where_the_store_is_damaged(origin: StubTier, run: Any) -> None:
    answer_job(origin, "verify", VerifyReport(chunks=3, bytes=3_000))
    assert run("verify", "--max-rate=5")[0] == 0
    assert body(origin, "/admin/verify") == {"bytes_per_s": 5}
    answer_job(origin, "verify", VerifyReport(missing=["a" * 64], missing_chunks=1))
    status, out = run("verify")
    assert status == FAILED
    assert "damaged" in out
    answer_job(origin, "verify", VerifyReport(trust="expired"))
    assert run("verify", "--json")[0] == FAILED


def test_verify_repairs_from_several_and_with_a_pull_token(
    origin: StubTier, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_job(origin, "verify", VerifyReport(bad_manifests={TWO.id: "not here"}))
    origin.answers["POST /admin/chunks/missing"] = Canned({"missing": []})
    origin.answers[f"PUT /admin/manifests/{TWO.id}"] = Canned(status=204)
    monkeypatch.setenv("HEADWATER_PULL_TOKEN", "hwpull-secret")
    with (
        stub_tier({}) as bare,
        stub_tier({f"GET {manifest_path(TWO.id)}": Canned(TWO.data)}) as edge,
    ):
        status, out = run("verify", "--repair-from", bare.url, "--repair-from", edge.url, "--json")
        assert edge.received[0].headers["authorization"] == "Bearer hwpull-secret"
    assert status == 0
    assert json.loads(out)["repair"]["manifests"] == 1


def test_a_pin_takes_the_beginning_of_a_revision(origin: StubTier, run: Any) -> None:
    pins = {"pins": [{"model": "chat", "revision": TWO.id}]}
    origin.answers["POST /admin/pins"] = Canned(pins)
    status, out = run("pin", "chat", TWO.id[:8], "--json")
    assert (status, json.loads(out)) == (0, pins)
    pin = {"model": "chat", "revision": TWO.id, "remove": False}
    assert body(origin, "/admin/pins") == pin
    assert run("pin", "chat", "00000000")[0] == FAILED


@pytest.mark.parametrize("second", ["chat@next", f"chat@{TWO.id[:10]}"])
def test_a_difference_between_channels_or_revisions(run: Any, second: str) -> None:
    status, out = run("diff", "chat", second, "--json")
    found = json.loads(out)
    assert status == 0
    assert (found["a"], found["b"], found["moved"]) == (ONE.id, TWO.id, 1_000)
    shown = run("diff", "chat", second)[1]
    assert "1.00 kB of 2.00 kB (50.0%)" in shown
    assert "removed" in shown


@pytest.mark.parametrize("name", ["chat@none", "chat@12345678", "../x@stable", "other"])
def test_what_names_nothing_is_told(run: Any, name: str) -> None:
    assert run("diff", "chat", name)[0] in {FAILED, USAGE}


def test_a_difference_between_two_files_needs_no_origin(tmp_path: Path) -> None:
    old = write_tiny_gguf(tmp_path / "old.gguf", metadata={"general.version": "1"})
    new = write_tiny_gguf(tmp_path / "new.gguf", metadata={"general.version": "2"})
    arguments = ["diff", str(old), str(new), "--json", "--state-dir", str(tmp_path / "none")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["metadata"] == {"general.version": ["1", "2"]}
    assert [one["change"] for one in found["files"]] == ["changed"]
    assert 0 < found["moved"] < found["size_b"]
