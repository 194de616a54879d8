from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from gpu_worker.disk_files import disk_error, is_locked, lock, open_file, write_all
from gpu_worker.errors import BusyError, DiskFullError


def test_a_lock_is_held_by_one_until_it_is_closed(tmp_path: Path) -> None:
    bitmap = tmp_path / "made" / "bitmap"
    assert not is_locked(bitmap)
    handle = lock(bitmap)
    assert is_locked(bitmap)
    with pytest.raises(BusyError, match="somebody else"):
        lock(bitmap)
    os.close(handle)
    assert not is_locked(bitmap)
    os.close(lock(bitmap))


@pytest.mark.parametrize("reserve", [True, False])
@pytest.mark.parametrize("size", [0, 5_000])
def test_a_file_has_its_full_length_from_the_beginning(
    tmp_path: Path, size: int, *, reserve: bool
) -> None:
    path = tmp_path / "sub" / "file"
    handle = open_file(path, size, reserve=reserve)
    assert path.read_bytes() == bytes(size)
    assert (path.stat().st_blocks > 0) == (reserve and size > 0)
    os.close(handle)


def test_what_stands_in_a_file_stays_and_what_is_too_long_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    os.close(open_file(path, 4, reserve=True))
    assert path.read_bytes() == b"abcd"


def test_a_link_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        open_file(tmp_path / "link", 4, reserve=False)
    assert not (tmp_path / "secret").exists()


def test_all_of_a_buffer_is_written_at_its_place(tmp_path: Path) -> None:
    data = os.urandom(700_000)  # several writes
    handle = open_file(tmp_path / "file", len(data) + 10, reserve=False)
    write_all(handle, memoryview(data), 10)
    os.close(handle)
    assert (tmp_path / "file").read_bytes() == bytes(10) + data


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_is_told_from_a_broken_one(tmp_path: Path, number: int) -> None:
    error = disk_error(tmp_path, OSError(number, os.strerror(number)))
    assert isinstance(error, DiskFullError) == (number != errno.EIO)
    assert str(tmp_path) in error.message
