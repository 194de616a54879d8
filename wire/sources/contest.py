"""The rules of one request that several sources may race for. Pure: no clock, no task, no source.

All rules of this state machine live here:

* The best source is asked first. One that is due for a probe is asked beside it, so that nobody
  waits for a source that is only being measured.
* Where the answer is overdue, the next source is asked as well: a hedge. Not more than ``at_once``
  run then.
* A failure is followed by the next source at once, except where it was a probe's.
* A source that gave rotten bytes gets a second chance besides, with ``revalidate``: bytes that
  rotted in its cache heal that way, for everybody.
* Only one of those that run receives into the caller's buffer, and never a probe or a hedge. Who
  failed has let go of it.
* No source is asked twice in the same way; where nobody runs any more, the contest is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Reason = Literal["first", "probe", "hedge", "failover", "second-chance"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to one source. ``buffer``: it may receive into the caller's buffer."""

    source: str
    reason: Reason
    revalidate: bool = False
    buffer: bool = False


class Contest:
    """Whom to ask for one thing, and when.

    Args:
        order: names of the sources, best first; at least one, each once.
        probe: one of them, not the first, to be measured meanwhile.
        buffer: the caller gave a buffer to receive into.
        revalidate: the caller distrusts stored copies; nobody gets a second chance then.
        at_once: no hedge is sent where so many run.
    """

    def __init__(
        self,
        order: Sequence[str],
        *,
        probe: str | None = None,
        buffer: bool = False,
        revalidate: bool = False,
        at_once: int = 3,
    ) -> None:
        self._probe = probe
        self._queue = deque(name for name in order if name != probe)
        self._buffer = buffer
        self._revalidate = revalidate
        self._at_once = at_once
        self._running: list[Ask] = []

    @property
    def running(self) -> tuple[Ask, ...]:
        """Those who were asked and have not failed."""
        return tuple(self._running)

    @property
    def may_hedge(self) -> bool:
        """Whether there is somebody to ask beside those that run."""
        return bool(self._queue) and 0 < len(self._running) < self._at_once

    def start(self) -> tuple[Ask, ...]:
        """Whom to ask first; call it once."""
        first = self._ask(self._queue.popleft(), "first")
        return (first,) if self._probe is None else (first, self._ask(self._probe, "probe"))

    def hedge(self) -> Ask:
        """Whom to ask now that the answer is overdue; only where :attr:`may_hedge`."""
        return self._ask(self._queue.popleft(), "hedge")

    def failed(self, ask: Ask, *, rotten: bool = False) -> tuple[Ask, ...]:
        """Whom to ask now that ``ask`` failed; ``rotten``: with bytes that are not the chunk."""
        self._running.remove(ask)
        asks: list[Ask] = []
        if self._queue and ask.reason != "probe":
            asks.append(self._ask(self._queue.popleft(), "failover"))
        if rotten and not ask.revalidate:
            asks.append(self._ask(ask.source, "second-chance", revalidate=True))
        if self._queue and not self._running:  # only a probe ran, and it failed
            asks.append(self._ask(self._queue.popleft(), "failover"))
        return tuple(asks)

    def _ask(self, source: str, reason: Reason, *, revalidate: bool = False) -> Ask:
        free = self._buffer and not any(ask.buffer for ask in self._running)
        ask = Ask(
            source,
            reason,
            revalidate=revalidate or self._revalidate,
            buffer=free and reason not in {"probe", "hedge"},
        )
        self._running.append(ask)
        return ask
