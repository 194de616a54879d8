"""Logins in a store that two origins share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.console.ledger import AWAY, Ledger
from origin.console.logins import Login, encode_table
from origin.errors import StoreError
from origin.store import ObjectStore
from origin.stores.objects import Tag
from tests.fakes.clock import ManualClock
from tests.fakes.objects import MemoryObjects
from tests.fakes.waiting import until
from wire.errors import ConflictError

KEY = "logins/name"


class Bucket(MemoryObjects):
    """One that can be away, or hang."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.away = False
        self.reads = self.writes = 0
        self.hangs = threading.Event()
        self.hangs.set()

    def get_tagged(
        self, key: str, limit_bytes: int, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        self.reads += 1
        self._here()
        return super().get_tagged(key, limit_bytes, known)

    def swap(self, key: str, data: bytes, tag: Tag | None) -> Tag:
        self._here()
        self.writes += 1
        return super().swap(key, data, tag)

    def _here(self) -> None:
        if not self.hangs.wait(5):
            raise StoreError("nobody woke the bucket")
        if self.away:
            raise StoreError("the bucket is away")


@dataclass(slots=True)
class World:
    clock: ManualClock = field(default_factory=ManualClock)
    bucket: Bucket = field(init=False)

    def __post_init__(self) -> None:
        self.clock.advance(1_000.0)
        self.bucket = Bucket(self.clock)

    async def origin(self, *, store: Any = None, **given: Any) -> Ledger:
        """Another one, or one that starts again."""
        options: dict[str, Any] = {"most": 4, "pause_s": 60.0, "patience_s": 60.0, **given}
        ledger = Ledger(
            ObjectStore(store or self.bucket),
            "name",
            clock=self.clock,
            ticking=self.clock,
            **options,
        )
        await ledger.load()
        return ledger

    def login(self, id: str, *, lasts_s: float = 1_000.0) -> Login:  # noqa: A002
        now = self.clock()
        return Login(id=id, made=now, until=now + lasts_s, seen=now)


@pytest.fixture
def world() -> World:
    return World()


@asynccontextmanager
async def following(ledger: Ledger) -> AsyncIterator[None]:
    task = asyncio.create_task(ledger.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_over(ledger: Ledger, id: str) -> None:  # noqa: A002
    async with asyncio.timeout(30):
        while ledger.holds(id):  # noqa: ASYNC110 - heard of by a look, not told
            await asyncio.sleep(0.002)


async def test_a_login_holds_until_it_is_ended_or_over(world: World) -> None:
    one = await world.origin()
    assert not one.holds("a")
    assert await one.add(world.login("a")) == ""
    assert await one.add(world.login("b", lasts_s=10.0)) == ""
    assert one.holds("a")
    world.clock.advance(10.0)
    assert not one.holds("b")
    assert [login.id for login in one.all()] == ["a"]
    assert await one.end(["a", "nobody"]) == ""
    assert not await one.check("a")
    assert one.all() == []


async def test_a_login_of_one_origin_holds_at_the_other_at_once(world: World) -> None:
    one, two = await world.origin(), await world.origin()
    await one.add(world.login("a"))
    assert not two.holds("a")
    assert await two.check("a")


async def test_one_that_is_ended_is_over_at_the_other_within_a_pause(world: World) -> None:
    one = await world.origin()
    await one.add(world.login("a"))
    two = await world.origin(pause_s=0.01)
    assert two.holds("a")
    async with following(two):
        await one.end(["a"])
        await until_over(two, "a")
    assert not await (await world.origin()).check("a")  # nor where one starts again


async def test_what_nobody_knows_is_looked_up_at_a_bounded_rate(world: World) -> None:
    one = await world.origin()
    before = world.bucket.reads
    answers = await asyncio.gather(*(one.check("unknown") for _ in range(50)))
    assert not any(answers)
    assert world.bucket.reads == before + 1
    world.clock.advance(1.1)
    await one.check("unknown")
    assert world.bucket.reads == before + 2


async def test_two_that_write_at_once_lose_nothing(world: World) -> None:
    one, two = await world.origin(), await world.origin()
    await one.add(world.login("a"))
    await two.fresh()
    await asyncio.gather(one.end(["a"]), two.add(world.login("b")), one.add(world.login("c")))
    for ledger in (one, two, await world.origin()):
        await ledger.fresh()
        assert [login.id for login in ledger.all()] == ["b", "c"]


async def test_a_write_that_loses_is_done_over_what_won(world: World) -> None:
    one, two = await world.origin(), await world.origin()
    rows = {"theirs": world.login("theirs")}
    steals = iter([True, True])

    def first() -> None:
        if next(steals, False):
            world.bucket.put(KEY, encode_table(rows))

    world.bucket.before_swap = first
    assert await one.add(world.login("mine")) == ""
    await two.fresh()
    assert {login.id for login in two.all()} == {"mine", "theirs"}


async def test_what_happens_while_the_rest_is_being_written_is_written_too(world: World) -> None:
    one = await world.origin()
    await one.add(world.login("old"))
    writing, go = threading.Event(), threading.Event()

    def slowly() -> None:
        writing.set()
        go.wait(30)

    world.bucket.before_swap = slowly
    adding = asyncio.create_task(one.add(world.login("new")))
    await until(writing.is_set)
    ending = asyncio.create_task(one.end(["old"]))
    await asyncio.sleep(0)  # it is ended here, and waits for its turn to be written
    go.set()
    assert list(await asyncio.gather(adding, ending)) == ["", ""]
    assert [login.id for login in (await world.origin()).all()] == ["new"]


async def test_one_that_always_loses_says_so_and_goes_on_later(world: World) -> None:
    one = await world.origin()

    def always() -> None:
        raise ConflictError("changed by somebody else")

    world.bucket.before_swap = always
    assert await one.add(world.login("a")) == AWAY
    assert one.holds("a")
    world.bucket.before_swap = lambda: None
    await one.fresh()
    assert await (await world.origin()).check("a")


async def test_while_the_store_is_away_what_was_known_holds_and_what_is_new_waits(
    world: World,
) -> None:
    one = await world.origin()
    await one.add(world.login("a"))
    await one.add(world.login("b"))
    two = await world.origin()
    world.bucket.away = True
    assert one.holds("a")
    assert await one.end(["a"]) == AWAY
    assert await one.add(world.login("c")) == AWAY
    assert [one.holds(name) for name in "abc"] == [False, True, True]
    assert [await two.check(name) for name in "abc"] == [True, True, False]
    world.bucket.away = False
    await one.fresh()
    await two.fresh()
    assert [two.holds(name) for name in "abc"] == [False, True, True]


async def test_nobody_waits_long_for_a_store_that_hangs_and_nothing_piles_up(
    world: World,
) -> None:
    one = await world.origin(patience_s=0.05)
    await one.add(world.login("a"))
    world.bucket.hangs.clear()
    before = world.bucket.reads
    told = await asyncio.gather(*(one.end(["a"]) for _ in range(20)))
    assert set(told) == {AWAY}
    assert not one.holds("a")
    world.bucket.hangs.set()
    await one.fresh()
    assert world.bucket.reads <= before + 3
    assert not await (await world.origin()).check("a")


async def test_an_origin_that_starts_without_its_store_hears_of_logins_later(
    world: World,
) -> None:
    one = await world.origin()
    await one.add(world.login("a"))
    world.bucket.away = True
    two = await world.origin()
    assert not await two.check("a")
    world.bucket.away = False
    world.clock.advance(2.0)
    assert await two.check("a")


async def test_of_too_many_the_one_that_was_idle_longest_is_over(world: World) -> None:
    one, two = await world.origin(), await world.origin()
    for name in "abcde":
        world.clock.advance(1.0)
        await one.add(world.login(name))
    assert not one.holds("a")
    assert not await two.check("a")
    assert await two.check("b")


async def test_that_a_login_is_used_is_written_about_once_a_minute(world: World) -> None:
    one = await world.origin()
    await one.add(world.login("a"))
    for _ in range(30):
        world.clock.advance(10.0)
        assert one.holds("a")
        await one.fresh()
    (seen,) = one.all()
    assert world.clock() - seen.seen < 60
    (stored,) = (await world.origin()).all()
    assert world.clock() - stored.seen < 130
    assert 3 < world.bucket.writes < 8


async def test_a_table_that_is_damaged_ends_all_logins_and_is_replaced(world: World) -> None:
    one = await world.origin()
    await one.add(world.login("a"))
    world.bucket.put(KEY, b"{")
    await one.fresh()
    assert not one.holds("a")
    assert await one.add(world.login("b")) == ""
    assert await (await world.origin()).check("b")


async def test_a_table_that_is_huge_is_not_read(world: World) -> None:
    world.bucket.put(KEY, b"[" * (2 << 20))
    one = await world.origin()
    assert await one.add(world.login("a")) == AWAY
    assert one.holds("a")


async def test_a_folder_keeps_logins_over_a_restart(world: World, tmp_path: Path) -> None:
    one = await world.origin(store=str(tmp_path))
    await one.add(world.login("a"))
    await one.add(world.login("b"))
    await one.end(["a"])
    two = await world.origin(store=str(tmp_path))
    assert [await two.check(name) for name in "ab"] == [False, True]


async def test_what_waits_is_written_at_the_end(world: World) -> None:
    one = await world.origin()
    world.bucket.away = True
    await one.add(world.login("a"))
    world.bucket.away = False
    await one.aclose()
    assert await (await world.origin()).check("a")


async def test_what_waits_for_a_store_that_is_away_is_bounded(world: World) -> None:
    one = await world.origin()
    world.bucket.away = True
    for number in range(20):
        world.clock.advance(1.0)
        await one.add(world.login(str(number)))
        one.holds(str(number))
    assert [login.id for login in one.all()] == ["16", "17", "18", "19"]
    world.bucket.away = False
    await one.fresh()
    assert [login.id for login in (await world.origin()).all()] == ["16", "17", "18", "19"]


ACTS = st.lists(
    st.tuples(st.sampled_from(("log in", "end", "use", "hear", "away", "back")), st.booleans()),
    max_size=14,
)


@settings(max_examples=40, deadline=None)
@given(ACTS, st.data())
def test_whatever_two_origins_do_no_login_comes_back_and_none_is_lost(
    acts: list[tuple[str, bool]], data: st.DataObject
) -> None:
    """In and out of outages; in the end, with the store there, both agree."""

    async def run() -> None:
        world = World()
        both = [await world.origin(most=64) for _ in range(2)]
        made: dict[str, bool] = {}  # whether it holds
        for what, first in acts:
            ledger = both[not first]
            world.clock.advance(2.0)
            known = sorted(login.id for login in ledger.all())
            if what == "log in":
                made[str(len(made))] = True
                await ledger.add(world.login(str(len(made) - 1)))
            elif what == "end" and known:
                ended = data.draw(st.sampled_from(known))
                made[ended] = False
                await ledger.end([ended])
                assert not ledger.holds(ended)
            elif what == "use" and known:
                await ledger.check(data.draw(st.sampled_from(known)))
            elif what == "hear":
                await ledger.fresh()
            else:
                world.bucket.away = what == "away"
        world.bucket.away = False
        for ledger in (*both, *both):
            await ledger.fresh()
        for ledger in both:
            assert {login.id for login in ledger.all()} == {id for id in made if made[id]}  # noqa: A001

    asyncio.run(run())
