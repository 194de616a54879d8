from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from hypothesis import given, settings
from hypothesis import strategies as st

from origin.gate import Gate

Side = Callable[[], AbstractAsyncContextManager[None]]


async def test_one_side_passes_together() -> None:
    gate = Gate()
    async with gate.together(), gate.together():
        pass
    async with gate.alone():
        pass


async def test_who_wants_to_be_alone_goes_before_those_who_come_later() -> None:
    gate, order = Gate(), list[str]()

    async def enter(name: str, side: Side) -> None:
        async with side():
            order.append(name)

    async with gate.together():
        alone = asyncio.create_task(enter("alone", gate.alone))
        await asyncio.sleep(0)
        later = asyncio.create_task(enter("later", gate.together))
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(alone, later)
    assert order == ["alone", "later"]


async def test_who_gives_up_waiting_blocks_nobody() -> None:
    gate = Gate()
    async with gate.together():
        waiting = asyncio.create_task(_enter(gate.alone))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        async with gate.together():
            pass


async def _enter(side: Side) -> None:
    async with side():
        pass


@settings(max_examples=50, deadline=None)
@given(sides=st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 3)), max_size=12))
def test_nobody_is_ever_inside_with_one_who_is_alone(sides: list[tuple[bool, int, int]]) -> None:
    inside: list[bool] = []

    async def visit(gate: Gate, alone: bool, before: int, within: int) -> None:
        for _ in range(before):
            await asyncio.sleep(0)
        async with gate.alone() if alone else gate.together():
            inside.append(alone)
            for _ in range(within):
                assert not any(inside) or len(inside) == 1
                await asyncio.sleep(0)
            inside.remove(alone)

    async def scenario() -> None:
        gate = Gate()
        await asyncio.gather(*(visit(gate, *side) for side in sides))

    asyncio.run(scenario())
    assert inside == []
