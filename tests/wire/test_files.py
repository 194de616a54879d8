from __future__ import annotations

import stat
from pathlib import Path

import pytest

from wire.files import bits_of_others, sync_folder, write_atomically


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "ready.json"
    write_atomically(file, b"old")
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    taken = tmp_path / "folder"
    (taken / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="folder"):
        write_atomically(taken, b"new")
    assert list(tmp_path.iterdir()) == [taken]


def test_only_a_folder_s_names_can_be_made_durable(tmp_path: Path) -> None:
    sync_folder(tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(file)


def test_nobody_but_the_owner_may_read_a_secret(tmp_path: Path) -> None:
    assert bits_of_others(tmp_path / "token", {}) == 0o077
    assert bits_of_others(tmp_path / "token", {"CREDENTIALS_DIRECTORY": ""}) == 0o077


def test_a_credential_may_show_the_mask_of_its_access_control_list(tmp_path: Path) -> None:
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert not 0o440 & bits_of_others(tmp_path / "token", environ)
    assert 0o444 & bits_of_others(tmp_path / "token", environ)
    assert 0o460 & bits_of_others(tmp_path / "token", environ)
    assert 0o440 & bits_of_others(tmp_path / "below" / "token", environ)
