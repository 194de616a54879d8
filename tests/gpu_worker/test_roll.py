from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from gpu_worker.config import WorkerConfig
from gpu_worker.engine import (
    EngineBrokenError,
    EngineStartError,
    Finish,
    Generation,
    ProbeFailedError,
    Token,
)
from gpu_worker.serving import NotServingError
from tests.fakes.quick_disk import quick_folder
from tests.fakes.rolling import (
    WORKER,
    Faults,
    Rig,
    RollingEngine,
    broken_model,
    model,
    share_of,
)
from tests.fakes.waiting import until
from wire.errors import SourceUnavailableError

ONE, TWO, THREE = (model(number) for number in range(3))
BAD_START = Faults(start=EngineStartError("out of memory"))
BAD_PROBE = Faults(probe=ProbeFailedError("answers nonsense"))
DAY_S = 86_400.0


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
async def rig(executor: ThreadPoolExecutor) -> AsyncIterator[Rig]:
    config = WorkerConfig(retry_failed_s=60, drain_s=60, load_timeout_s=60)
    with quick_folder() as folder:
        made = Rig(folder, executor, config)
        yield made
        await made.roller.aclose()


def hasty(rig: Rig) -> None:
    """Begin with deadlines that are worth waiting for."""
    rig.config = replace(rig.config, drain_s=0.1, load_timeout_s=0.1)
    rig.boot()


