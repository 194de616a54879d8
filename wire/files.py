"""Small files that are replaced whole, and what makes that last."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a small file so that a reader sees the old content or the new, never a part; also after
    a power cut. The folder is made where it is missing. Raises ``OSError``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def bits_of_others(path: Path, environ: Mapping[str, str] = os.environ) -> int:
    """The permissions that a secret's file must not have: all those of group and others.

    A credential that systemd passed to this service may have the group's read bit: from version 254
    on it gives the service's user access by an access control list, and the bit is that list's mask
    (acl(5)), not a permission of the group. Its folder is open to that user alone.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    return 0o037 if folder and path.parent == Path(folder) else 0o077


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises ``OSError``."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
