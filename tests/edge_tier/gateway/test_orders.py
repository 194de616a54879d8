from __future__ import annotations

from edge_tier.gateway.orders import MAX_COMMANDS, Orders
from tests.fakes.clock import ManualClock
from wire.workers import Command

DRAIN = Command(id="c1", node="w1", action="drain")
RESUME = Command(id="c2", node="w1", action="resume")
OTHER = Command(id="c3", node="w2", action="restart")


def test_a_worker_gets_its_own_commands_in_their_order_until_they_are_withdrawn() -> None:
    orders = Orders(ManualClock())
    assert orders.for_worker("w1") == ()
    orders.hold("o1", [DRAIN, OTHER, RESUME])
    assert orders.for_worker("w1") == (DRAIN, RESUME)
    assert orders.for_worker("w1") == (DRAIN, RESUME)
    assert orders.for_worker("w2") == (OTHER,)
    orders.hold("o1", [RESUME])
    assert orders.for_worker("w1") == (RESUME,)
    orders.hold("o1", [])
    assert orders.for_worker("w1") == ()


def test_what_two_origins_want_is_wanted_once() -> None:
    orders = Orders(ManualClock())
    orders.hold("o1", [DRAIN])
    orders.hold("o2", [DRAIN, RESUME])
    assert orders.for_worker("w1") == (DRAIN, RESUME)


def test_an_origin_that_falls_silent_is_not_repeated_for_long() -> None:
    clock = ManualClock()
    orders = Orders(clock, ttl_s=10)
    orders.hold("o1", [DRAIN])
    clock.advance(9)
    orders.hold("o2", [RESUME])
    assert orders.for_worker("w1") == (DRAIN, RESUME)
    clock.advance(1)
    assert orders.for_worker("w1") == (RESUME,)


def test_an_origin_cannot_make_this_edge_hold_any_number() -> None:
    orders = Orders(ManualClock())
    orders.hold("o1", [Command(id=f"c{n}", node="w1", action="drain") for n in range(9_999)])
    assert len(orders.for_worker("w1")) == MAX_COMMANDS
