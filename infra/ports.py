"""A free port that stays free: known before whoever listens there has begun to."""

from __future__ import annotations

import socket

from infra.errors import ChildError


class HeldPort:
    """A port of this machine that nobody else is given until it is closed.

    It is bound and never listens. Whoever binds it with ``SO_REUSEADDR``, as all tiers do, may
    listen there meanwhile, and again after a restart; the kernel chooses it for nobody who asks for
    any free one (socket(7); ``inet_csk_bind_conflict`` in Linux).

    Raises:
        ChildError: there is none.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, 0))
        except OSError as error:
            self._socket.close()
            raise ChildError(f"no free port on {host}: {error.strerror}") from error
        self.number: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Hold it no longer."""
        self._socket.close()
