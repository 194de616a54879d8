from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.state import (
    Ready,
    StateDir,
    ensure_secret,
    read_ready,
    read_secret,
    write_private,
    write_ready,
)
from wire.errors import ConfigError, ConflictError

READY = Ready(
    origin="http://127.0.0.1:1",
    edge="http://127.0.0.1:2",
    worker="http://127.0.0.1:3",
    cloud="http://127.0.0.1:4",
    api_key="hw-aaaa-secret",
    admin_token="hwadm-secret",
    state_dir="/somewhere",
)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_ready_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_ready(tmp_path / "ready.json", READY)
    assert read_ready(tmp_path / "ready.json") == READY


def test_ready_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_ready(tmp_path / "ready.json", READY)
    assert mode(tmp_path / "ready.json") == 0o600


def test_ready_shows_no_secret_when_printed() -> None:
    assert "secret" not in repr(READY)


def test_no_ready_file_is_no_error(tmp_path: Path) -> None:
    assert read_ready(tmp_path / "ready.json") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"origin": 1}'])
def test_a_broken_ready_file_is_named(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / "ready.json", content)
    with pytest.raises(ConfigError, match=r"ready\.json"):
        read_ready(tmp_path / "ready.json")


def test_a_ready_file_open_to_others_is_refused(tmp_path: Path) -> None:
    write_ready(tmp_path / "ready.json", READY)
    (tmp_path / "ready.json").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_ready(tmp_path / "ready.json")


def test_a_ready_file_without_end_is_not_read_whole(tmp_path: Path) -> None:
    write_private(tmp_path / "ready.json", b" " * 100_000)
    with pytest.raises(ConfigError, match="larger"):
        read_ready(tmp_path / "ready.json")


def test_writing_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", b"old")
    write_private(tmp_path / "secret", b"new")
    assert (tmp_path / "secret").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_writing_where_it_cannot_be_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot write"):
        write_private(tmp_path / "file" / "below", b"x")


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    first = ensure_secret(tmp_path / "token", "hwadm-")
    assert first.startswith("hwadm-")
    assert len(first) > 40
    assert ensure_secret(tmp_path / "token", "hwadm-") == first
    assert mode(tmp_path / "token") == 0o600


def test_two_secrets_differ(tmp_path: Path) -> None:
    assert ensure_secret(tmp_path / "a", "") != ensure_secret(tmp_path / "b", "")


def test_an_empty_or_absent_secret_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no file"):
        read_secret(tmp_path / "absent")
    write_private(tmp_path / "empty", b" \n")
    with pytest.raises(ConfigError, match="empty"):
        read_secret(tmp_path / "empty")


def test_the_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "deep" / "state")
    state.make()
    assert mode(state.root) == 0o700
    assert mode(state.root / "secrets") == 0o700


def test_making_it_twice_is_harmless(tmp_path: Path) -> None:
    state = StateDir(tmp_path / "state")
    state.make()
    state.make()


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="--state-dir"):
        StateDir(tmp_path / "file").make()


def test_two_launchers_on_one_folder_are_refused(tmp_path: Path) -> None:
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    with (
        first.locked(),
        pytest.raises(ConflictError, match=r"in use by process \d+"),
        second.locked(),
    ):
        pass


def test_the_folder_is_free_after_the_launcher(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    with state.locked():
        pass
    with state.locked():
        pass
