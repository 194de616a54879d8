"""The driver of rollouts: over a store, with a fleet, across restarts, beside another origin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from origin.errors import StoreError
from origin.rollout_state import RolloutRequest
from tests.fakes.reports import worker_report
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.rollouts import CONFIG, Desk, open_desk
from tests.fakes.sites import make_site, page
from tests.fakes.upkeep import Shelf
from tests.fakes.waiting import until
from wire.errors import ConflictError, GoneError, NotFoundError, RequestInvalidError
from wire.paths import revision_key

ONE, TWO, THREE = (
    make_revision({"m.gguf": [chunk_of(1), chunk_of(number)]}) for number in (2, 3, 4)
)


def wanted(revision: str = TWO.id, **fields: Any) -> RolloutRequest:
    return RolloutRequest(
        **{"model": "chat", "channel": "stable", "revision": revision, "who": "ann", **fields}
    )


@pytest.fixture
async def desk() -> Desk:
    """``stable`` is on the first revision, which three workers serve; two more are published."""
    shelf = Shelf()
    made = await open_desk(shelf, revision=ONE.id)
    for revision in (TWO, THREE):
        await shelf.publish(made.publisher, revision, channel="")
    await shelf.publish(made.publisher, ONE)
    await made.pass_time()
    return made


def stage(desk: Desk) -> str:
    (record,) = desk.rollouts.records()
    assert record.latest is not None
    return record.latest.stage


async def to_observing(desk: Desk) -> None:
    await desk.rollouts.start(wanted(percent=10))
    await desk.pass_time()
    desk.follow()
    await desk.pass_time()
    assert stage(desk) == "observing"


async def test_a_good_canary_is_promoted_and_the_roll_ends(desk: Desk) -> None:
    begun = await desk.rollouts.start(wanted(percent=10))
    assert begun.stage == "preheating"
    assert [asked.revision for asked in desk.fleet.to_preheat()] == [TWO.id]
    await desk.pass_time()
    assert stage(desk) == "canary"
    assert desk.fleet.to_preheat() == ()
    assert (desk.pointer.revision, len(desk.chosen())) == (ONE.id, 1)
    desk.follow()
    await desk.pass_time()
    desk.served(ONE.id, 100)
    desk.served(TWO.id, 20)
    await desk.pass_time(7)
    assert (stage(desk), desk.pointer.revision, desk.pointer.canary) == ("rolling", TWO.id, None)
    desk.follow()
    await desk.pass_time()
    assert stage(desk) == "done"
    (record,) = desk.rollouts.records()
    assert [(m.revision, m.canary, m.kind, m.who) for m in record.moves] == [
        (ONE.id, "", "found", ""),
        (ONE.id, TWO.id, "roll", "ann"),
        (TWO.id, "", "roll", "ann"),
    ]
    assert record.before() == ONE.id


async def test_a_failed_probe_in_the_canary_turns_it_back_at_the_next_report(desk: Desk) -> None:
    await to_observing(desk)
    (name,) = desk.chosen()
    desk.workers[name] = worker_report(name, revision=ONE.id)
    desk.refuse(name, TWO.id)
    await desk.pass_time()
    assert (stage(desk), desk.pointer.revision, desk.pointer.canary) == ("aborted", ONE.id, None)
    (record,) = desk.rollouts.records()
    assert record.past[0].reason == f"worker {name} refused it: probe_failed: other tokens"
    assert record.moves[-1].why == record.past[0].reason
    assert record.moves[-1].kind == "abort"


async def test_a_roll_without_a_canary_points_at_once_where_no_edge_is(desk: Desk) -> None:
    lone = await open_desk(desk.shelf)
    begun = await lone.rollouts.start(wanted())
    assert (begun.stage, lone.pointer.revision) == ("done", TWO.id)


async def test_an_origin_that_starts_again_in_the_middle_goes_on(desk: Desk) -> None:
    await to_observing(desk)
    again = await open_desk(desk.shelf)
    again.workers, again.figures = desk.workers, desk.figures
    desk.shelf.now += CONFIG.lease_s  # nobody drives it any more
    await again.pass_time(2)
    desk.shelf.now += CONFIG.lease_s
    await again.pass_time()
    assert stage(again) == "observing"
    again.served(TWO.id, 50)
    await again.pass_time(8)
    again.follow()
    await again.pass_time()
    assert (stage(again), again.pointer.revision) == ("done", TWO.id)


@pytest.mark.parametrize("lost", range(1, 12))
async def test_killed_between_any_two_writes_it_ends_as_it_should(desk: Desk, lost: int) -> None:
    """The origin dies before its n-th write, and another one goes on from what was written."""
    died = dying(desk, lost)
    try:
        await desk.rollouts.start(wanted(percent=10))
        await desk.pass_time()
        desk.follow()
        desk.served(TWO.id, 20)
        await desk.pass_time(9)
    except KilledError:
        pass
    assert died() or lost > 5
    desk.shelf.objects.before_swap = lambda: None
    again = await open_desk(desk.shelf)
    again.workers, again.figures = desk.workers, desk.figures
    if b'"current":{' not in desk.shelf.objects.kept["rollouts/chat/stable"][0]:
        assert lost == 1  # it died before anything was accepted
        return
    await again.pass_time()
    desk.shelf.now += CONFIG.lease_s
    for _ in range(4):
        await again.pass_time(8)
        again.follow()
    again.served(TWO.id, 60)
    for _ in range(4):
        await again.pass_time(8)
        again.follow()
    assert (stage(again), again.pointer.revision, again.pointer.canary) == ("done", TWO.id, None)


class KilledError(BaseException):
    """The process ends here."""


def dying(desk: Desk, lost: int) -> Any:
    left = [lost]

    def before() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledError

    desk.shelf.objects.before_swap = before
    return lambda: left[0] <= 0


async def test_only_one_origin_on_a_store_drives(desk: Desk) -> None:
    other = await open_desk(desk.shelf)
    other.workers = desk.workers
    await to_observing(desk)
    (name,) = desk.chosen()
    desk.refuse(name, TWO.id)
    other.report()
    await other.rollouts.look()
    assert stage(other) == "observing"
    await desk.pass_time()
    await other.publisher.refresh()
    await other.rollouts.look()
    assert stage(other) == stage(desk) == "aborted"
    assert other.pointer == desk.pointer


async def test_who_takes_it_over_counts_from_its_own_beginning(desk: Desk) -> None:
    await to_observing(desk)
    desk.served(TWO.id, 5)
    await desk.pass_time(6)  # it is written down now and then
    other = await open_desk(desk.shelf)
    other.workers = desk.workers
    other.served(TWO.id, 100, 900)  # what it heard of an attempt long ago
    other.report()
    desk.shelf.now += CONFIG.lease_s
    await other.rollouts.look()
    desk.shelf.now += CONFIG.lease_s
    await other.pass_time(3)
    seen: Any = other.rollouts.describe("chat", "stable")
    assert (stage(other), seen["now"]["figures"]["trial"]["requests"]) == ("observing", 5)
    other.served(TWO.id, 105, 900)
    await other.pass_time()
    assert stage(other) == "rolling"
    assert other.pointer.revision == TWO.id


async def test_an_operator_may_speak_to_any_origin(desk: Desk) -> None:
    await to_observing(desk)
    other = await open_desk(desk.shelf)
    other.workers = desk.workers
    other.report()
    ended = await other.rollouts.abort("chat", "stable", "no good")
    assert (ended.stage, ended.reason) == ("aborted", "no good")
    await desk.publisher.refresh()
    await desk.pass_time()
    assert stage(desk) == "aborted"
    assert desk.pointer.canary is None


async def test_another_roll_meanwhile_is_refused_unless_forced(desk: Desk) -> None:
    await to_observing(desk)
    with pytest.raises(ConflictError, match="is observing; abort it first, or force"):
        await desk.rollouts.start(wanted(THREE.id))
    begun = await desk.rollouts.start(wanted(THREE.id, force=True, preheat=False))
    assert (begun.stage, desk.pointer.revision) == ("rolling", THREE.id)
    (record,) = desk.rollouts.records()
    assert record.past[0].stage == "superseded"
    assert record.past[0].reason == f"a roll to {THREE.id[:12]}"


async def test_one_that_only_waits_for_workers_gives_way_to_the_next(desk: Desk) -> None:
    await desk.rollouts.start(wanted(preheat=False))
    assert stage(desk) == "rolling"
    begun = await desk.rollouts.start(wanted(THREE.id, preheat=False))
    assert (begun.stage, begun.previous) == ("rolling", TWO.id)


async def test_a_channel_that_is_moved_by_hand_is_left_to_that_hand(desk: Desk) -> None:
    await to_observing(desk)
    await desk.publisher.roll("chat", "stable", THREE.id)
    await desk.pass_time()
    assert (stage(desk), desk.pointer.revision) == ("superseded", THREE.id)


async def test_a_rollback_goes_to_the_revision_before_at_once(desk: Desk) -> None:
    await desk.publisher.roll("chat", "stable", TWO.id)
    await desk.publisher.roll("chat", "stable", THREE.id)
    desk.follow()
    await desk.pass_time()
    back = await desk.rollouts.rollback(wanted("", preheat=False))
    assert (back.kind, back.stage, back.revision, back.previous) == (
        "rollback", "rolling", TWO.id, THREE.id,
    )  # fmt: skip
    desk.follow()
    await desk.pass_time()
    further = await desk.rollouts.rollback(wanted("", preheat=False))
    assert further.revision == desk.pointer.revision == ONE.id
    desk.follow()
    await desk.pass_time()
    with pytest.raises(NotFoundError, match="name one with --to"):
        await desk.rollouts.rollback(wanted("", preheat=False))


async def test_a_rollback_aborts_what_runs(desk: Desk) -> None:
    await to_observing(desk)
    back = await desk.rollouts.rollback(wanted(""))
    assert (back.stage, back.reason) == ("aborted", "rolled back by ann")
    assert (desk.pointer.revision, desk.pointer.canary) == (ONE.id, None)


async def test_a_rollback_to_another_revision_aborts_what_runs_and_goes_there(desk: Desk) -> None:
    await to_observing(desk)
    back = await desk.rollouts.rollback(wanted(THREE.id, preheat=False))
    assert (back.kind, back.revision) == ("rollback", THREE.id)
    assert desk.pointer.revision == THREE.id


async def test_a_rollback_to_what_is_not_signed_leaves_what_runs_alone(desk: Desk) -> None:
    await to_observing(desk)
    with pytest.raises(NotFoundError, match="not signed"):
        await desk.rollouts.rollback(wanted("f" * 64))
    assert stage(desk) == "observing"


async def test_edges_bring_nothing_for_a_rollout_that_was_put_aside(desk: Desk) -> None:
    desk.preheats = False
    await desk.rollouts.start(wanted())
    assert [asked.revision for asked in desk.fleet.to_preheat()] == [TWO.id]
    await desk.rollouts.start(wanted(THREE.id, force=True))
    assert [asked.revision for asked in desk.fleet.to_preheat()] == [THREE.id]
    desk.fleet.preheat("chat", ONE.id)  # as an earlier life of this origin had it
    await desk.rollouts.look()
    assert [asked.revision for asked in desk.fleet.to_preheat()] == [THREE.id]


async def test_a_pointer_is_noted_once_the_store_takes_it(desk: Desk) -> None:
    def full() -> None:
        raise StoreError("cannot write: No space left on device")

    await desk.publisher.roll("chat", "stable", TWO.id)
    desk.shelf.objects.before_swap = full
    await desk.pass_time(2)
    desk.shelf.objects.before_swap = lambda: None
    await desk.publisher.roll("chat", "stable", THREE.id)
    await desk.pass_time()
    (record,) = desk.rollouts.records()
    assert [move.revision for move in record.moves] == [ONE.id, TWO.id, THREE.id]
    assert record.before() == TWO.id


async def test_a_store_that_takes_nothing_is_asked_once_a_look_and_drives_when_it_is_back(
    desk: Desk,
) -> None:
    asked: list[int] = []

    def full() -> None:
        asked.append(1)
        raise StoreError("cannot write: No space left on device")

    await to_observing(desk)
    desk.served(TWO.id, 20)
    desk.shelf.objects.before_swap = full
    await desk.pass_time(20)
    assert len(asked) <= 20
    assert desk.pointer.canary is not None, "nothing is signed that is not written down"
    desk.shelf.objects.before_swap = lambda: None
    await desk.pass_time()
    assert (stage(desk), desk.pointer.revision) == ("rolling", TWO.id)


async def test_workers_that_come_one_by_one_are_not_each_written_down(desk: Desk) -> None:
    written: list[int] = []
    desk.workers = {f"gpu-{n}": worker_report(f"gpu-{n}", revision=ONE.id) for n in range(50)}
    desk.report()
    await desk.rollouts.start(wanted(preheat=False))
    desk.shelf.objects.before_swap = lambda: written.append(1)
    for name in list(desk.workers)[:-1]:
        desk.workers[name] = worker_report(name, revision=TWO.id)
        desk.report()
        await desk.rollouts.look()
    (record,) = desk.rollouts.records()
    assert record.latest is not None
    assert record.latest.serving == 49
    assert written == []


async def test_what_cannot_be_rolled_is_refused(desk: Desk) -> None:
    with pytest.raises(NotFoundError, match="not signed"):
        await desk.rollouts.start(wanted("f" * 64))
    with pytest.raises(RequestInvalidError, match="1 to 99 percent"):
        await desk.rollouts.start(wanted(percent=100))
    for ask in (desk.rollouts.abort("chat", "stable", "x"), desk.rollouts.promote("chat", "beta")):
        with pytest.raises(NotFoundError, match="no rollout of chat"):
            await ask
    await desk.publisher.purge(revision_key(TWO.id), hard=True)
    with pytest.raises(GoneError):
        await desk.rollouts.start(wanted())


async def test_a_revision_that_is_taken_down_meanwhile_ends_its_rollout(desk: Desk) -> None:
    desk.preheats = False
    await desk.rollouts.start(wanted(percent=10))
    await desk.publisher.purge(revision_key(TWO.id), hard=True)
    desk.preheats = True
    await desk.pass_time()
    assert (stage(desk), desk.pointer.revision) == ("aborted", ONE.id)
    assert "taken down" in desk.rollouts.records()[0].past[0].reason


async def test_an_operator_promotes(desk: Desk) -> None:
    await to_observing(desk)
    after = await desk.rollouts.promote("chat", "stable", "ann")
    assert (after.stage, desk.pointer.revision) == ("rolling", TWO.id)
    assert after.notes == ("promoted by ann",)


async def test_whoever_watches_sees_edges_workers_and_figures(desk: Desk) -> None:
    await to_observing(desk)
    desk.served(TWO.id, 7, 1)
    await desk.pass_time()
    seen: Any = desk.rollouts.describe("chat", "stable")
    assert seen["now"]["workers_by_revision"] == {ONE.id: 2, TWO.id: 1}
    assert [w["worker"] for w in seen["now"]["workers"] if w["canary"]] == desk.chosen()
    assert seen["now"]["figures"]["trial"]["requests"] == 8
    assert list(seen["now"]["preheated"]) == ["edge-1"]
    assert (seen["pointer"], seen["before"]) == (desk.pointer, "")
    with pytest.raises(NotFoundError):
        desk.rollouts.describe("chat", "beta")


async def test_a_damaged_record_begins_anew(desk: Desk) -> None:
    desk.shelf.objects.put("rollouts/chat/stable", b"{")
    again = await open_desk(desk.shelf, revision=ONE.id)
    await again.pass_time()
    (record,) = again.rollouts.records()
    assert [move.revision for move in record.moves] == [ONE.id]


async def test_the_driver_looks_when_it_is_poked(desk: Desk) -> None:
    task = asyncio.create_task(desk.rollouts.run())
    try:
        await desk.rollouts.start(wanted(percent=10))
        desk.report()
        desk.rollouts.poke()
        await until(lambda: stage(desk) == "canary")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_site_is_rolled_and_rolled_back_without_workers(desk: Desk) -> None:
    shelf = Shelf()
    alone = await open_desk(shelf, revision=ONE.id)
    first, second = make_site(page(1)), make_site(page(2))
    for revision in (first, second):
        await shelf.publish(alone.publisher, revision, channel="")
    await shelf.publish(alone.publisher, first)
    with pytest.raises(RequestInvalidError, match="static site, which no worker could try"):
        await alone.rollouts.start(wanted(second.id, model="site", percent=10))
    await alone.rollouts.start(wanted(second.id, model="site"))
    await alone.pass_time()
    view = alone.publisher.repository.view
    assert view.pointer("site", "stable").revision == second.id
    assert view.pointer("site", "stable").previous == (first.id,)
    assert alone.rollouts.records()[-1].current is None
    await alone.rollouts.rollback(wanted("", model="site"))
    await alone.pass_time()
    assert alone.publisher.repository.view.pointer("site", "stable").revision == first.id
