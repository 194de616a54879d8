from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edge_tier.gateway.private_files import (
    create_private,
    exclusive,
    read_private,
    replace_private,
)
from wire.errors import ConfigError, TooLargeError


def assert_private(path: Path, content: bytes) -> None:
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_created_once(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    assert create_private(path, b"one")
    assert not create_private(path, b"two")
    assert_private(path, b"one")
    assert [entry.name for entry in tmp_path.iterdir()] == ["pepper"]


def test_of_many_that_create_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: create_private(path, b"%d" % n), range(8)))
    assert sum(won) == 1
    assert_private(path, b"%d" % won.index(True))


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(b"old and long")
    replace_private(path, b"new", limit_bytes=10)
    assert_private(path, b"new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["keys.json"]


def test_what_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    replace_private(path, b"old", limit_bytes=3)
    with pytest.raises(TooLargeError):
        replace_private(path, b"four", limit_bytes=3)
    assert_private(path, b"old")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_file_open_to_others_is_not_read(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "pepper"
    path.write_bytes(b"secret")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600") as refused:
        read_private(path, limit_bytes=100)
    assert "secret" not in str(refused.value)


def test_a_larger_file_than_allowed_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pepper"
    create_private(path, b"1234")
    assert read_private(path, limit_bytes=4) == b"1234"
    with pytest.raises(ConfigError, match="larger than 3 bytes"):
        read_private(path, limit_bytes=3)


def test_a_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "keys.json"
    with pytest.raises(ConfigError, match=r"cannot read .*no/keys.json"):
        read_private(path, limit_bytes=10)
    with pytest.raises(ConfigError, match=r"cannot write .*no/keys.json"):
        replace_private(path, b"", limit_bytes=10)
    with pytest.raises(ConfigError, match="cannot open"), exclusive(path):
        pass


def test_changes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "count"
    replace_private(path, b"0", limit_bytes=10)

    def increment(_: int) -> None:
        with exclusive(path):
            replace_private(path, b"%d" % (int(path.read_bytes()) + 1), limit_bytes=10)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, range(24)))
    assert_private(path, b"24")
