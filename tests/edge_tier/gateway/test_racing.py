"""edge_tier.gateway.racing: who begins first wins, and the other one is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from edge_tier.gateway.opened import Opened, StepFailedError
from edge_tier.gateway.racing import race
from edge_tier.gateway.request import Step
from edge_tier.gateway.upstream_response import UpstreamResponse
from tests.fakes.virtual_time import virtual_time


class Answer:
    """As much of an answer as a race needs."""

    def __init__(self) -> None:
        self.closed = False
        self.stopped = False

    def close(self) -> None:
        self.closed = True

    def after(self, seconds: float) -> Callable[[], Coroutine[Any, Any, Opened]]:
        """Begins to answer so late."""

        async def ask() -> Opened:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                self.stopped = True
                raise
            step = Step(target="worker", model="m")
            return Opened(step, cast(UpstreamResponse, self), None, "", "", 0.0)

        return ask


async def failing() -> Opened:
    raise StepFailedError("gone", "w1")


@virtual_time
async def test_a_first_one_that_is_in_time_is_alone() -> None:
    first, second = Answer(), Answer()
    opened = await race(first.after(0), second.after(0), 1, lambda: pytest.fail("nobody asks"))
    assert (cast(object, opened.response), opened.hedged) == (first, False)
    assert not any((first.closed, second.stopped))


@virtual_time
async def test_the_second_one_wins_and_the_first_is_stopped() -> None:
    first, second = Answer(), Answer()
    opened = await race(first.after(60), second.after(0), 0.001, lambda: True)
    assert (cast(object, opened.response), opened.hedged, first.stopped) == (second, True, True)


@virtual_time
async def test_without_leave_the_second_one_is_not_asked() -> None:
    first, second = Answer(), Answer()
    opened = await race(first.after(0.01), second.after(0), 0.001, lambda: False)
    assert (cast(object, opened.response), opened.hedged) == (first, False)


@virtual_time
async def test_a_failure_leaves_it_to_the_other_one() -> None:
    async def late_failure() -> Opened:
        await asyncio.sleep(0.005)
        return await failing()

    second = Answer()
    opened = await race(late_failure, second.after(0.01), 0.001, lambda: True)
    assert opened.hedged
    with pytest.raises(StepFailedError):
        await race(late_failure, failing, 0.001, lambda: True)
