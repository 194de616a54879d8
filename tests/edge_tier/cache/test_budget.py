from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_tier.cache.budget import ByteBudget, Loan


async def _turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_bytes_are_lent_until_they_are_out() -> None:
    budget = ByteBudget(10)
    first = await budget.lend(6)
    second = asyncio.create_task(budget.lend(6))
    await _turns()
    assert not second.done()
    first.give_back()
    assert (await second).size_bytes == 6
    assert budget.lent_bytes == 6


async def test_a_wish_beyond_the_total_gets_all_of_it() -> None:
    assert (await ByteBudget(10).lend(1000)).size_bytes == 10


async def test_a_loan_is_given_back_in_parts_and_only_once() -> None:
    budget = ByteBudget(10)
    loan = await budget.lend(8)
    loan.shrink(3)
    assert budget.lent_bytes == 3
    loan.shrink(9)
    assert budget.lent_bytes == 3
    loan.give_back()
    loan.give_back()
    assert budget.lent_bytes == 0


async def test_small_wishes_do_not_overtake_a_large_one() -> None:
    budget = ByteBudget(10)
    first = await budget.lend(5)
    large = asyncio.create_task(budget.lend(8))
    await _turns()
    small = asyncio.create_task(budget.lend(1))
    await _turns()
    assert not small.done()
    first.give_back()
    await asyncio.gather(large, small)


async def test_leaving_the_queue_lets_the_next_one_in() -> None:
    budget = ByteBudget(10)
    await budget.lend(5)
    large = asyncio.create_task(budget.lend(8))
    await _turns()
    small = asyncio.create_task(budget.lend(2))
    await _turns()
    large.cancel()
    assert (await small).size_bytes == 2
    with pytest.raises(asyncio.CancelledError):
        await large


async def test_bytes_served_in_the_moment_of_leaving_come_back() -> None:
    budget = ByteBudget(10)
    first = await budget.lend(10)
    waiting = asyncio.create_task(budget.lend(10))
    await _turns()
    first.give_back()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert budget.lent_bytes == 0


# Background work


async def test_the_background_gets_its_share_and_no_more() -> None:
    budget = ByteBudget(10, background_share=0.5)
    first = await budget.lend(3, background=True)
    second = asyncio.create_task(budget.lend(3, background=True))
    await _turns()
    assert not second.done()
    assert not budget.has_room(3)
    assert (await budget.lend(7)).size_bytes == 7, "the rest is for real requests"
    first.give_back()
    assert (await second).size_bytes == 3


async def test_a_large_wish_of_the_background_gets_all_of_its_share() -> None:
    budget = ByteBudget(10, background_share=0.5)
    assert budget.has_room(100)
    assert (await budget.lend(100, background=True)).size_bytes == 5


async def test_real_requests_go_before_the_background() -> None:
    budget = ByteBudget(10)
    first = await budget.lend(10)
    patient = asyncio.create_task(budget.lend(5, background=True))
    await _turns()
    real = asyncio.create_task(budget.lend(6))
    await _turns()
    first.give_back()
    loan = await real
    await _turns()
    assert not patient.done()
    loan.give_back()
    assert (await patient).background


async def test_what_a_real_request_needs_is_hurried() -> None:
    budget = ByteBudget(10)
    first = await budget.lend(10)
    waiting = [asyncio.create_task(budget.lend(5, background=True, key=key)) for key in "ab"]
    await _turns()
    budget.hurry("b")
    first.shrink(5)
    loan = await waiting[1]
    assert not loan.background
    assert not waiting[0].done()
    loan.give_back()
    await waiting[0]


wishes = st.lists(st.tuples(st.integers(1, 30), st.booleans(), st.booleans()), max_size=30)


@settings(deadline=None)
@given(wishes)
def test_no_more_than_the_total_is_ever_lent(wanted: list[tuple[int, bool, bool]]) -> None:
    async def scenario() -> None:
        budget = ByteBudget(20, background_share=0.4)
        background: set[Loan] = set()

        async def borrow(number: int, size: int, patient: bool) -> None:
            loan = await budget.lend(size, background=patient, key=number % 5)
            if loan.background:
                background.add(loan)
            try:
                assert budget.lent_bytes <= 20
                assert sum(one.size_bytes for one in background) <= 8
                await asyncio.sleep(0)
            finally:
                loan.give_back()
                background.discard(loan)

        tasks = [
            asyncio.create_task(borrow(number, size, patient))
            for number, (size, patient, _) in enumerate(wanted)
        ]
        await asyncio.sleep(0)
        for number, (task, (_, _, leaves)) in enumerate(zip(tasks, wanted, strict=True)):
            budget.hurry(number % 3)
            if leaves:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(r, asyncio.CancelledError | None) for r in results), results
        assert budget.lent_bytes == 0
        assert budget.has_room(8)

    asyncio.run(scenario())
