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
from gpu_worker.mounts import IN_MEMORY, MOUNTS, file_system
from wire.errors import ConfigError

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


def memory_folder(config: WorkerConfig, name: str) -> Path:
    """Where a worker of this name keeps its weights in memory."""
    return config.memory_dir / f"headwater-{_UNFIT.sub('_', name)[:100]}"


def open_memory_folder(folder: Path, mounts: Path = MOUNTS) -> None:
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
    if kind is not None and kind not in IN_MEMORY:
        raise ConfigError(f"memory_dir {folder} is on {kind}, not in memory; mount a tmpfs there")


def remove_memory_folder(folder: Path) -> None:
    """Give its memory back; an engine that still has a file mapped keeps that."""
    shutil.rmtree(folder, ignore_errors=True)
