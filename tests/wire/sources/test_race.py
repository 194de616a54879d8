from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.fakes.timed_source import TimedSource
from tests.fakes.virtual_time import now_s, virtual_time
from wire.chunk import Chunk
from wire.errors import (
    ChunkMismatchError,
    GoneError,
    HeadwaterError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.sources.contest import Ask, Contest
from wire.sources.race import Race

DATA = b"weights." * 16


class Course:
    """Three sources that have a chunk, and races between them."""

    def __init__(self, *latencies_s: float) -> None:
        self.sources = {
            name: TimedSource(name, latency_s, letting_go_s=0.01)
            for name, latency_s in zip("abc", latencies_s, strict=False)
        }
        (self.chunk,) = {source.add_chunk(DATA) for source in self.sources.values()}
        self.asked: list[tuple[float, str, str]] = []
        self.unused: list[str] = []
        self.into = memoryview(bytearray(len(DATA)))

    def __getitem__(self, name: str) -> TimedSource:
        return self.sources[name]

    async def run(
        self,
        *,
        probe: str | None = None,
        patience_s: float = 1.0,
        may_hedge: Callable[[], bool] = lambda: True,
    ) -> tuple[Ask, Chunk]:
        contest = Contest(list(self.sources), probe=probe, buffer=True)
        try:
            return await Race(
                contest,
                self._ask,
                patience_s=lambda _: patience_s,
                may_hedge=may_hedge,
                unused=lambda ask, _: self.unused.append(ask.source),
            ).run("the chunk")
        finally:
            assert not any(source.writing for source in self.sources.values())

    async def _ask(self, ask: Ask) -> Chunk:
        self.asked.append((now_s(), ask.source, ask.reason))
        into = self.into if ask.buffer else None
        return await self[ask.source].chunk(self.chunk, revalidate=ask.revalidate, into=into)


class Buggy(TimedSource):
    """Fails as no source may."""

    async def _enter(self, key: str) -> None:
        raise ZeroDivisionError(key)


@virtual_time
async def test_the_first_receives_into_the_callers_buffer() -> None:
    course = Course(0.5, 0.1)
    ask, chunk = await course.run()
    assert (ask.source, chunk.data, bytes(course.into)) == ("a", course.into, DATA)
    assert course.asked == [(0.0, "a", "first")]


@virtual_time
async def test_an_overdue_answer_is_hedged_and_the_loser_lets_go_of_the_buffer() -> None:
    course = Course(9.0, 0.1)
    ask, chunk = await course.run()
    assert (ask.source, ask.reason, bytes(chunk.data)) == ("b", "hedge", DATA)
    assert chunk.data is not course.into
    assert course["b"].buffers == [None]
    assert now_s() == pytest.approx(1.0 + 0.1 + 0.01)


@virtual_time
async def test_a_hedge_that_stalls_is_followed_by_another() -> None:
    course = Course(9.0, 9.0, 0.1)
    assert (await course.run())[0].source == "c"
    assert course.asked == [(0.0, "a", "first"), (1.0, "b", "hedge"), (2.0, "c", "hedge")]


@virtual_time
async def test_without_a_budget_it_waits_and_asks_again_for_one() -> None:
    course, answers = Course(9.0, 0.1), [False, False, True]
    await course.run(may_hedge=lambda: answers.pop(0))
    assert course.asked[1] == (3.0, "b", "hedge")


@virtual_time
async def test_a_probe_costs_no_time_and_wins_where_it_is_faster() -> None:
    slow_probe, fast_probe = Course(0.1, 0.5), Course(0.5, 0.1)
    assert (await slow_probe.run(probe="b"))[0].source == "a"
    assert now_s() == pytest.approx(0.1 + 0.01)
    assert (await fast_probe.run(probe="b"))[0].reason == "probe"
    assert fast_probe["b"].buffers == [None]


@virtual_time
async def test_a_failure_goes_on_at_once_with_the_buffer() -> None:
    course = Course(0.1, 0.1)
    course["a"].down = SourceUnavailableError("reset")
    ask, chunk = await course.run()
    assert (ask.source, chunk.data) == ("b", course.into)
    assert now_s() == pytest.approx(0.1)


@virtual_time
async def test_rot_is_asked_for_again_beside_the_next_source() -> None:
    course = Course(0.1, 0.5)
    course["a"].rotten.add(course.chunk)
    ask, chunk = await course.run()
    assert (ask.source, ask.reason, bytes(chunk.data)) == ("a", "second-chance", DATA)
    assert course["a"].revalidations == 1
    assert now_s() == pytest.approx(0.1 + 0.1 + 0.01)


@virtual_time
async def test_of_two_answers_at_once_the_one_in_the_buffer_is_taken() -> None:
    course = Course(0.1, 0.1)
    assert (await course.run(probe="b"))[1].data is course.into
    assert course.unused == ["b"]


@virtual_time
async def test_a_takedown_is_final_whoever_says_so() -> None:
    course = Course(0.5, 0.1)
    course["b"].gone.add(f"chunk:{course.chunk}")
    with pytest.raises(GoneError):
        await course.run(probe="b")


@pytest.mark.parametrize(
    ("a", "b", "raised"),
    [
        (NotFoundError("no"), NotFoundError("no"), NotFoundError),
        (NotFoundError("no"), SourceUnavailableError("reset"), SourceUnavailableError),
        (ChunkMismatchError("rot"), ChunkMismatchError("rot"), ChunkMismatchError),
    ],
)
@virtual_time
async def test_where_all_fail_the_error_names_all(
    a: HeadwaterError, b: HeadwaterError, raised: type[HeadwaterError]
) -> None:
    course = Course(0.0, 0.0)
    course["a"].down, course["b"].down = a, b
    with pytest.raises(raised, match=r"the chunk is not to be had: a: .*b: ") as caught:
        await course.run()
    assert type(caught.value) is raised


@virtual_time
async def test_what_is_no_failure_of_a_source_is_not_hidden() -> None:
    course = Course(0.0, 0.0)
    course.sources["a"] = Buggy("a")
    with pytest.raises(ZeroDivisionError):
        await course.run()


@virtual_time
async def test_who_is_cancelled_goes_on_only_when_all_have_let_go() -> None:
    course = Course(9.0, 9.0)
    task = asyncio.create_task(course.run())
    await asyncio.sleep(1.5)  # both run
    assert course["a"].writing
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()  # and once more
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now_s() == pytest.approx(1.5 + 0.01)
