"""An operator's commands to this worker (``wire.workers.Command``): each is done once.

They come in the answers to heartbeats, from every edge and for every model, again and again until
the worker has said that they are done. :class:`Inbox` is pure; :class:`Orderly` carries them out.
``drain`` and ``resume`` hold at once; ``restart`` and ``repull`` take their time, one after the
other.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import structlog

from gpu_worker.resident import Resident
from wire.workers import Command, Done

_log = structlog.get_logger("commands")
MAX_KNOWN = 256
"""Commands that are remembered, done or not."""
MAX_WAITING = 16
MAX_DONE = 16
MAX_ANSWER = 64
"""Commands of one answer that are looked at."""
MAX_ID_CHARS = 128
_MAX_PROBLEM = 500


class Inbox:
    """Which commands are new, and what became of the last ones. Bounded, whatever comes.

    Args:
        node: this worker's name; commands for others are none of ours.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._known: OrderedDict[str, Done | None] = OrderedDict()
        """What became of each; None: it is under way."""
        self._done: deque[Done] = deque(maxlen=MAX_DONE)

    @property
    def done(self) -> tuple[Done, ...]:
        """The last commands that are over, the latest last."""
        return tuple(self._done)

    def fresh(self, commands: Iterable[Command]) -> list[Command]:
        """Those that are for this worker and came for the first time."""
        return [
            command
            for command in islice(commands, MAX_ANSWER)
            if command.node == self._node and self._is_new(command.id)
        ]

    def finish(self, command: Command, problem: str = "") -> None:
        """It is over; ``problem`` says why it was not done."""
        done = Done(id=command.id, problem=problem[:_MAX_PROBLEM])
        if command.id in self._known:
            self._known[command.id] = done
        self._done.append(done)

    def _is_new(self, id_: str) -> bool:
        """Whoever asks for one that is over has not heard of that: it is told again."""
        if not 0 < len(id_) <= MAX_ID_CHARS:
            return False
        if id_ in self._known:
            self._known.move_to_end(id_)
            done = self._known[id_]
            if done is not None and done not in self._done:
                self._done.append(done)
            return False
        self._known[id_] = None
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True


class Orderly:
    """Carries commands out.

    Args:
        residents: the models; a command is for all of them.
        on_change: there is something new to tell the edges.
    """

    def __init__(
        self, node: str, residents: Sequence[Resident], *, on_change: Callable[[], None]
    ) -> None:
        self._inbox = Inbox(node)
        self._residents = residents
        self._on_change = on_change
        self._slow: asyncio.Queue[Command] = asyncio.Queue(MAX_WAITING)

    @property
    def done(self) -> tuple[Done, ...]:
        """The last commands that are over."""
        return self._inbox.done

    def take(self, commands: Iterable[Command]) -> None:
        """Do what is quick; what takes longer is left to ``run``."""
        for command in self._inbox.fresh(commands):
            if command.action in {"drain", "resume"}:
                self._hold(command)
            elif self._slow.full():
                self._finish(command, "too many commands wait already; give it again later")
            else:
                self._slow.put_nowait(command)

    async def run(self) -> None:
        """Do one after the other until cancelled."""
        while True:
            command = await self._slow.get()
            problems = []
            for resident in self._residents:
                try:
                    problem = await resident.restart(fresh_files=command.action == "repull")
                except Exception as error:  # noqa: BLE001 - told, and the next one follows
                    _log.exception("command failed", action=command.action, model=resident.name)
                    problem = type(error).__name__
                if problem:
                    problems.append(f"{resident.name}: {problem}")
            self._finish(command, "; ".join(problems))

    def _hold(self, command: Command) -> None:
        for resident in self._residents:
            if command.action == "drain":
                resident.serving.hold("an operator drained this worker")
            else:
                resident.serving.release()
        self._finish(command)

    def _finish(self, command: Command, problem: str = "") -> None:
        self._inbox.finish(command, problem)
        _log.info("command", id=command.id, action=command.action, problem=problem)
        self._on_change()
