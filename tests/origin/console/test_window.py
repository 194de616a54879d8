from __future__ import annotations

from typing import Any

import pytest

from origin.console.window import Window
from origin.fleet_nodes import EdgeNode, Presence
from tests.fakes.reports import edge_report
from wire.fleet import PromptFigures


def node(
    answered: int = 0,
    *,
    name: str = "e1",
    age_s: float = 0.0,
    presence: Presence = "here",
    **fields: Any,
) -> EdgeNode:
    report = edge_report(name, prompts=PromptFigures(answered=answered), **fields)
    return EdgeNode(name=name, report=report, age_s=age_s, presence=presence)


def answered_per_s(window: Window, seconds: float = 5.0, name: str = "e1") -> float:
    one = window.lately(seconds)[name]
    return one.rate(one.before.prompts.answered, one.now.prompts.answered)


def test_a_rate_is_that_of_the_last_seconds() -> None:
    window = Window()
    for second in range(30):
        window.note([node(10 * min(second, 20))], sent=0, now=float(second))
    assert answered_per_s(window, 5) == 0
    assert answered_per_s(window, 29) == pytest.approx(200 / 29)


def test_a_rate_goes_by_when_reports_were_heard() -> None:
    window = Window()
    window.note([node(0, age_s=0.9)], sent=0, now=100.0)
    window.note([node(30, age_s=0.1)], sent=0, now=102.2)
    assert answered_per_s(window) == pytest.approx(10)


def test_the_first_look_knows_no_rate() -> None:
    window = Window()
    window.note([node(1_000)], sent=1e9, now=5.0)
    assert answered_per_s(window) == 0
    assert window.sent_per_s(5) == 0
    assert Window().lately(5) == {}


def test_an_edge_that_started_again_is_compared_with_itself() -> None:
    window = Window()
    window.note([node(1_000)], sent=0, now=0.0)
    window.note([node(5, started=2.0)], sent=0, now=1.0)
    assert answered_per_s(window) == 0
    window.note([node(9, started=2.0)], sent=0, now=2.0)
    assert answered_per_s(window) == pytest.approx(4)


def test_who_is_not_here_has_no_rates_and_who_is_new_gets_some() -> None:
    window = Window()
    window.note([node(1), node(1, name="e2")], sent=0, now=0.0)
    gone = node(1, name="e2", presence="missing")
    window.note([node(2), gone, node(7, name="e3")], sent=0, now=1.0)
    window.note([node(2), gone, node(9, name="e3")], sent=0, now=2.0)
    assert window.lately(5).keys() == {"e1", "e3"}
    assert answered_per_s(window, name="e3") == pytest.approx(2)


def test_bytes_that_left_the_origin() -> None:
    window = Window()
    for second in range(10):
        window.note([], sent=second * 100.0, now=float(second))
    assert window.sent_per_s(5) == pytest.approx(100)


def test_looks_are_bounded_however_often_and_long_one_looks() -> None:
    window = Window()
    for tick in range(3_000):
        window.note([node(tick)], sent=0, now=tick / 10)
    assert len(window._looks) < 90
    assert answered_per_s(window, 60) == pytest.approx(10, rel=0.05)
