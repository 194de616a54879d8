"""edge_tier.gateway.opened: how an answer ended is counted once, and its slot is free."""

from __future__ import annotations

from typing import cast

import pytest

from edge_tier.gateway.breaker import Breaker, BreakerConfig
from edge_tier.gateway.fleet import Member
from edge_tier.gateway.opened import Opened
from edge_tier.gateway.request import Step
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.upstream_response import UpstreamResponse
from tests.fakes.clock import ManualClock
from wire.workers import WorkerReport


class Answer:
    """How it ended."""

    def __init__(self, *, ended: bool, failed: bool) -> None:
        self.ended = ended
        self.failed = failed

    def close(self) -> None:
        pass


def member() -> Member:
    report = WorkerReport(
        worker="w", url="http://w", model="m", channel="stable", state="ready", revision="r",
        slots=1, busy=0, queue=0, ttl_s=5.0,
    )  # fmt: skip
    return Member(report, 5.0, Breaker(BreakerConfig(), ManualClock()), in_flight=1)


@pytest.mark.parametrize(
    ("ended", "failed", "broke", "counted"),
    [
        (True, False, False, (1, 0)),
        (False, True, False, (0, 1)),
        (True, False, True, (0, 1)),
        (False, False, False, (0, 0)),
    ],
)
def test_it_counts_once_and_gives_its_slot_back_once(
    ended: bool, failed: bool, broke: bool, counted: tuple[int, int]
) -> None:
    counts, worker = RevisionCounts(), member()
    answer = cast(UpstreamResponse, Answer(ended=ended, failed=failed))
    step = Step(target="worker", model="m")
    opened = Opened(step, answer, worker, "r", "w", 0.0, broke=broke, counts=counts)
    for _ in range(2):
        opened.close()
    rows = [(row.answered, row.failed) for row in counts.figures()] or [(0, 0)]
    assert (rows, worker.in_flight) == ([counted], 0)
