"""Ports for programs that cannot be told to take any free one."""

from __future__ import annotations

import os
import random
import socket
from contextlib import suppress

_FIRST, _EACH = 10_000, 1_000
"""Below those that the system gives to whoever asks for any (``ip_local_port_range``), so that
nobody takes one meanwhile; and for each of pytest's workers other ones."""


def free_port(beside: int = 0) -> int:
    """One that is free now, as is the one so many above it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = _FIRST + _EACH * (worker % 10)
    for _ in range(100):
        port = random.randrange(first, first + _EACH)
        with suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            if beside:
                other.bind(("127.0.0.1", port + beside))
            return port
    raise AssertionError("no free port")
