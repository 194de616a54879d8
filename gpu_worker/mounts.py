"""Which file system a folder is on, as the kernel tells."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
IN_MEMORY = frozenset({"tmpfs", "ramfs"})


def file_system(folder: Path, mounts: Path = MOUNTS) -> str | None:
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
