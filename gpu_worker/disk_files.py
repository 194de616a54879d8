"""What a folder of models asks of the operating system: files of full length, a lock that dies with
its process, and errors that say what to do. All of it blocks.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from pathlib import Path

from gpu_worker.errors import BusyError, DiskError, DiskFullError

_WRITE_BYTES = 256 * 1024
"""Written by one system call; a sixth less CPU than with 64 KiB. From 512 KiB on it costs more
again: the page cache takes larger folios then, and a virtual machine may have to get such runs of
memory from its host, while the file's lock is held."""
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_LOCK_TRIES = 100
"""A folder moves away once per finished pull; more often than this something else is wrong."""


def lock(path: Path) -> int:
    """Open and lock a bitmap, which is made where it is missing. The one that was locked may have
    moved away with its folder, because whoever had it before was done; then it is made anew.

    Raises:
        BusyError: somebody else has it.
    """
    tries = 0
    while True:
        tries += 1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except (FileExistsError, FileNotFoundError):
            # The folder moved away between one call and the next.
            if tries == _LOCK_TRIES:
                raise
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise BusyError(f"{path.parent} is being pulled by somebody else") from error
        except BaseException:
            os.close(handle)
            raise
        if _is_still(path, handle):
            return handle
        os.close(handle)


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def is_locked(path: Path) -> bool:
    """Whether somebody has a bitmap locked."""
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def open_file(path: Path, size: int, *, reserve: bool) -> int:
    """Open a file to be written at any place, made and cut to ``size`` where it is not so long.
    ``reserve``: take its blocks now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        if os.fstat(handle).st_size != size:
            os.ftruncate(handle, size)
            if reserve:
                _reserve(handle, size)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _reserve(handle: int, size: int) -> None:
    """Take the blocks now, where the file system can: a full disk shows before anything is fetched,
    and writing in any order costs a fraction of what it does into holes (ext4: a third). glibc's
    ``posix_fallocate`` would write to every block where the file system cannot.
    """
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None or not size:
        return
    fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    if fallocate(handle, 0, 0, size) and ctypes.get_errno() in _FULL:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def disk_error(folder: Path, error: OSError) -> DiskError:
    """What the operating system said of a folder of models, as our error."""
    if error.errno in _FULL:
        return DiskFullError(
            f"{folder}: {error.strerror}; remove old models or mount a larger disk"
        )
    return DiskError(f"{folder}: {error.strerror or type(error).__name__}")


def write_all(handle: int, data: memoryview, offset: int) -> None:
    """Write all of a buffer into a file at an offset."""
    while data:
        written = os.pwrite(handle, data[:_WRITE_BYTES], offset)
        data, offset = data[written:], offset + written
