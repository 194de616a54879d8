from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tests.fakes.receivers import MemoryReceiver
from tests.fakes.remote_write import SERIES, Rig
from tests.fakes.waiting import until
from wire.telemetry.spool import Spool


async def test_an_outage_of_ten_minutes_loses_nothing_and_replays_in_order(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    rig = Rig(tmp_path, receiver)
    await rig.scrape()
    await rig.ship_all()
    receiver.status = None
    for _ in range(40):
        await rig.scrape()
        await rig.ship_all()
    assert receiver.values("tick") == [1]
    pending = rig.buffer.figures().pending
    receiver.status = 200
    await rig.ship_all()
    assert receiver.values("tick") == list(range(1, 42))
    assert rig.sample("samples_total", outcome="sent") == receiver.samples > pending
    assert rig.sample("samples_total", outcome="dropped") == 0
    assert rig.sample("samples_total", outcome="rejected") == 0
    assert rig.sample("pending_samples") == 0
    await rig.remote.aclose()


async def test_over_the_cap_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    receiver.status = 503
    rig = Rig(tmp_path, receiver, cap=20_000)
    await rig.scrape(100)
    figures = rig.buffer.figures()
    assert figures.disk_bytes <= 20_000
    receiver.status = 200
    await rig.ship_all()
    ticks = receiver.values("tick")
    assert 1 < len(ticks) < 100
    assert ticks == list(range(101 - len(ticks), 101))
    assert figures.counts.dropped > 0
    assert receiver.samples == figures.pending
    await rig.remote.aclose()


async def test_another_process_goes_on_where_one_was_killed(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    receiver.status = None
    rig = Rig(tmp_path, receiver)
    await rig.scrape(10)
    made = rig.buffer.figures().pending
    rig.buffer.close()  # its files only: nothing else of it survives
    receiver.status = 200
    again = Rig(tmp_path, receiver)
    await again.ship_all()
    assert receiver.values("tick") == list(range(1, 11))
    assert receiver.samples == made
    await again.remote.aclose()


async def test_a_lost_answer_makes_no_second_sample_and_no_refusal(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    receiver.deaf = True
    rig = Rig(tmp_path, receiver)
    await rig.scrape(3)
    for _ in range(3):
        await rig.ship_all()
    receiver.deaf = False
    await rig.ship_all()
    assert receiver.values("tick") == [1, 2, 3]
    counts = rig.buffer.figures().counts
    assert (counts.sent, counts.rejected) == (receiver.samples, 0)
    await rig.remote.aclose()


async def test_what_is_refused_is_counted_and_does_not_stop_the_rest(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    receiver.status = 400
    rig = Rig(tmp_path, receiver)
    await rig.scrape(2)
    await rig.ship_all()
    assert rig.buffer.figures().pending == 0
    rejected = rig.sample("samples_total", outcome="rejected")
    assert rejected is not None
    assert rejected > 2 * SERIES
    receiver.status = 200
    await rig.scrape()
    await rig.ship_all()
    assert receiver.values("tick")[0] == 4  # the look at the figures was the third
    await rig.remote.aclose()


async def test_a_collector_that_fails_costs_its_scrape(tmp_path: Path) -> None:
    class Broken(Collector):
        def collect(self) -> Iterable[Metric]:
            raise RuntimeError("no figures today")

        def describe(self) -> Iterable[Metric]:
            return []

    receiver = MemoryReceiver()
    rig = Rig(tmp_path, receiver)
    broken = Broken()
    rig.registry.register(broken)
    await rig.scrape()
    rig.registry.unregister(broken)
    await rig.scrape()
    await rig.ship_all()
    assert len(receiver.values("tick")) == 1
    await rig.remote.aclose()


async def test_the_end_sends_a_last_look_or_spools_it(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    rig = Rig(tmp_path, receiver)
    await rig.remote.aclose()
    assert receiver.values("tick") == [1]
    assert receiver.closed
    receiver.status = None
    await Rig(tmp_path, receiver).remote.aclose()
    left = Spool(tmp_path, most_bytes=1 << 24, segment_bytes=1_000)
    assert left.pending > SERIES
    left.close()


async def test_both_loops_run_by_themselves_through_an_outage(tmp_path: Path) -> None:
    receiver = MemoryReceiver()
    rig = Rig(tmp_path, receiver, interval_s=0.005, clock=time.monotonic)
    running = asyncio.create_task(rig.remote.run())
    await until(lambda: len(receiver.values("tick")) > 2)
    receiver.status = None
    tries = receiver.tries
    await until(lambda: receiver.tries > tries + 2)
    receiver.status = 200
    had = len(receiver.values("tick"))
    await until(lambda: len(receiver.values("tick")) > had + 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await rig.remote.aclose()
    ticks = receiver.values("tick")
    assert ticks == list(range(1, len(ticks) + 1))
