from __future__ import annotations

from typing import Any

import pytest
from msgspec import UNSET

from origin.console.roll_rows import roll_row
from origin.console.state import RollRow
from origin.rollout_figures import Window
from origin.rollout_state import Rollout
from tests.fakes.looks import AT, NEW, OLD


def row(**fields: Any) -> RollRow:
    given: dict[str, Any] = {"started": AT - 100, "looked": AT, "stage_s": 40.0}
    roll = Rollout(
        id="1", model="chat", channel="stable", revision=NEW, previous=OLD, **{**given, **fields}
    )
    return roll_row(roll, taken=2, total=5)


def test_a_roll_that_runs() -> None:
    found = row(stage="canary", percent=10, notes=("begun", "two workers serve it"))
    assert (found.stage, found.running, found.percent) == ("canary", True, 10)
    assert (found.revision, found.previous, found.taken, found.total) == (NEW, OLD, 2, 5)
    assert found.since == AT - 40
    assert found.reason == "two workers serve it"
    assert found.failed_ratio is UNSET
    assert found.first_token_p95_ms is UNSET


def test_a_stage_did_not_begin_before_its_roll() -> None:
    assert row(stage_s=1e6).since == AT - 100


def test_a_roll_that_is_over_stands_since_its_end() -> None:
    found = row(stage="aborted", ended=AT - 7, reason="error rate 9%")
    assert (found.running, found.since, found.reason) == (False, AT - 7, "error rate 9%")


def test_figures_of_the_trial() -> None:
    found = row(stage="observing", trial=Window(answered=99, failed=1, first_token=(0, 100)))
    assert found.failed_ratio == 0.01
    assert found.first_token_p95_ms == 9.8


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"waiting": ("w1",)}, "waits for w1"),
        ({"waiting": ("w1", "w2", "w3", "w4", "w5")}, "waits for w1, w2, w3 and 2 more"),
        ({"refused": {"w1": "bad file"}}, "w1: bad file"),
        (
            {"refused": {"w1": "bad file", "w2": "x"}, "waiting": ("w3",)},
            "w1, and 1 more: bad file",
        ),
        ({"why": "release 7"}, "release 7"),
        ({"stage": "done", "ended": AT, "notes": ("note",), "why": "release 7"}, "release 7"),
        ({}, ""),
    ],
)
def test_why_it_stands_where_it_stands(fields: dict[str, Any], reason: str) -> None:
    assert row(**{"stage": "rolling", **fields}).reason == reason
