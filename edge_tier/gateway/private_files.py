"""Small files with secrets: readable by their owner alone, read within bounds, replaced whole.

A reader sees the old content or the new, also after a power cut: the new one is written beside,
fsynced, and put in place in one step (rename(2) to replace, link(2) to create).
"""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wire.errors import ConfigError, TooLargeError
from wire.files import open_to_others, sync_folder


def file_signature(path: Path) -> tuple[int, int, int] | None:
    """Differs whenever a file was replaced; None where there is none. Costs one stat(2).

    Raises:
        ConfigError: it cannot be looked at.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_private(path: Path, *, limit_bytes: int, public: bool = False) -> bytes:
    """The content of a file that nobody else may touch (``wire.files.open_to_others``).

    Args:
        public: others may read it, but not write.

    Raises:
        ConfigError: missing, unreadable, open to group or others, or larger than ``limit_bytes``.
    """
    try:
        with path.open("rb") as stream:
            found = os.fstat(stream.fileno())
            mode = stat.S_IMODE(found.st_mode)
            if mode & 0o022 if public else open_to_others(path, found):
                fit = "go-w" if public else "600"
                raise ConfigError(
                    f"{path} is open to others (mode {mode:o}); run: chmod {fit} {path}"
                )
            data = stream.read(limit_bytes + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    if len(data) > limit_bytes:
        raise ConfigError(f"{path} is larger than {limit_bytes} bytes")
    return data


def create_private(path: Path, data: bytes) -> bool:
    """Make a file of mode 600. Of several that try, one wins; False: the file was there already.

    Raises:
        ConfigError: it cannot be written.
    """
    with _written_beside(path, data) as ready:
        try:
            os.link(ready, path)
        except FileExistsError:
            return False
        finally:
            ready.unlink()
        sync_folder(path.parent)
    return True


def replace_private(path: Path, data: bytes, *, limit_bytes: int) -> None:
    """Replace a file by one of mode 600 with this content.

    Raises:
        TooLargeError: more than a reader would accept.
        ConfigError: it cannot be written; the old content stays.
    """
    if len(data) > limit_bytes:
        raise TooLargeError(f"{path} would be larger than {limit_bytes} bytes")
    with _written_beside(path, data) as ready:
        ready.replace(path)
        sync_folder(path.parent)


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Let one process at a time change ``path``, by flock(2) on a file beside it. May block.

    Raises:
        ConfigError: the lock file cannot be opened.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"cannot open {lock}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A finished temporary file in the same folder (mkstemp makes it mode 600)."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        ready = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)
            yield ready
        except BaseException:
            with suppress(FileNotFoundError):
                ready.unlink()
            raise
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error
