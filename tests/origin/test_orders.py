from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.fleet import FleetConfig, FleetView
from origin.orders import MAX_ORDERS, CommandRequest, Order, OrderKept, Orders, TooManyOrdersError
from tests.fakes.clock import ManualClock
from tests.fakes.reports import edge_report, worker_report
from wire.errors import ConflictError, NotFoundError, RequestInvalidError
from wire.workers import Done

ID = "command-1"
CONFIG = FleetConfig(command_ttl_s=60)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def view(clock: ManualClock) -> FleetView:
    """``e1`` sees ``w1`` and ``both``, ``e2`` sees ``w2`` and ``both``."""
    view = FleetView(FleetConfig(), clock=clock)
    view.report(edge_report("e1", worker_report("w1"), worker_report("both")))
    view.report(edge_report("e2", worker_report("w2"), worker_report("both")))
    return view


@pytest.fixture
def orders(view: FleetView, clock: ManualClock) -> Orders:
    return Orders(view, CONFIG, clock=clock)


def wanted(node: str, action: Any = "drain", id: str | None = None) -> CommandRequest:  # noqa: A002
    return CommandRequest(node=node, action=action, id=id)


def done_by(worker: str, id: str, problem: str = "") -> Any:  # noqa: A002
    return worker_report(worker, done=(Done(id=id, problem=problem),))


def test_a_command_goes_to_the_edges_that_see_its_worker_until_it_is_done(orders: Orders) -> None:
    order = orders.give(wanted("both", "restart"))
    assert order.state == "waiting"
    assert orders.for_edge("e1") == orders.for_edge("e2") == (order.command,)
    assert orders.order(order.command.id).state == "given"
    assert orders.for_edge("e1") == (order.command,)
    orders.heard(edge_report("e1", done_by("both", order.command.id)))
    assert orders.order(order.command.id).state == "done"
    assert orders.for_edge("e1") == orders.for_edge("e2") == ()


def test_a_problem_comes_back_with_the_result(orders: Orders) -> None:
    order = orders.give(wanted("w1", "repull"))
    orders.for_edge("e1")
    orders.heard(edge_report("e1", done_by("w1", order.command.id, "no room on disk")))
    ended = orders.order(order.command.id)
    assert (ended.state, ended.problem) == ("failed", "no room on disk")


def test_an_edge_is_drained_itself(orders: Orders) -> None:
    order = orders.give(wanted("e1"))
    assert orders.for_edge("e2") == ()
    assert orders.for_edge("e1") == (order.command,)
    orders.heard(edge_report("e1", done=(Done(id=order.command.id),)))
    assert orders.order(order.command.id).state == "done"


def test_commands_of_a_node_keep_their_order(orders: Orders) -> None:
    given_in_order = [orders.give(wanted("w1", act)).command for act in ("drain", "resume")]
    assert list(orders.for_edge("e1")) == given_in_order


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (wanted("nobody"), NotFoundError),
        (wanted("e1", "restart"), RequestInvalidError),
        (wanted("e1", "repull"), RequestInvalidError),
        (wanted("twin"), ConflictError),
    ],
)
def test_what_cannot_be_carried_out_is_refused(
    orders: Orders, view: FleetView, request_: CommandRequest, error: type[Exception]
) -> None:
    view.report(edge_report("twin"))
    view.report(edge_report("e3", worker_report("twin")))
    with pytest.raises(error):
        orders.give(request_)
    assert orders.all() == ()


def test_the_same_id_is_the_same_command(orders: Orders) -> None:
    order = orders.give(wanted("w1", id=ID))
    orders.for_edge("e1")
    assert orders.give(wanted("w1", id=ID)).state == "given"
    assert len(orders.all()) == 1
    with pytest.raises(ConflictError, match="another command"):
        orders.give(wanted("w2", id=ID))
    assert orders.order(ID).command == order.command


# An edge that was taken over


def test_an_edge_hears_nothing_of_others_workers_and_cannot_speak_for_them(orders: Orders) -> None:
    order = orders.give(wanted("w1"))
    assert orders.for_edge("e2") == ()
    orders.heard(edge_report("e2", done_by("w1", order.command.id)))
    assert orders.order(order.command.id).state == "waiting"


