"""What a tier tells the service manager that started it (sd_notify(3)): that it is ready, how it
is, that it stops; and, where the unit has ``WatchdogSec=``, that its event loop still turns.

The messages are lines of ``NAME=value`` in one datagram to the socket that ``NOTIFY_SOCKET`` names.
Where that variable is missing nothing is opened and nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from wire.errors import ConfigError

NOTIFY_SOCKET = "NOTIFY_SOCKET"
BEAT_S = 5.0
"""How often readiness is looked at where no watchdog asks for more."""
_MARGIN = 3
"""Beats within the watchdog's time: one may be late, and one be lost."""
_MAX_STATUS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """Whom to tell, and how often."""

    address: str
    """As in sockaddr_un: a path, or a name in the abstract space after a NUL."""
    watchdog_s: float = 0.0
    """A process that is silent for so long is ended and started again; 0: nobody watches."""

    @property
    def beat_s(self) -> float:
        """Seconds between two messages."""
        return min(BEAT_S, self.watchdog_s / _MARGIN) if self.watchdog_s else BEAT_S


def manager_of(environ: Mapping[str, str], pid: int) -> Manager | None:
    """The service manager of this process; None where there is none.

    Raises:
        ConfigError: what it says of itself cannot be understood.
    """
    address = environ.get(NOTIFY_SOCKET, "")
    if not address:
        return None
    if address[0] not in "/@":
        raise ConfigError(f"{NOTIFY_SOCKET}={address!r} is neither a path nor an abstract name")
    text = environ.get("WATCHDOG_USEC", "0")
    for_us = environ.get("WATCHDOG_PID", str(pid)) == str(pid)
    if not text.isdecimal():
        raise ConfigError(f"WATCHDOG_USEC={text!r} is no number of microseconds")
    return Manager(
        address="\0" + address[1:] if address[0] == "@" else address,
        watchdog_s=int(text) / 1e6 if for_us else 0.0,
    )


def starting(reason: str, beat_s: float) -> bytes:
    """Not ready yet, and why. A pull may take as long as it takes: every beat asks for two more,
    so only a process that has stopped saying so runs out of time."""
    return f"{_status(reason)}\nEXTEND_TIMEOUT_USEC={_deadline_us(beat_s)}".encode()


def running(reason: str | None, *, first: bool) -> bytes:
    """It was ready once. ``reason``: why it gets nothing new just now."""
    lines = ["READY=1"] if first else []
    return "\n".join([*lines, "WATCHDOG=1", _status(reason or "serving")]).encode()


def stopping(seconds: float) -> bytes:
    """It was told to stop, and will have done so within ``seconds``."""
    lines = ("STOPPING=1", "WATCHDOG=1", _status("stopping"))
    return "\n".join((*lines, f"EXTEND_TIMEOUT_USEC={_us(seconds)}")).encode()


def send(manager: Manager, message: bytes) -> None:
    """One datagram, without waiting. A manager that is gone or has no room misses one beat."""
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out,
    ):
        out.setblocking(False)
        out.sendto(message, manager.address)


def manager_from_environment() -> Manager | None:
    """That of this process. Raises ``ConfigError``."""
    return manager_of(os.environ, os.getpid())


def _deadline_us(beat_s: float) -> int:
    # Twice the slowest beat, and room for a machine that is busy with starting everything.
    return _us(2 * beat_s + 30.0)


def _us(seconds: float) -> int:
    return int(seconds * 1e6)


def _status(text: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in text[:_MAX_STATUS])
    return f"STATUS={shown}"
