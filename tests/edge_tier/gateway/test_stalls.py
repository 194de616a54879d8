from __future__ import annotations

import asyncio
from dataclasses import dataclass

from edge_tier.gateway.stalls import Stalls, Watched
from tests.fakes.virtual_time import virtual_time
from tests.fakes.waiting import until


@dataclass(eq=False)
class Answer:
    progress: int = 1
    paused: bool = False


@virtual_time
async def test_what_stops_coming_is_told_once_and_in_time() -> None:
    late: list[tuple[Watched, float]] = []
    stalls = Stalls(0.2, 0.05, lambda answer, limit_s: late.append((answer, limit_s)))
    begun, fresh = Answer(), Answer(progress=0)
    began = asyncio.get_running_loop().time()
    for answer in (begun, fresh):
        stalls.watch(answer)
    await until(lambda: len(late) == 2)
    assert late == [(begun, 0.05), (fresh, 0.2)]
    assert asyncio.get_running_loop().time() - began >= 0.2


@virtual_time
async def test_what_gets_on_or_is_not_read_or_is_over_is_left_alone() -> None:
    late: list[Watched] = []
    stalls = Stalls(0.02, 0.02, lambda answer, _: late.append(answer))
    going, waiting, over, silent = Answer(), Answer(paused=True), Answer(), Answer()
    for answer in (going, waiting, over):
        stalls.watch(answer)
    stalls.forget(over)
    stalls.forget(over)
    for _ in range(20):
        going.progress += 1
        await asyncio.sleep(0.005)
    assert late == []
    stalls.watch(silent)
    waiting.paused = False
    await until(lambda: len(late) == 3)
    assert set(late) == {going, waiting, silent}


@virtual_time
async def test_a_timer_runs_only_while_something_is_open() -> None:
    late: list[Watched] = []
    stalls = Stalls(0.01, 0.01, lambda answer, _: late.append(answer))
    for turn in range(1, 4):
        stalls.watch(Answer())
        await until(lambda turn=turn: len(late) == turn)  # type: ignore[misc]
        assert stalls._timer is None
