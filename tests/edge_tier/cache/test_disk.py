from __future__ import annotations

from pathlib import Path

import pytest

from edge_tier.cache.disk import Folder, write_file
from wire.chunk import Buffer
from wire.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "cache", fsync=True)


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} - {".lock"}


@pytest.mark.parametrize("data", [b"abc", bytearray(b"abc"), memoryview(b"abc"), b""])
def test_a_placed_file_has_exactly_its_bytes(folder: Folder, data: Buffer) -> None:
    folder.open("sub")
    folder.place("sub/file", data)
    assert (folder.root / "sub/file").read_bytes() == bytes(data)
    assert _files(folder.root) == {"sub/file"}


def test_folders_below_are_made_as_they_are_needed(folder: Folder) -> None:
    folder.open("sub")
    folder.place("sub/ab/file", b"data")
    assert _files(folder.root) == {"sub/ab/file"}


def test_placing_replaces_the_old_file(folder: Folder) -> None:
    folder.open("sub")
    folder.place("file", b"old")
    folder.place("file", b"new")
    assert (folder.root / "file").read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def fail(path: Path, data: Buffer, fsync: bool) -> None:
        write_file(path, memoryview(data)[:1], fsync)
        raise OSError(5, "Input/output error")

    good = Folder(tmp_path, fsync=False)
    good.open("sub")
    good.place("file", b"old")
    good.close()
    bad = Folder(tmp_path, fsync=False, write=fail)
    bad.open("sub")
    with pytest.raises(OSError, match="Input/output"):
        bad.place("file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert _files(tmp_path) == {"file"}


def test_leftovers_of_a_kill_are_removed_and_counted(folder: Folder) -> None:
    folder.open("sub")
    (folder.root / "partial" / "0").write_bytes(b"torn")
    (folder.root / "partial" / "1").write_bytes(b"torn")
    folder.close()
    assert folder.open("sub") == 2
    assert _files(folder.root) == set()


def test_removing_what_is_not_there_is_no_error(folder: Folder) -> None:
    folder.open("sub")
    folder.place("file", b"data")
    folder.remove("file")
    folder.remove("file")
    assert _files(folder.root) == set()


def test_a_second_user_of_a_folder_is_refused(folder: Folder) -> None:
    folder.open("sub")
    other = Folder(folder.root, fsync=False)
    with pytest.raises(ConfigError, match="another process"):
        other.open("sub")
    folder.close()
    folder.close()
    assert other.open("sub") == 0


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot use cache folder"):
        Folder(tmp_path / "file", fsync=False).open("sub")


def test_files_are_private(folder: Folder) -> None:
    folder.open("sub")
    folder.place("file", b"data")
    assert (folder.root / "file").stat().st_mode & 0o777 == 0o600
