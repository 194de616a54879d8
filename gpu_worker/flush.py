"""What a power cut could tear, and how that is known afterwards.

Waiting for the disk would cost a warm start more than the pull itself, so a revision appears as
soon as its bytes are proven, and is flushed while it is already used. Until then a mark lies in its
folder, on the disk before any byte of it, that names the boot of this machine: within the same boot
the kernel answers for the bytes, whatever happens to processes. Found after another boot, the mark
means that nothing is proven any more, and every chunk is hashed again before it counts.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from wire.files import sync_folder

MARK = ".unflushed"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_BOOT_ID = 100


def boot_id(source: Path = _BOOT_ID) -> str:
    """What names this boot of the machine; empty where the system does not tell (then no two are
    the same)."""
    try:
        return source.read_text()[:_MAX_BOOT_ID].strip()
    except OSError:
        return ""


def mark(folder: Path, boot: str) -> None:
    """Say that what is written here from now on may be lost with this boot. Durable."""
    with (folder / MARK).open("w") as stream:
        stream.write(boot)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(folder)


def may_be_torn(folder: Path, boot: str) -> bool:
    """Whether the folder was written in another boot and never flushed."""
    try:
        written = (folder / MARK).read_text()
    except FileNotFoundError:
        return False
    return not boot or written != boot


def flush(folder: Path, files: Iterable[Path]) -> None:
    """Bring the files, and all folders, to the disk; then take the mark away. Raises ``OSError``.

    Nothing where there is no mark.
    """
    if not (folder / MARK).exists():
        return
    for path in files:
        _sync_file(path)
    for inner, _, _ in os.walk(folder):
        sync_folder(Path(inner))
    sync_folder(folder.parent)
    (folder / MARK).unlink(missing_ok=True)
    sync_folder(folder)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
