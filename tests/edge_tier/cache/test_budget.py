from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.cache.budget import ByteBudget


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_bytes_are_lent_until_they_are_out() -> None:
    budget = ByteBudget(10)
    assert await budget.lend(6) == 6
    second = asyncio.create_task(budget.lend(6))
    await _turns()
    assert not second.done()
    budget.give_back(6)
    assert await second == 6
    assert budget.lent_bytes == 6


async def test_a_wish_beyond_the_total_gets_all_of_it() -> None:
    assert await ByteBudget(10).lend(1000) == 10


async def test_small_wishes_do_not_overtake_a_large_one() -> None:
    budget = ByteBudget(10)
    await budget.lend(5)
    large = asyncio.create_task(budget.lend(8))
    await _turns()
    small = asyncio.create_task(budget.lend(1))
    await _turns()
    assert not small.done()
    budget.give_back(5)
    await asyncio.gather(large, small)


async def test_leaving_the_queue_lets_the_next_one_in() -> None:
    budget = ByteBudget(10)
    await budget.lend(5)
    large = asyncio.create_task(budget.lend(8))
    await _turns()
    small = asyncio.create_task(budget.lend(2))
    await _turns()
    large.cancel()
    assert await small == 2
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_bytes_served_in_the_moment_of_leaving_come_back() -> None:
    budget = ByteBudget(10)
    await budget.lend(10)
    waiting = asyncio.create_task(budget.lend(10))
    await _turns()
    budget.give_back(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.lent_bytes == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=30))
def test_no_more_than_the_total_is_ever_lent(wishes: list[tuple[int, bool]]) -> None:
    async def scenario() -> None:
        budget = ByteBudget(20)

        async def borrow(size: int) -> None:
            lent = await budget.lend(size)
            try:
                assert budget.lent_bytes <= 20
                await asyncio.sleep(0)
            finally:
                budget.give_back(lent)

        tasks = [asyncio.create_task(borrow(size)) for size, _ in wishes]
        await asyncio.sleep(0)
        for task, (_, leaves) in zip(tasks, wishes, strict=True):
            if leaves:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert budget.lent_bytes == 0

    asyncio.run(scenario())
