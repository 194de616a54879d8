"""``headwater audit``: a log is shown, and one that was tampered with fails the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_tier.gateway.audit import AuditConfig, AuditLog
from infra.cli import app
from tests.fakes.tier import Canned, stub_tier

NOWHERE = "http://127.0.0.1:9"


def run(*arguments: str, edge: str = NOWHERE, status: int = 0) -> str:
    env = {"HEADWATER_ADMIN_TOKEN": "t", "HEADWATER_EDGE_URL": edge, "COLUMNS": "100"}
    result = CliRunner().invoke(app, ["audit", *arguments], env=env)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log of two acts and their outcomes."""
    file = tmp_path / "audit.jsonl"
    log = AuditLog(AuditConfig(file=file, fsync=False))
    for action, subject in (("keys.create", "k6"), ("keys.revoke", "k7")):
        for outcome in ("begun", "done"):
            log.write("key:a", action, subject, outcome, "r")
    return file


def head_of(file: Path) -> str:
    found = json.loads(run(f"--file={file}", "--json"))
    return str(found["chain"]["head"])


def test_a_log_is_shown_with_who_did_what(file: Path) -> None:
    shown = run(f"--file={file}")
    for text in ("key:a", "keys.create", "k6", "keys.revoke", "k7", "begun", "done"):
        assert text in shown
    assert "holds from record 1 to 4" in shown
    assert head_of(file) in shown


def test_the_newest_acts_are_shown_and_the_whole_chain_is_checked(file: Path) -> None:
    found = json.loads(run(f"--file={file}", "--limit=1", "--json"))
    assert [record["seq"] for record in found["records"]] == [4]
    assert found["chain"]["records"] == 4


def test_a_cut_end_shows_only_against_a_noted_hash(file: Path) -> None:
    head = head_of(file)
    assert "holds" in run(f"--file={file}", f"--head={head}")
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert "holds" in run(f"--file={file}")
    assert "another than the one" in run(f"--file={file}", f"--head={head}", status=1)


def test_a_changed_log_fails_and_says_where(file: Path) -> None:
    head = head_of(file)
    file.write_bytes(file.read_bytes().replace(b'"k6"', b'"k5"', 1))
    assert "record 2 does not follow" in run(f"--file={file}", status=1)
    # The newest line is as it was, and that excuses nothing.
    found = json.loads(run(f"--file={file}", f"--head={head}", "--json", status=1))
    assert "does not follow" in found["chain"]["problem"]


def test_a_log_that_is_not_there_fails(tmp_path: Path) -> None:
    assert "there is no audit log" in run(f"--file={tmp_path / 'none'}", status=1)
    assert not (tmp_path / "none").exists()


def test_the_audit_log_is_asked_of_the_edge() -> None:
    chain = {"records": 0, "first_seq": 0, "head_seq": 0, "head": "0", "problem": "torn"}
    with stub_tier({"GET /admin/audit": Canned({"records": [], "chain": chain})}) as edge:
        assert "torn" in run("--limit=5", edge=edge.url, status=1)
        assert edge.received[-1].path == "/admin/audit"
