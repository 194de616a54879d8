"""A folder of models in memory: made so that nobody else can get at it, and removed at the end.

``/dev/shm`` is open to everybody, so a folder that is there already is taken only where it is a
real one, is ours, and lets nobody else in.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from pathlib import Path

from gpu_worker.config import WorkerConfig
from wire.errors import ConfigError

_MOUNTS = Path("/proc/self/mounts")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


def memory_folder(config: WorkerConfig, name: str) -> Path:
    """Where a worker of this name keeps its weights in memory."""
    return config.memory_dir / f"headwater-{_UNFIT.sub('_', name)[:100]}"


def open_memory_folder(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Make the folder with mode 700, or take over what a killed worker left. Blocking.

    Raises:
        ConfigError: it cannot be made, belongs to somebody else, lets others in, or is not in
            memory.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ConfigError(f"memory_dir {folder}: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ConfigError(f"memory_dir {folder} is not ours; remove it or name another one")
    if found.st_mode & 0o077:
        raise ConfigError(f"memory_dir {folder} lets others in; chmod 700 it")
    kind = file_system(folder, mounts)
    if kind is not None and kind not in _IN_MEMORY:
        raise ConfigError(f"memory_dir {folder} is on {kind}, not in memory; mount a tmpfs there")


def remove_memory_folder(folder: Path) -> None:
    """Give its memory back; an engine that still has a file mapped keeps that."""
    shutil.rmtree(folder, ignore_errors=True)


def file_system(folder: Path, mounts: Path = _MOUNTS) -> str | None:
    """The type of the file system that a folder is on (proc(5)); None where nobody tells."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return None
    place = folder.resolve()
    found: tuple[int, str] | None = None
    for line in lines:
        _, point, kind, *_ = (*line.split(), "", "", "")
        mounted = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), point))
        # Of several at one point the last one hides the others.
        if place.is_relative_to(mounted) and (found is None or len(mounted.parts) >= found[0]):
            found = (len(mounted.parts), kind)
    return found[1] if found is not None else None
