"""Tells the edges that this worker lives, how loaded it is, and at once when something changes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from wire.http_beats import Beats
from wire.paths import HEARTBEAT
from wire.workers import HeartbeatAnswer, WorkerReport


class Heartbeat(Beats):
    """Sends reports to every edge.

    Args:
        report: makes the current report; called on the event loop.
        interval_s: between two of them when nothing changes.
        answered: told of an edge's URL and what it answered; called on the event loop.
    """

    def __init__(
        self,
        edges: tuple[str, ...],
        token: str,
        report: Callable[[], WorkerReport],
        *,
        interval_s: float,
        answered: Callable[[str, HeartbeatAnswer], None] = lambda _url, _answer: None,
    ) -> None:
        def understood(url: str, body: bytes) -> None:
            answered(url, msgspec.json.decode(body or b"{}", type=HeartbeatAnswer))

        super().__init__(
            edges,
            token,
            HEARTBEAT,
            lambda: msgspec.json.encode(report()),
            interval_s=interval_s,
            answered=understood,
            name="heartbeat",
        )
