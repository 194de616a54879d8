"""A wall clock that is wrong, in a process that is otherwise real.

Python imports this module at its start where the folder is on ``PYTHONPATH``. The seconds to add
are read from the file that ``CLOCK_OFF_FILE`` names, at every look at the clock, so that it can
jump while the process runs. The monotonic clock goes on as it is, as when somebody sets the clock.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_file = os.environ.get("CLOCK_OFF_FILE")
if _file:
    _path, _true_clock = Path(_file), time.time

    def _wrong_clock() -> float:
        return _true_clock() + float(_path.read_text())

    time.time = _wrong_clock