class Talk:
    """A stream on whatever serves, from its first event on."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.begun = asyncio.Event()
        self.revision = ""
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> str:
        with await self._rig.serving.acquire() as lease:
            self.revision = lease.engine.revision
            stream = lease.engine.stream(Generation(prompt="hi"))
            text = ""
            try:
                async for batch in stream:
                    self.begun.set()
                    text += "".join(e.text for e in batch if isinstance(e, Token))
                    if isinstance(batch[-1], Finish):
                        return text
            finally:
                await stream.aclose()
        raise AssertionError("no finish")


async def talks(rig: Rig, engine: RollingEngine, count: int) -> list[Talk]:
    """Streams that have given their first batch and are held before the second."""
    engine.held_from = 1
    engine.gate.clear()
    begun = [Talk(rig) for _ in range(count)]
    for talk in begun:
        await talk.begun.wait()
    return begun


# Boot


async def test_a_worker_boots_what_its_channel_names(rig: Rig) -> None:
    engine = await rig.serve(ONE)
    assert rig.serving.state == "ready"
    assert rig.serving.engine is engine
    assert engine.order.path == rig.config.models_dir / "chat" / ONE.id / "model.gguf"
    assert engine.order.path.read_bytes() == ONE.files["model.gguf"]
    assert rig.roller.reason == ""
    assert rig.changes > 0


async def test_the_boot_waterfall_tells_steps_and_bytes(rig: Rig) -> None:
    await rig.serve(ONE)
    boot = rig.roller.waterfalls[0]
    steps = [step for step in boot.steps_ms if not step.startswith("pull: ")]
    assert steps == [
        "trust",
        "choose",
        "pull",
        "check",
        "load",
        "probe",
        "probe: first token",
        "flip",
    ]
    assert boot.steps_ms["probe: first token"] == 125.0
    assert boot.size == boot.from_network == ONE.unique_bytes
    assert boot.by_source == {"memory": ONE.unique_bytes + len(ONE.data)}


async def test_without_a_source_it_boots_from_disk_with_the_trust_it_had(rig: Rig) -> None:
    await rig.serve(ONE)
    await rig.roller.aclose()
    rig.source.down = SourceUnavailableError("the edge is away")
    rig.boot()
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert "the edge is away" in rig.roller.reason
    rig.source.down = None
    await rig.roller.look()
    assert rig.roller.reason == ""


async def test_expired_trust_goes_on_serving_and_says_so(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.wall.advance(30 * DAY_S)
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert "trust_expired" in rig.roller.reason


async def test_beyond_the_offline_grace_what_runs_goes_on_and_nothing_is_started(
    rig: Rig,
) -> None:
    await rig.serve(ONE)
    rig.source.down = SourceUnavailableError("the edge is away")
    # The timestamp's day, and the week of grace.
    rig.wall.advance(8 * DAY_S)
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    await rig.roller.aclose()
    rig.boot()
    await rig.roller.look()
    assert rig.roller.revision == ""
    assert rig.roller.reason.startswith("trust_expired: ")
    assert "offline grace" in rig.roller.reason
    rig.source.down = None
    rig.wall.advance(-8 * DAY_S)
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")


async def test_with_neither_source_nor_trust_it_says_why_and_goes_on_looking(rig: Rig) -> None:
    rig.source.down = SourceUnavailableError("nobody there")
    for attempt in range(1, 4):
        await rig.roller.look()
        assert (rig.serving.state, rig.roller.failures) == ("booting", attempt)
    assert rig.roller.reason.startswith("source_unavailable: ")
    assert rig.roller.reason.endswith("memory: nobody there")
    rig.source.down = None
    await rig.serve(ONE)
    assert (rig.roller.reason, rig.roller.failures) == ("", 0)


async def test_a_channel_that_is_not_there_is_told(rig: Rig) -> None:
    await rig.roller.look()
    assert rig.roller.reason == "not_found: no channel chat@stable"


# Roll


async def test_a_roll_cuts_none_of_the_running_streams(rig: Rig) -> None:
    old = await rig.serve(ONE)
    old.capacity = 10
    begun = await talks(rig, old, 10)
    new = await rig.serve(TWO)
    assert {talk.revision for talk in begun} == {ONE.id}
    assert (await Talk(rig).task, old.closed) == ("Hello", False)
    old.gate.set()
    assert [await talk.task for talk in begun] == ["Hello"] * 10
    await until(lambda: old.closed)
    assert not new.closed
    assert [w.revision for w in rig.roller.waterfalls] == [ONE.id, TWO.id]


async def test_requests_after_a_roll_see_only_the_new_revision(rig: Rig) -> None:
    await rig.serve(ONE)
    await rig.serve(TWO)
    later = [Talk(rig) for _ in range(4)]
    await asyncio.gather(*(talk.task for talk in later))
    assert {talk.revision for talk in later} == {TWO.id}


async def test_a_roll_fetches_only_what_changed(rig: Rig) -> None:
    await rig.serve(ONE)
    await rig.serve(TWO)
    roll = rig.roller.waterfalls[-1]
    assert (roll.from_seeds, roll.from_network) == (ONE.unique_bytes - 400, 400)


async def test_streams_that_outlive_the_deadline_are_cut_with_an_error(rig: Rig) -> None:
    hasty(rig)
    old = await rig.serve(ONE)
    (talk,) = await talks(rig, old, 1)
    old.breaks_with = EngineBrokenError("closed")
    await rig.serve(TWO)
    await until(lambda: old.closed)
    assert not talk.task.done()
    assert rig.serving.active(old) == 1
    old.gate.set()
    await asyncio.wait([talk.task])
    assert rig.serving.active(old) == 0


async def test_a_second_look_at_the_same_pointer_does_nothing(rig: Rig) -> None:
    await rig.serve(ONE)
    await rig.roller.look()
    assert len(rig.engines) == 1


async def test_looks_take_turns(rig: Rig) -> None:
    rig.source.publish(ONE)
    await asyncio.gather(*(rig.roller.look() for _ in range(5)))
    assert len(rig.engines) == 1


# What must not serve


@pytest.mark.parametrize("faults", [BAD_START, BAD_PROBE, Faults(hang=True)])
async def test_a_revision_that_does_not_come_up_leaves_the_old_one_serving(
    rig: Rig, faults: Faults
) -> None:
    hasty(rig)
    old = await rig.serve(ONE)
    begun = await talks(rig, old, 2)
    rig.faults[rig.source.publish(TWO)] = faults
    await rig.roller.look()
    assert (rig.serving.state, rig.serving.engine) == ("ready", old)
    assert rig.roller.reason.startswith(f"load_failed: {TWO.id[:12]}: ")
    assert rig.engines[-1].closed
    assert not old.closed
    old.gate.set()
    assert [await talk.task for talk in begun] == ["Hello", "Hello"]
    assert rig.on_disk >= {ONE.id}


async def test_a_file_that_no_engine_may_see_is_not_shown_to_one(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.source.publish(broken_model())
    await rig.roller.look()
    assert rig.engines == [old]
    assert rig.roller.reason.startswith("load_failed: ")


async def test_a_failed_revision_waits_before_it_is_tried_again(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = BAD_START
    await rig.roller.look()
    reason, tried = rig.roller.reason, len(rig.engines)
    rig.clock.advance(59)
    await rig.roller.look()
    assert (len(rig.engines), rig.roller.reason) == (tried, reason)
    rig.clock.advance(1)
    await rig.roller.look()
    assert len(rig.engines) == tried + 1
    del rig.faults[TWO.id]
    rig.clock.advance(60)
    await rig.roller.look()
    assert (rig.roller.revision, rig.roller.reason) == (TWO.id, "")


async def test_an_old_failure_is_forgotten_before_the_new_revision_is_seen(rig: Rig) -> None:
    rig.source.publish(ONE)
    rig.source.down = SourceUnavailableError("away")
    await rig.roller.look()
    rig.source.down = None
    told: list[tuple[str, str]] = []
    rig.on_change = lambda: told.append((rig.serving.state, rig.roller.reason))
    await rig.roller.look()
    assert set(told) == {("ready", "")}


async def test_a_pointer_that_moves_on_is_followed_at_once(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = BAD_START
    await rig.roller.look()
    await rig.serve(THREE)
    assert rig.roller.reason == ""


async def test_a_pointer_that_moves_back_and_forth_is_tried_at_once(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = BAD_START
    await rig.roller.look()
    rig.source.roll(ONE)
    await rig.roller.look()
    assert rig.roller.reason == ""
    del rig.faults[TWO.id]
    rig.source.roll(TWO)
    await rig.roller.look()
    assert rig.roller.revision == TWO.id


async def test_a_source_that_fails_in_a_pull_is_asked_again_at_the_next_look(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.source.publish(TWO)
    lost = next(name for name in TWO.chunks if name not in ONE.chunks)
    held = rig.source.chunks.pop(lost)
    await rig.roller.look()
    assert (rig.roller.revision, rig.roller.failures) == (ONE.id, 1)
    assert rig.roller.reason.startswith("not_found: ")
    rig.source.chunks[lost] = held
    await rig.roller.look()
    assert rig.roller.revision == TWO.id


async def test_a_revision_that_the_publisher_did_not_sign_is_never_loaded(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.source.add(TWO)
    rig.source.betray(TWO)
    await rig.roller.look()
    assert rig.engines == [old]
    assert rig.roller.revision == ONE.id
    assert "not signed by the publisher" in rig.roller.reason
    assert f"revision:{TWO.id}" not in rig.source.calls


# Canary


async def test_a_worker_inside_the_share_tries_the_canary_and_one_outside_does_not(
    rig: Rig,
) -> None:
    await rig.serve(ONE)
    rig.source.publish(TWO, channel=None)
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=False))
    await rig.roller.look()
    assert (rig.roller.revision, rig.roller.canary) == (ONE.id, False)
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    await rig.roller.look()
    assert (rig.roller.revision, rig.roller.canary) == (TWO.id, True)
    assert rig.on_disk == {ONE.id, TWO.id}


async def test_an_aborted_canary_goes_back_to_the_files_that_were_kept(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.source.publish(TWO, channel=None)
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    await rig.roller.look()
    rig.source.roll(ONE)
    await rig.roller.look()
    assert (rig.roller.revision, rig.roller.canary, rig.roller.reason) == (ONE.id, False, "")
    assert rig.roller.waterfalls[-1].from_disk == ONE.unique_bytes


async def test_a_promoted_canary_is_there_already(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.source.publish(TWO, channel=None)
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    await rig.roller.look()
    engine = rig.serving.engine
    rig.source.roll(TWO)
    await rig.roller.look()
    assert rig.serving.engine is engine


async def test_a_canary_that_fails_its_probe_is_reported_and_the_stable_one_goes_on(
    rig: Rig,
) -> None:
    old = await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO, channel=None)] = BAD_PROBE
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    await rig.roller.look()
    assert rig.serving.engine is old
    assert (rig.roller.refused, rig.roller.fault) == (TWO.id, "probe_failed")
    rig.source.roll(ONE)
    await rig.roller.look()
    assert (rig.roller.refused, rig.roller.fault, rig.roller.reason) == ("", "", "")


@pytest.mark.parametrize("faults", [Faults(hang=True), Faults(slow_probe=True)])
async def test_what_is_aborted_while_it_loads_is_given_up_at_once(rig: Rig, faults: Faults) -> None:
    old = await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO, channel=None)] = faults
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    looking = asyncio.create_task(rig.roller.look())
    engine = await rig.until_started(2)
    rig.roller.poke()  # other news
    rig.source.roll(ONE)
    rig.roller.poke()
    await looking
    assert engine.closed
    assert (rig.serving.engine, rig.roller.target, rig.roller.reason) == (old, "", "")


async def test_an_abort_that_was_not_announced_is_seen_before_the_flip(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO, channel=None)] = Faults(slow_probe=True)
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    looking = asyncio.create_task(rig.roller.look())
    engine = await rig.until_started(2)
    rig.source.roll(ONE)
    rig.clock.advance(1)
    engine.may_pass.set()
    await looking
    assert engine.closed
    assert rig.serving.engine is old


async def test_an_abort_that_was_not_announced_is_seen_before_room_is_made(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.free_bytes = 0
    rig.source.publish(TWO, channel=None)
    rig.source.roll(ONE, canary=share_of(WORKER, TWO.id, inside=True))
    own = next(name for name in TWO.chunks if name not in ONE.chunks)
    held = rig.source.hold(own)
    looking = asyncio.create_task(rig.roller.look())
    await until(lambda: any(own in call for call in rig.source.calls))
    rig.source.roll(ONE)
    rig.clock.advance(1)
    held.set()
    await looking
    assert (rig.serving.engine, len(rig.engines)) == (old, 1)
    assert not old.closed


async def test_a_source_that_is_away_before_the_flip_does_not_hinder_it(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = Faults(slow_probe=True)
    looking = asyncio.create_task(rig.roller.look())
    engine = await rig.until_started(2)
    rig.source.down = SourceUnavailableError("away")
    rig.clock.advance(1)
    engine.may_pass.set()
    await looking
    assert rig.roller.revision == TWO.id


# What is told on the way


async def test_target_phase_and_missing_bytes_are_told_while_it_is_brought(rig: Rig) -> None:
    await rig.serve(ONE)
    roller = rig.roller
    assert (roller.target, roller.phase, roller.missing_bytes) == ("", "", 0)
    rig.faults[rig.source.publish(TWO)] = Faults(slow_probe=True)
    lost = next(name for name in TWO.chunks if name not in ONE.chunks)
    gate = rig.source.hold(lost)
    looking = asyncio.create_task(roller.look())
    await until(lambda: roller.missing_bytes == 400)
    assert (roller.target, roller.phase) == (TWO.id, "pull")
    gate.set()
    engine = await rig.until_started(2)
    await until(lambda: roller.phase == "probe")
    assert roller.missing_bytes == 0
    engine.may_pass.set()
    await looking
    assert (roller.target, roller.phase) == ("", "")


async def test_draining_is_told_while_old_streams_finish(rig: Rig) -> None:
    old = await rig.serve(ONE)
    (talk,) = await talks(rig, old, 1)
    await rig.serve(TWO)
    assert rig.roller.phase == "drain"
    old.gate.set()
    await talk.task
    await until(lambda: rig.roller.phase == "")


@pytest.mark.parametrize(
    ("faults", "fault"),
    [(BAD_START, "crashed"), (BAD_PROBE, "probe_failed"), (Faults(hang=True), "hung")],
)
async def test_what_ended_an_engine_is_told_by_name(rig: Rig, faults: Faults, fault: str) -> None:
    hasty(rig)
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = faults
    await rig.roller.look()
    assert (rig.roller.refused, rig.roller.fault) == (TWO.id, fault)


async def test_a_file_that_is_no_model_is_a_bad_file(rig: Rig) -> None:
    await rig.serve(ONE)
    bad = broken_model()
    rig.source.publish(bad)
    await rig.roller.look()
    assert (rig.roller.refused, rig.roller.fault) == (bad.id, "bad_file")


# An operator's restart


async def test_a_restart_flips_to_a_new_engine_and_lets_streams_finish(rig: Rig) -> None:
    old = await rig.serve(ONE)
    (talk,) = await talks(rig, old, 1)
    assert await rig.roller.restart() == ""
    new = rig.engines[1]
    assert (rig.serving.engine, new.revision, old.closed) == (new, ONE.id, False)
    old.gate.set()
    assert await talk.task == "Hello"
    await until(lambda: old.closed)
    assert rig.roller.waterfalls[-1].from_disk == ONE.unique_bytes


async def test_a_restart_without_room_drains_first(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.free_bytes = 0
    assert await rig.roller.restart() == ""
    assert old.closed
    assert rig.serving.engine is rig.engines[1]


@pytest.mark.parametrize("in_memory", [True, False])
async def test_weights_that_stand_in_memory_are_not_counted_twice(
    executor: ThreadPoolExecutor, in_memory: bool
) -> None:
    config = WorkerConfig(drain_s=60, load_timeout_s=60, weights_in_memory=in_memory)
    with quick_folder() as folder:
        rig = Rig(folder, executor, config)
        old = await rig.serve(ONE)
        rig.free_bytes = TWO.manifest.size  # less than 1.3 times that, more than 0.3 times
        drained = []
        rig.on_change = lambda: drained.append(rig.serving.state == "draining")
        await rig.serve(TWO)
        assert any(drained) != in_memory
        await until(lambda: old.closed)
        await rig.roller.aclose()


async def test_a_restart_brings_the_files_again_where_that_is_wanted(rig: Rig) -> None:
    old = await rig.serve(ONE)
    old.order.path.write_bytes(b"rot that nobody saw")
    assert await rig.roller.restart(fresh_files=True) == ""
    assert rig.roller.waterfalls[-1].from_network == ONE.unique_bytes
    assert old.order.path.read_bytes() == ONE.files["model.gguf"]


async def test_files_that_cannot_be_brought_again_are_put_back(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.source.chunks.clear()
    assert (await rig.roller.restart(fresh_files=True)).startswith("not_found: ")
    assert rig.serving.engine is old
    assert rig.on_disk == {ONE.id}
    assert [path.name for path in old.order.path.parent.parent.iterdir()] == [ONE.id]


async def test_a_restart_that_fails_says_so_and_the_old_one_goes_on(rig: Rig) -> None:
    old = await rig.serve(ONE)
    rig.faults[ONE.id] = BAD_START
    assert "out of memory" in await rig.roller.restart()
    assert (rig.serving.engine, rig.roller.refused) == (old, "")


async def test_a_restart_where_nothing_serves_tries_again_at_once(rig: Rig) -> None:
    rig.faults[rig.source.publish(ONE)] = BAD_START
    await rig.roller.look()
    assert "out of memory" in await rig.roller.restart()
    del rig.faults[ONE.id]
    assert await rig.roller.restart() == ""
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")


# Without room for two


async def test_without_memory_for_two_the_old_one_drains_first(rig: Rig) -> None:
    old = await rig.serve(ONE)
    (talk,) = await talks(rig, old, 1)
    rig.free_bytes = 0
    rig.source.publish(TWO)
    looking = asyncio.create_task(rig.roller.look())
    await until(lambda: rig.serving.state == "draining")
    with pytest.raises(NotServingError, match="making room"):
        await rig.serving.acquire()
    assert len(rig.engines) == 1
    old.gate.set()
    assert await talk.task == "Hello"
    await looking
    assert old.closed
    assert (rig.roller.revision, rig.serving.state) == (TWO.id, "ready")


async def test_who_waits_while_room_is_made_is_served_before_the_old_one_stops(rig: Rig) -> None:
    old = await rig.serve(ONE)
    old.capacity = 1
    (talk,) = await talks(rig, old, 1)
    waiting = Talk(rig)
    await until(lambda: rig.serving.load().queue == 1)
    rig.free_bytes = 0
    rig.source.publish(TWO)
    looking = asyncio.create_task(rig.roller.look())
    await until(lambda: rig.serving.state == "draining")
    old.gate.set()
    assert [await talk.task, await waiting.task] == ["Hello", "Hello"]
    await looking
    assert rig.roller.revision == TWO.id


@pytest.mark.parametrize("faults", [BAD_START, BAD_PROBE, Faults(hang=True)])
async def test_when_the_new_one_fails_after_room_was_made_the_old_one_starts_again(
    rig: Rig, faults: Faults
) -> None:
    hasty(rig)
    await rig.serve(ONE)
    rig.free_bytes = 0
    rig.faults[rig.source.publish(TWO)] = faults
    await rig.roller.look()
    assert [engine.revision for engine in rig.engines] == [ONE.id, TWO.id, ONE.id]
    assert [engine.closed for engine in rig.engines] == [True, True, False]
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert rig.roller.reason.startswith("load_failed: ")


async def test_what_nobody_thought_of_is_told_and_the_old_one_starts_again(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.free_bytes = 0
    rig.faults[rig.source.publish(TWO)] = Faults(make=OverflowError("odd"))
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert rig.roller.reason == "unexpected: OverflowError: odd"
    assert (rig.roller.refused, rig.roller.fault) == (TWO.id, "crashed")


async def test_an_engine_that_was_given_up_after_its_proof_is_not_flipped_to(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = Faults(slow_probe=True)
    looking = asyncio.create_task(rig.roller.look())
    new = await rig.until_started(2)
    new.die("it crashed and crashed")
    new.may_pass.set()
    await looking
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert "it crashed and crashed" in rig.roller.reason
    assert rig.roller.refused == TWO.id


async def test_when_neither_comes_up_the_worker_has_failed_and_tries_again_later(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.free_bytes = 0
    rig.faults[rig.source.publish(TWO)] = BAD_START
    rig.faults[ONE.id] = BAD_START
    await rig.roller.look()
    assert rig.serving.state == "failed"
    assert rig.serving.why_not_ready() == f"failed: {rig.roller.reason}"
    del rig.faults[ONE.id]
    rig.clock.advance(60)
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")


async def test_a_boot_whose_revision_will_not_load_falls_back_to_one_on_disk(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = BAD_PROBE
    await rig.roller.look()
    await rig.roller.aclose()
    rig.boot()
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert rig.roller.reason.startswith("load_failed: ")


async def test_a_boot_in_the_middle_of_a_roll_serves_what_is_whole(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.source.publish(TWO)
    held = {name: rig.source.chunks.pop(name) for name in TWO.chunks if name not in ONE.chunks}
    await rig.roller.aclose()
    rig.boot()
    await rig.roller.look()
    assert rig.roller.revision == ONE.id
    rig.source.chunks |= held
    await rig.roller.look()
    assert rig.roller.revision == TWO.id


async def test_a_first_boot_that_fails_says_so(rig: Rig) -> None:
    rig.faults[rig.source.publish(ONE)] = BAD_START
    await rig.roller.look()
    assert rig.serving.state == "failed"
    assert "out of memory" in (rig.serving.why_not_ready() or "")


# Death and end


async def test_an_engine_that_is_given_up_is_replaced_at_the_next_look(rig: Rig) -> None:
    first = await rig.serve(ONE)
    changes = rig.changes
    first.die("crashed nine times")
    await until(lambda: rig.changes > changes)
    assert rig.serving.state == "failed"
    await rig.roller.look()
    assert (rig.roller.revision, rig.serving.state) == (ONE.id, "ready")
    assert rig.serving.engine is rig.engines[1]
    await until(lambda: first.closed)


async def test_closing_waits_for_streams_of_all_engines_to_the_deadline(rig: Rig) -> None:
    old = await rig.serve(ONE)
    (first,) = await talks(rig, old, 1)
    new = await rig.serve(TWO)
    (second,) = await talks(rig, new, 1)
    closing = asyncio.create_task(rig.roller.aclose())
    new.gate.set()
    assert await second.task == "Hello"
    assert not old.closed
    old.gate.set()
    assert await first.task == "Hello"
    await closing
    assert [engine.closed for engine in rig.engines] == [True, True]
    await rig.roller.aclose()


async def test_closing_cuts_what_runs_on_after_the_deadline(rig: Rig) -> None:
    hasty(rig)
    engine = await rig.serve(ONE)
    (talk,) = await talks(rig, engine, 1)
    await rig.roller.aclose()
    assert engine.closed
    talk.task.cancel()


async def test_a_roll_that_is_given_up_leaves_no_engine_behind(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = Faults(hang=True)
    looking = asyncio.create_task(rig.roller.look())
    engine = await rig.until_started(2)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert engine.closed
    assert rig.roller.revision == ONE.id


# What is kept


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, [3]), (1, [2, 3]), (2, [1, 2, 3]), (9, [0, 1, 2, 3])]
)
async def test_so_many_older_revisions_are_kept(
    executor: ThreadPoolExecutor, keep: int, kept: list[int]
) -> None:
    models = [model(number) for number in range(4)]
    with quick_folder() as folder:
        rig = Rig(folder, executor, WorkerConfig(keep_previous=keep))
        for revision in models:
            await rig.serve(revision)
        assert rig.on_disk == {models[number].id for number in kept}
        await rig.roller.aclose()


async def test_the_one_that_served_before_is_kept_whatever_its_age(rig: Rig) -> None:
    await rig.serve(ONE)
    await rig.serve(TWO)
    rig.source.roll(ONE)
    await rig.roller.look()
    assert rig.roller.revision == ONE.id
    await rig.serve(THREE)
    assert rig.on_disk == {ONE.id, THREE.id}


async def test_waterfalls_are_bounded_and_the_boot_stays(rig: Rig) -> None:
    await rig.serve(ONE)
    for number in range(12):
        rig.source.roll(ONE) if number % 2 else rig.source.publish(TWO)
        await rig.roller.look()
    assert len(rig.roller.waterfalls) == 9
    assert rig.roller.waterfalls[0].from_network == ONE.unique_bytes


# What is told of a roll


def steps_of(rig: Rig) -> list[str]:
    told = rig.roller.waterfalls.told_roll()
    assert told is not None
    return [span.name for span in told.spans if ":" not in span.name]


async def test_a_roll_is_told_from_its_pull_to_the_end_of_the_old_engine(rig: Rig) -> None:
    old = await rig.serve(ONE)
    assert rig.roller.waterfalls.told_roll() is None
    begun = await talks(rig, old, 1)
    rig.faults[rig.source.publish(TWO)] = Faults(hang=True)
    rolling = asyncio.create_task(rig.roller.look())
    engine = await rig.until_started(2)
    told = rig.roller.waterfalls.told_roll()
    assert told is not None
    assert (told.outcome, told.step, told.previous) == ("running", "load", ONE.id)
    assert steps_of(rig)[:1] == ["load"]
    engine.release()
    await rolling
    await asyncio.sleep(0)  # its drain begins beside it
    told = rig.roller.waterfalls.told_roll()
    assert told is not None
    assert (told.outcome, told.step, told.revision) == ("serves", "drain", TWO.id)
    old.gate.set()
    await begun[0].task
    await until(lambda: old.closed)
    assert rig.roller.waterfalls.told_roll().step == ""  # type: ignore[union-attr]
    assert steps_of(rig) == [
        *("trust", "choose", "pull", "check", "load", "probe", "flip", "drain")
    ]


async def test_a_roll_that_makes_room_is_told_to_have_drained_first(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.free_bytes = 0
    await rig.serve(TWO)
    steps = steps_of(rig)
    assert steps.index("check") < steps.index("make_room") < steps.index("load")
    assert "drain" not in steps


async def test_a_roll_that_failed_is_told_with_its_reason_and_a_restart_after_it(
    rig: Rig,
) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = BAD_PROBE
    await rig.roller.look()
    told = rig.roller.waterfalls.told_roll()
    assert told is not None
    assert (told.outcome, told.revision, told.previous) == ("failed", TWO.id, ONE.id)
    assert "answers nonsense" in told.reason
    assert steps_of(rig)[-1] == "probe"
    await rig.roller.look()  # to the same pointer, which is not tried again: no roll
    assert rig.roller.waterfalls.told_roll() == told
    assert await rig.roller.restart() == ""
    told = rig.roller.waterfalls.told_roll()
    assert told is not None
    assert (told.outcome, told.revision, told.previous) == ("serves", ONE.id, ONE.id)


async def test_a_roll_that_is_cut_off_is_not_told_to_go_on(rig: Rig) -> None:
    await rig.serve(ONE)
    rig.faults[rig.source.publish(TWO)] = Faults(hang=True)
    rolling = asyncio.create_task(rig.roller.look())
    await rig.until_started(2)
    rolling.cancel()
    await asyncio.wait([rolling])
    told = rig.roller.waterfalls.told_roll()
    assert told is not None
    assert (told.outcome, told.reason) == ("failed", "cut off")


async def test_a_fault_is_told_until_something_else_serves(rig: Rig) -> None:
    rig.faults[ONE.id] = Faults(start=EngineStartError("unknown tensor", fault="bad_file"))
    rig.source.publish(ONE)
    for _ in range(2):
        await rig.roller.look()
        assert rig.roller.fault == "bad_file"
    await rig.serve(TWO)
    assert rig.roller.fault == ""
