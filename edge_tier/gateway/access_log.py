"""One line of JSON for each request, written in batches.

The general logger costs tens of microseconds and a system call for each line. Here a line is
encoded at once and written with those that come within ``delay_s``; a crash loses at most these.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, BinaryIO

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str).encode
_FULL_LINES = 512


class AccessLog:
    """Args:
    out: where lines go; the process's standard error by default configuration.
    delay_s: how long a line may wait.
    wall: Unix seconds.
    """

    def __init__(
        self, out: BinaryIO, *, delay_s: float = 0.1, wall: Callable[[], float] = time.time
    ) -> None:
        self._out = out
        self._delay_s = delay_s
        self._wall = wall
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, level: str, event: str, fields: dict[str, Any]) -> None:
        """Add a line. ``fields`` must hold no secret and no text of a prompt."""
        line = {
            **fields,
            "event": event,
            "level": level,
            "timestamp": datetime.fromtimestamp(self._wall(), UTC),
        }
        self._lines.append(_encode(line))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self.flush)
        elif len(self._lines) >= _FULL_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            lines.append(b"")
            self._out.write(b"\n".join(lines))
            self._out.flush()
