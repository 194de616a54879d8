from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
import structlog

from gpu_worker.waterfall import Waterfall
from gpu_worker.waterfalls import Waterfalls, process_age_s
from tests.fakes.clock import ManualClock
from wire.workers import MAX_BOOT_SPANS, BootSpan


def spans(waterfall: Waterfall) -> dict[str, tuple[float, float]]:
    return {span.name: (span.start_ms, span.length_ms) for span in waterfall.spans}


def test_a_boot_begins_with_its_process() -> None:
    clock = ManualClock(100.0)
    known = Waterfalls(model="chat", started_s=99.5, clock=clock)
    clock.advance(0.25)
    known.listens()
    boot = known.begin()
    with boot.step("trust"):
        clock.advance(0.1)
    known.listens()  # the first time counts
    known.keep(boot)
    assert (boot.kind, boot.model) == ("boot", "chat")
    assert spans(boot) == {
        "start": pytest.approx((0.0, 500.0)),
        "trust": pytest.approx((750.0, 100.0)),
        "listen": pytest.approx((500.0, 250.0)),
    }
    assert known.boot is boot
    assert known.last_roll is None


def test_until_one_is_kept_each_is_the_boots() -> None:
    known = Waterfalls(started_s=0.0, clock=ManualClock(1.0))
    assert [known.begin().kind, known.begin().kind] == ["boot", "boot"]
    known.keep(known.begin())
    roll = known.begin()
    assert (roll.kind, roll.spans) == ("roll", [])


def test_a_model_that_waited_does_not_count_the_wait() -> None:
    clock = ManualClock(10.0)
    known = Waterfalls(started_s=9.5, clock=clock)
    known.listens()
    clock.advance(3_600)
    boot = known.begin()
    with boot.step("pull"):
        clock.advance(1.0)
    known.keep(boot)
    assert boot.kind == "boot"
    assert boot.total_ms == pytest.approx(1_000.0)
    assert list(boot.steps_ms) == ["pull"]


def test_where_nobody_knows_the_start_a_boot_begins_when_it_is_begun() -> None:
    clock = ManualClock(5.0)
    known = Waterfalls(clock=clock)
    boot = known.begin()
    with boot.step("trust"):
        clock.advance(1.0)
    known.listens()
    known.keep(boot)
    assert spans(boot) == {"trust": pytest.approx((0.0, 1_000.0))}


def test_the_boot_stays_and_rolls_are_bounded() -> None:
    known = Waterfalls()
    for number in range(12):
        waterfall = known.begin()
        waterfall.revision = str(number)
        known.keep(waterfall)
    assert [w.revision for w in known] == ["0", *(str(number) for number in range(4, 12))]
    assert known.last_roll is known[-1]
    assert len(known[1:]) == 8


def test_each_is_one_line_of_the_log() -> None:
    clock = ManualClock()
    known = Waterfalls(model="chat", clock=clock)
    with structlog.testing.capture_logs() as lines:
        boot = known.begin()
        with boot.step("pull"):
            clock.advance(2.0)
        boot.from_seeds, boot.by_source = 30, {"near": 12}
        boot.decisions["load"] = "mmap: why"
        known.keep(boot)
    assert lines == [
        {
            "event": "waterfall",
            "log_level": "info",
            "kind": "boot",
            "model": "chat",
            "revision": "",
            "total_ms": 2_000.0,
            "spans": {"pull": [0.0, 2_000.0]},
            "bytes": {"disk": 0, "seeds": 30, "near": 12},
            "decisions": {"load": "mmap: why"},
        }
    ]


def test_a_process_knows_its_age(tmp_path: Path) -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    stat = tmp_path / "stat"
    fields = ["S", *["0"] * 18, str(50 * ticks), "0"]
    stat.write_text(f"7 (a (strange) name) {' '.join(fields)}\n")
    assert process_age_s(stat, now_s=lambda: 52.5) == pytest.approx(2.5)
    assert process_age_s(stat, now_s=lambda: 49.0) == 0.0
    stat.write_text("7 (cut")
    assert process_age_s(stat) is None
    assert process_age_s(tmp_path / "missing") is None


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="Linux tells a process's age")
def test_this_process_has_an_age() -> None:
    age_s = process_age_s()
    assert age_s is not None
    assert 0.0 < age_s < 86_400.0


def test_heartbeats_tell_the_spans_of_the_boot_and_of_nothing_later() -> None:
    clock = ManualClock(100.0)
    known = Waterfalls(model="chat", clock=clock)
    assert known.boot_spans() == ()
    boot = known.begin()
    with boot.step("pull"):
        clock.advance(0.25)
    boot.add("x" * 500, 10.04, 1.0)
    known.keep(boot)
    assert known.boot_spans() == (BootSpan("pull", 0.0, 250.0), BootSpan("x" * 96, 10.0, 1.0))
    assert known.boot_spans() is known.boot_spans()
    roll = known.begin()
    roll.add("later", 0.0, 1.0)
    known.keep(roll)
    assert len(known.boot_spans()) == 2


def test_what_heartbeats_tell_of_a_boot_is_bounded_and_small() -> None:
    known = Waterfalls(model="chat")
    boot = known.begin()
    for number in range(100):
        boot.add(f"pull: step {number}", 1_000.123 * number, 12.345)
    known.keep(boot)
    told = known.boot_spans()
    assert len(told) == MAX_BOOT_SPANS
    assert len(msgspec.json.encode(told[:15])) < 600
