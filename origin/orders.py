"""Commands on their way to the nodes: kept until the node says what became of them, or too long.

An order goes to the edges that see its worker, in the answers to their reports, for as long as no
result has come back: a command may arrive more than once and is done once. A result counts only
where it comes from the node itself, through an edge that the order was given to, so an edge that
was taken over can speak for its own workers and for nobody else's.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from origin.fleet import FleetConfig, FleetView
from wire.errors import ConflictError, HeadwaterError, NotFoundError, RequestInvalidError
from wire.fleet import EdgeReport
from wire.workers import Command, CommandId, Done, NodeAction, NodeName

State = Literal["waiting", "given", "done", "failed", "expired"]
"""``given``: to an edge, and nothing was heard of it since."""
MAX_ORDERS = 512
_MAX_GIVEN = 32
"""Of one edge at once: what an answer carries."""
_ENDED = frozenset({"done", "failed", "expired"})
_OF_EDGES = frozenset({"drain", "resume"})


class CommandRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator wants. The same ``id`` again is the same command."""

    node: NodeName
    action: NodeAction
    id: Annotated[CommandId, Meta(min_length=8)] | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A command and what became of it."""

    command: Command
    kind: Literal["edge", "worker"]
    state: State = "waiting"
    problem: str = ""
    edges: tuple[str, ...] = ()
    """Those it was given to."""


class OrderKept(msgspec.Struct, frozen=True, kw_only=True):
    """An order in a snapshot."""

    order: Order
    age_s: float
    """Since the command, or since it ended."""


class TooManyOrdersError(HeadwaterError):
    """Commands are given faster than nodes carry them out."""

    status = 429
    code = "too_many_commands"


class Orders:
    """The commands of an origin.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, view: FleetView, config: FleetConfig, *, clock: Callable[[], float]) -> None:
        self._view = view
        self._ttl_s = config.command_ttl_s
        self._clock = clock
        self._orders: dict[str, tuple[Order, float]] = {}
        """By id, the oldest first; with the time of the command, or of its end."""
        self.version = 0

    def give(self, request: CommandRequest) -> Order:
        """Take a command on.

        Raises:
            NotFoundError: no node of this name.
            ConflictError: an edge and a worker have this name, or the id is another command's.
            RequestInvalidError: not for this kind of node.
            TooManyOrdersError: too many are under way.
        """
        self._expire()
        command = Command(
            id=request.id or secrets.token_hex(8), node=request.node, action=request.action
        )
        if command.id in self._orders:
            known = self._orders[command.id][0]
            if known.command != command:
                raise ConflictError(f"another command has the id {command.id}")
            return known
        order = Order(command=command, kind=self._kind(command))
        self._make_room()
        self._orders[command.id] = order, self._clock()
        self.version += 1
        return order

    def all(self) -> tuple[Order, ...]:
        """What is remembered, the oldest first."""
        self._expire()
        return tuple(order for order, _ in self._orders.values())

    def order(self, id: str) -> Order:  # noqa: A002
        """Raises ``NotFoundError``."""
        self._expire()
        if id not in self._orders:
            raise NotFoundError(f"no command {id[:64]!r} is known here; it may be too long ago")
        return self._orders[id][0]

    def for_edge(self, edge: str) -> tuple[Command, ...]:
        """What an edge is told now, in the order in which it was wanted."""
        self._expire()
        open_ones = [o for o, _ in self._orders.values() if o.state not in _ENDED]
        if not open_ones:
            return ()
        names = {"worker": self._view.seen_by(edge), "edge": frozenset({edge})}
        given = [o for o in open_ones if o.command.node in names[o.kind]][:_MAX_GIVEN]
        for order in given:
            if edge not in order.edges:
                self._change(order, state="given", edges=(*order.edges, edge))
        return tuple(order.command for order in given)

    def heard(self, report: EdgeReport) -> None:
        """Take the results that an edge's report brings."""
        if not self._orders:
            return
        self._ended(report.edge, report.edge, report.done)
        for seen in report.workers:
            if seen.report.done:
                self._ended(report.edge, seen.report.worker, seen.report.done)

    def snapshot(self) -> tuple[OrderKept, ...]:
        """All orders, to be kept."""
        now = self._clock()
        return tuple(OrderKept(order=o, age_s=now - at) for o, at in self._orders.values())

    def restore(self, kept: Iterable[OrderKept], *, elapsed_s: float) -> None:
        """Begin with what was kept ``elapsed_s`` seconds ago."""
        then = self._clock() - max(0.0, elapsed_s)
        for one in list(kept)[:MAX_ORDERS]:
            self._orders[one.order.command.id] = one.order, then - one.age_s

    def _kind(self, command: Command) -> Literal["edge", "worker"]:
        node = command.node
        is_edge, is_worker = self._view.knows_edge(node), self._view.knows_worker(node)
        if is_edge and is_worker:
            raise ConflictError(f"an edge and a worker are both called {node!r}; rename one")
        if not is_edge and not is_worker:
            raise NotFoundError(f"no node {node!r} reports here; see GET /admin/fleet")
        if is_edge and command.action not in _OF_EDGES:
            raise RequestInvalidError(
                f"{node} is an edge: it can be drained and resumed, not told to {command.action}"
            )
        return "edge" if is_edge else "worker"

    def _ended(self, edge: str, node: str, results: Iterable[Done]) -> None:
        for done in results:
            order, _ = self._orders.get(done.id, (None, 0.0))
            if order is None or order.state in _ENDED:
                continue
            if order.command.node == node and edge in order.edges:
                state: State = "failed" if done.problem else "done"
                self._change(order, state=state, problem=done.problem)

    def _change(self, order: Order, **changes: object) -> None:
        changed = replace(order, **changes)
        _, at = self._orders[order.command.id]
        ended = changed.state in _ENDED
        self._orders[order.command.id] = changed, self._clock() if ended else at
        self.version += 1

    def _expire(self) -> None:
        now = self._clock()
        for id, (order, at) in list(self._orders.items()):  # noqa: A001
            if now - at <= self._ttl_s:
                continue
            if order.state in _ENDED:
                del self._orders[id]
                self.version += 1
            else:
                why = f"nothing was heard of it within {self._ttl_s:g} s"
                self._change(order, state="expired", problem=why)

    def _make_room(self) -> None:
        if len(self._orders) < MAX_ORDERS:
            return
        ended = [id for id, (order, _) in self._orders.items() if order.state in _ENDED]  # noqa: A001
        if not ended:
            raise TooManyOrdersError(f"{len(self._orders)} commands are under way already")
        del self._orders[ended[0]]
