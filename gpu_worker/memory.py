"""How much main memory a model could take now."""

from __future__ import annotations

from pathlib import Path

PLENTY_BYTES = 1 << 62
"""Where nobody can tell: the engine's own failure will."""


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """``MemAvailable`` of Linux (proc(5)): what could be had without swapping."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return PLENTY_BYTES
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            return int(rest.split()[0]) * 1024
    return PLENTY_BYTES
