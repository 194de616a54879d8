"""The list of ended tokens is followed, and a broken one leaves the last in force."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge_tier.gateway.jwt_revoked import RevokedTokens
from wire.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "revoked.json"


def put(file: Path, text: str, mode: int = 0o600) -> None:
    """Replaces the file, as its owner should."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.chmod(mode)
    new.replace(file)


def lists(**names: list[str]) -> str:
    return json.dumps(names)


def test_tokens_end_by_their_id_and_by_their_subject(file: Path) -> None:
    put(file, lists(jti=["t1"], sub=["bob"]))
    revoked = RevokedTokens(file)
    assert revoked.holds("alice", "t1")
    assert revoked.holds("bob", "t2")
    assert not revoked.holds("alice", "t2")
    assert not revoked.holds("t1", "bob")


def test_a_token_without_an_id_ends_by_no_id(file: Path) -> None:
    put(file, lists(jti=[""]))
    assert not RevokedTokens(file).holds("alice", "")


def test_a_file_may_appear_later_and_change(file: Path) -> None:
    revoked = RevokedTokens(file)
    assert not revoked.holds("bob", "")
    for subject in ("bob", "carol"):
        put(file, lists(sub=[subject]))
        revoked.look()
        assert revoked.holds(subject, "")
    assert not revoked.holds("bob", "")


def test_the_list_is_the_same_object_until_the_file_changes(file: Path) -> None:
    put(file, lists(sub=["bob"]))
    revoked = RevokedTokens(file)
    before = revoked.lists
    revoked.look()
    assert revoked.lists is before
    put(file, lists(sub=["bob", "carol"]))
    revoked.look()
    assert revoked.lists is not before


BROKEN = {
    "no JSON": ("{", 0o600),
    "another field": (lists(jit=["t1"]), 0o600),
    "no list": (json.dumps({"sub": "bob"}), 0o600),
    "open to others": (lists(), 0o644),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_told_once_and_the_last_list_holds(file: Path, name: str) -> None:
    put(file, lists(sub=["bob"]))
    revoked = RevokedTokens(file)
    put(file, *BROKEN[name])
    with capture_logs() as logs:
        for _ in range(3):
            revoked.look()
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert revoked.holds("bob", "")
    put(file, lists())
    revoked.look()
    assert not revoked.holds("bob", "")


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_at_the_start_is_refused(file: Path, name: str) -> None:
    put(file, *BROKEN[name])
    with pytest.raises(ConfigError, match=str(file)):
        RevokedTokens(file)


def test_a_file_that_goes_away_leaves_its_list(file: Path) -> None:
    put(file, lists(sub=["bob"]))
    revoked = RevokedTokens(file)
    file.unlink()
    with capture_logs() as logs:
        for _ in range(2):
            revoked.look()
    assert len(logs) == 1
    assert revoked.holds("bob", "")


def test_without_a_file_nothing_is_ended() -> None:
    revoked = RevokedTokens(None)
    revoked.look()
    assert not revoked.holds("alice", "t1")
