"""Mapping and reading the same weights, resident and cold: what ``residency`` rests on."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path

from gpu_worker.residency import resident_share
from tests.benchmarks.results import Row
from tests.benchmarks.warm_start.script import first_token


def measure(file: Path, rounds: int) -> list[Row]:
    """Load to first token, both ways, from both states."""
    runs: dict[tuple[str, bool], list[float]] = defaultdict(list)
    for number in range(rounds):
        # In turn the first: a host may have in its memory what was read a moment ago.
        ways = (True, False) if number % 2 else (False, True)
        for state in ("resident", "cold"):
            for mmap in ways:
                _prepare(file, cold=state == "cold")
                runs[state, mmap].append(first_token(file, mmap=mmap)[0])
    return [
        Row(
            name=f"load to first token, mapped, the file {state}",
            unit="s",
            runs=runs[state, True],
            peer="read",
            peer_runs=runs[state, False],
            higher_is_better=False,
        )
        for state in ("resident", "cold")
    ]


def _prepare(file: Path, *, cold: bool) -> None:
    """Bring all of the file into the page cache, or none of it. Raises where that did not work."""
    handle = os.open(file, os.O_RDONLY)
    try:
        if cold:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        else:
            while os.read(handle, 1 << 20):
                pass
    finally:
        os.close(handle)
    share = resident_share([file])
    if share is not None and (share > 0.1 if cold else share < 0.9):
        raise RuntimeError(f"{share:.0%} of {file} are resident; is it on a disk?")
