from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from wire.errors import NotFoundError, SourceUnavailableError
from wire.sources.flights import Flights, Landed


class Airport:
    """Fetches that wait for ``gate`` and then end as ``outcomes`` says, one after the other."""

    def __init__(self, *outcomes: str | Exception) -> None:
        self.outcomes = list(outcomes)
        self.gate = asyncio.Event()
        self.started = 0
        self.cancelled = 0
        self.departed = asyncio.Event()

    async def fetch(self) -> str:
        self.started += 1
        outcome = self.outcomes.pop(0)
        self.departed.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


@pytest.fixture
def flights() -> Flights[str, str]:
    return Flights("test", attempts=3)


async def _crowd(
    flights: Flights[str, str], size: int, fetch: Callable[[], Awaitable[str]]
) -> list[asyncio.Task[Landed[str]]]:
    tasks = [asyncio.create_task(flights.board("key", fetch)) for _ in range(size)]
    for _ in range(3):
        await asyncio.sleep(0)  # all of them have boarded
    return tasks


async def test_concurrent_callers_share_one_fetch(flights: Flights[str, str]) -> None:
    airport = Airport("value")
    tasks = await _crowd(flights, 200, airport.fetch)
    airport.gate.set()
    landed = await asyncio.gather(*tasks)
    assert airport.started == 1
    assert {one.value for one in landed} == {"value"}
    assert [one.collapsed for one in landed] == [False] + [True] * 199


async def test_nothing_is_kept_after_landing(flights: Flights[str, str]) -> None:
    airport = Airport("first", "second")
    airport.gate.set()
    assert (await flights.board("key", airport.fetch)).value == "first"
    assert (await flights.board("key", airport.fetch)).value == "second"
    assert len(flights) == 0


async def test_keys_fly_apart(flights: Flights[str, str]) -> None:
    airport = Airport("a", "b")
    airport.gate.set()
    values = await asyncio.gather(
        flights.board("one", airport.fetch), flights.board("two", airport.fetch)
    )
    assert sorted(landed.value for landed in values) == ["a", "b"]


async def test_when_the_opener_is_cancelled_a_waiter_takes_over(
    flights: Flights[str, str],
) -> None:
    airport = Airport("value")
    opener, *waiters = await _crowd(flights, 5, airport.fetch)
    opener.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opener
    airport.gate.set()
    landed = await asyncio.gather(*waiters)
    assert [one.value for one in landed] == ["value"] * 4
    assert (airport.started, airport.cancelled) == (1, 0)


async def test_when_the_last_caller_leaves_the_fetch_is_cancelled(
    flights: Flights[str, str],
) -> None:
    airport = Airport("value", "again")
    tasks = await _crowd(flights, 3, airport.fetch)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    airport.gate.set()
    assert (await flights.board("key", airport.fetch)).value == "again"
    assert (airport.started, airport.cancelled) == (2, 1)


async def test_a_failure_belongs_to_the_opener_and_a_waiter_retries(
    flights: Flights[str, str],
) -> None:
    airport = Airport(SourceUnavailableError("first try"), "value")
    opener, *waiters = await _crowd(flights, 10, airport.fetch)
    airport.gate.set()
    landed = await asyncio.gather(*waiters)
    assert [one.value for one in landed] == ["value"] * 9
    assert [one.collapsed for one in landed].count(False) == 1
    with pytest.raises(SourceUnavailableError, match="first try"):
        await opener
    assert airport.started == 2


async def test_attempts_are_bounded_for_the_whole_crowd(flights: Flights[str, str]) -> None:
    airport = Airport(*(SourceUnavailableError(f"try {number}") for number in range(9)))
    tasks = await _crowd(flights, 200, airport.fetch)
    airport.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert airport.started == 3
    assert all(isinstance(error, SourceUnavailableError) for error in errors)
    assert len({id(error) for error in errors}) == 200  # everyone raises an error of its own
    assert [str(error) for error in errors].count("try 2") == 198


async def test_not_found_is_an_answer_for_everybody(flights: Flights[str, str]) -> None:
    airport = Airport(NotFoundError("no such chunk"))
    tasks = await _crowd(flights, 50, airport.fetch)
    airport.gate.set()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert airport.started == 1
    assert all(isinstance(error, NotFoundError) for error in errors)


async def test_closing_fails_the_passengers(flights: Flights[str, str]) -> None:
    airport = Airport("value")
    tasks = await _crowd(flights, 3, airport.fetch)
    await flights.aclose()
    errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, SourceUnavailableError) for error in errors)
    await flights.aclose()


async def test_a_failed_fetch_nobody_waits_for_is_silent(flights: Flights[str, str]) -> None:
    async def fail_when_cancelled() -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise SourceUnavailableError("broke while closing")

    (task,) = await _crowd(flights, 1, fail_when_cancelled)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await flights.aclose()  # an exception nobody saw would be a warning, and so a failure