def test_a_worker_cannot_end_the_command_of_another_nor_an_edge_that_of_its_worker(
    orders: Orders,
) -> None:
    order = orders.give(wanted("w1"))
    orders.for_edge("e1")
    done = (Done(id=order.command.id),)
    orders.heard(edge_report("e1", done_by("both", order.command.id), done=done))
    assert orders.order(order.command.id).state == "given"


def test_orders_are_bounded_and_those_that_ended_make_room(orders: Orders) -> None:
    first = orders.give(wanted("w1"))
    for _ in range(MAX_ORDERS - 1):
        orders.give(wanted("w1"))
    assert len(orders.for_edge("e1")) < MAX_ORDERS
    with pytest.raises(TooManyOrdersError):
        orders.give(wanted("w1"))
    orders.heard(edge_report("e1", done_by("w1", first.command.id)))
    orders.give(wanted("w1"))
    assert len(orders.all()) == MAX_ORDERS


# Time, and restarts


def test_a_command_that_nobody_carries_out_expires_and_is_then_forgotten(
    orders: Orders, clock: ManualClock
) -> None:
    order = orders.give(wanted("w1"))
    orders.for_edge("e1")
    clock.advance(61)
    assert orders.for_edge("e1") == ()
    expired = orders.order(order.command.id)
    assert (expired.state, "60 s" in expired.problem) == ("expired", True)
    clock.advance(61)
    with pytest.raises(NotFoundError):
        orders.order(order.command.id)


def test_commands_go_on_after_a_restart_of_the_origin(
    orders: Orders, view: FleetView, clock: ManualClock
) -> None:
    done, open_ = orders.give(wanted("w1")), orders.give(wanted("w2"))
    orders.for_edge("e1")
    orders.heard(edge_report("e1", done_by("w1", done.command.id)))
    kept = msgspec.json.decode(msgspec.json.encode(orders.snapshot()), type=tuple[OrderKept, ...])
    again = Orders(view, CONFIG, clock=clock)
    again.restore(kept, elapsed_s=30)
    assert again.all() == orders.all()
    assert again.for_edge("e2") == (open_.command,)
    clock.advance(31)
    assert again.order(open_.command.id).state == "expired"


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.sampled_from(["w1", "w2", "both"])),
        st.tuples(st.just("report"), st.sampled_from(["e1", "e2"])),
        st.tuples(st.just("restart"), st.just("")),
    ),
    max_size=20,
)


@given(_STEPS)
def test_every_command_reaches_its_node_and_ends_once(steps: list[tuple[str, str]]) -> None:
    clock = ManualClock()
    view = FleetView(FleetConfig(), clock=clock)
    sees = {"e1": ("w1", "both"), "e2": ("w2", "both")}
    for edge, workers in sees.items():
        view.report(edge_report(edge, *map(worker_report, workers)))
    orders = Orders(view, CONFIG, clock=clock)
    carried: dict[str, list[str]] = {"w1": [], "w2": [], "both": []}

    def report(edge: str) -> None:
        reports = [
            worker_report(name, done=tuple(Done(id=id) for id in carried[name][-64:]))  # noqa: A001
            for name in sees[edge]
        ]
        orders.heard(edge_report(edge, *reports))
        for command in orders.for_edge(edge):
            assert command.node in sees[edge]
            if command.id not in carried[command.node]:
                carried[command.node].append(command.id)

    given_ones: list[Order] = []
    for what, whom in steps:
        if what == "give":
            given_ones.append(orders.give(wanted(whom)))
        elif what == "report":
            report(whom)
        else:
            kept, orders = orders.snapshot(), Orders(view, CONFIG, clock=clock)
            orders.restore(kept, elapsed_s=0)
    for edge in ("e1", "e2", "e1", "e2"):
        report(edge)
    for order in given_ones:
        assert orders.order(order.command.id).state == "done"
        assert carried[order.command.node].count(order.command.id) == 1
