"""What whoever watches a rollout is told."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from origin.rollout_figures import Window
from origin.rollout_state import Facts, Rollout
from origin.rollout_status import by_revision, standing
from tests.fakes.reports import REVISIONS, worker_report

OLD, NEW = REVISIONS[:2]
ROLLOUT = Rollout(
    id="1",
    model="chat",
    channel="stable",
    revision=NEW,
    previous=OLD,
    started=1.0,
    percent=99,
    stage="observing",
    trial=Window(answered=3, failed=1),
)
FACTS = Facts(
    pointer=None,
    workers=(
        worker_report("w1", revision=NEW),
        worker_report("w2", refused=NEW, fault="hung", reason="no token"),
    ),
    preheated={"e1": None},
    figures={},
)


def test_workers_are_told_one_by_one_and_by_revision() -> None:
    told: Any = standing(ROLLOUT, FACTS)
    assert told["workers_by_revision"] == by_revision(FACTS.workers) == {NEW: 1, OLD: 1}
    one, two = told["workers"]
    assert (one["worker"], one["revision"], one["canary"]) == ("w1", NEW, True)
    assert (two["refused"], two["fault"], two["reason"]) == (NEW, "hung", "no token")
    assert told["preheated"] == {"e1": None}
    assert told["figures"]["trial"]["failed"] == 1


def test_nobody_is_in_a_canary_that_is_over_and_the_list_is_bounded() -> None:
    many = tuple(worker_report(f"w{number}") for number in range(1_000))
    facts = Facts(pointer=None, workers=many, preheated={}, figures={})
    told: Any = standing(replace(ROLLOUT, stage="rolling"), facts)
    assert len(told["workers"]) == 256
    assert told["workers_by_revision"] == {OLD: 1_000}
    assert not any(worker["canary"] for worker in told["workers"])
