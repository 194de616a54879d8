"""What a piece of work costs the processor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


def least_cpu_s(work: Callable[[], object], enough_s: float, tries: int = 5) -> float:
    """Seconds of processor that this thread takes for it, at best of a few tries, of which none
    follows one below ``enough_s``: other threads, other processes and a garbage collection at the
    wrong moment do not count."""
    best_s = math.inf
    for _ in range(tries):
        began_s = time.thread_time()
        work()
        best_s = min(best_s, time.thread_time() - began_s)
        if best_s < enough_s:
            break
    return best_s
