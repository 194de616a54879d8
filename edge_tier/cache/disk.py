"""A folder whose files appear whole or not at all, and which only one process uses.

Bytes are written to a file of their own under ``partial/`` and renamed into place (POSIX
``rename`` is atomic), so a kill at any moment leaves the old file, the new one, or a leftover that
the next start removes. Everything here blocks and belongs in a thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable
from pathlib import Path

from wire.chunk import Buffer
from wire.errors import ConfigError

Writer = Callable[[Path, Buffer, bool], None]
"""Writes the bytes into a new file, and flushes it to the disk where the flag says so."""

_PARTIAL = "partial"
_LOCK = ".lock"


def write_file(path: Path, data: Buffer, fsync: bool) -> None:
    """Create ``path`` with these bytes. Raises ``OSError``."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with memoryview(data) as view:
            written = 0
            while written < len(view):
                written += os.write(handle, view[written:])
        if fsync:
            os.fsync(handle)
    finally:
        os.close(handle)


class Folder:
    """Files under ``root``, named by relative paths.

    Args:
        fsync: flush every file before it is renamed. Without it a power cut (not a kill) may leave
            a renamed file without its bytes.
        write: how bytes get into a file.
    """

    def __init__(self, root: Path, *, fsync: bool, write: Writer = write_file) -> None:
        self.root = root.absolute()
        self._fsync = fsync
        self._write = write
        self._serial = itertools.count()
        self._lock = -1

    def open(self, subfolder: str) -> int:
        """Take the folder, create ``subfolder`` and remove leftovers; how many there were.

        Below it, ``place`` makes folders as they are needed.

        Raises:
            ConfigError: it cannot be created, or another process uses it.
        """
        try:
            for name in (_PARTIAL, subfolder):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.root / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftovers = list((self.root / _PARTIAL).iterdir())
            for path in leftovers:
                path.unlink()
        except BlockingIOError as error:
            self.close()
            raise ConfigError(
                f"cache folder {self.root} is used by another process; give each its own"
            ) from error
        except OSError as error:
            self.close()
            raise ConfigError(f"cannot use cache folder {self.root}: {error}") from error
        return len(leftovers)

    def place(self, name: str, data: Buffer) -> None:
        """Make these bytes the file ``name``, in place of what was there. Raises ``OSError``."""
        partial = self.root / _PARTIAL / f"{next(self._serial)}"
        try:
            self._write(partial, data, self._fsync)
            self._rename(partial, self.root / name)
        except BaseException:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise

    def probe(self, size_bytes: int) -> None:
        """Write a file of so many bytes and remove it again. Raises ``OSError``."""
        partial = self.root / _PARTIAL / f"{next(self._serial)}"
        try:
            self._write(partial, bytes(size_bytes), self._fsync)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)

    def _rename(self, partial: Path, target: Path) -> None:
        try:
            partial.rename(target)
        except FileNotFoundError:
            target.parent.mkdir(exist_ok=True)  # made when first needed
            partial.rename(target)

    def remove(self, name: str) -> None:
        """Remove a file; nothing where there is none. Raises ``OSError``."""
        (self.root / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Give the folder back."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1
