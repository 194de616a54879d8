"""Small files that are replaced whole, what makes that last, and who else may read one."""

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


def open_to_others(
    path: Path,
    found: os.stat_result,
    *,
    user: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> bool:
    """Whether more can touch a file with a secret than should.

    A file of our own is for us alone. One that root owns may also be read by its group, for that is
    the only way in which root can give a secret to a process of another user: volumes of Kubernetes
    are mounted so (``fsGroup`` makes ``0400`` a ``0440``), and PostgreSQL takes its key so
    (``ssl_key_file``). Nobody of that group can change it or give it away.

    A credential that systemd passed to this service may have the group's read bit, too: from
    version 254 on it gives the service's user access by an access control list, and the bit is that
    list's mask (acl(5)), not a permission of the group. Its folder is open to that user alone.

    Args:
        user: who we are; the effective user of this process where None.
    """
    user = os.geteuid() if user is None else user
    given_by_root = found.st_uid == 0 and user != 0
    folder = environ.get("CREDENTIALS_DIRECTORY", "")
    credential = bool(folder) and path.parent == Path(folder)
    return bool(found.st_mode & (0o037 if given_by_root or credential else 0o077))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises ``OSError``."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
