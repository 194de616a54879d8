from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from gpu_worker.waterfall import Waterfall
from infra.errors import RefusedError
from infra.timeline import (
    boot_and_roll,
    origins,
    read_waterfalls,
    report,
    timeline_rows,
    title,
)

REVISION = "0123456789abcdef" * 4


def made(kind: str = "boot", model: str = "chat") -> Waterfall:
    """A boot with steps that overlap, and parts."""
    waterfall = msgspec.convert({"kind": kind, "model": model, "revision": REVISION}, Waterfall)
    for name, start_ms, length_ms in (
        ("trust", 400.0, 50.0),
        ("pull: fetch", 470.0, 500.0),
        ("pull: seed", 465.0, 200.0),
        ("pull", 450.0, 550.0),
        ("load", 1_000.0, 1_000.0),
        ("start", 0.0, 400.0),
        ("trust", 1_900.0, 100.0),
    ):
        waterfall.add(name, start_ms, length_ms)
    waterfall.from_seeds = 1_000_000
    waterfall.by_source = {"edge:7401": 3_000_000, "origin:7400": 0}
    waterfall.decisions = {"load": "mmap: 100% of the bytes are resident"}
    return waterfall


def printed(*waterfalls: Waterfall) -> list[str]:
    console = Console(width=80, record=True, force_terminal=False, file=None)
    with console.capture() as capture:
        for waterfall in waterfalls:
            console.print(report(waterfall))
    return capture.get().splitlines()


def test_rows_begin_in_the_order_of_the_steps_and_parts_follow_theirs() -> None:
    rows = timeline_rows(made())
    assert [(row.name, row.inner) for row in rows] == [
        ("start", False),
        ("trust", False),
        ("pull", False),
        ("seed", True),
        ("fetch", True),
        ("load", False),
    ]
    assert (rows[1].start_ms, rows[1].length_ms, len(rows[1].spans)) == (400.0, 150.0, 2)


def test_a_part_without_its_step_stands_alone() -> None:
    waterfall = Waterfall()
    waterfall.add("pull: fetch", 1.0, 2.0)
    assert [(row.name, row.inner) for row in timeline_rows(waterfall)] == [("pull: fetch", False)]


def test_rows_are_bounded() -> None:
    waterfall = Waterfall()
    for number in range(150):
        waterfall.add(f"step {number}", number, 1.0)
    assert len(timeline_rows(waterfall)) == 60


def test_the_report_fits_a_terminal_and_says_all() -> None:
    lines = printed(made())
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "Boot of chat, revision 0123456789ab: 2.00 s" in text
    assert "older revision here" in text
    assert "3.00 MB" in text
    assert "origin:7400" not in text, "a source that gave nothing is no news"
    assert "mmap: 100% of the bytes are resident" in text


def test_a_bar_stands_where_its_step_began() -> None:
    bars = [line for line in printed(made()) if "█" in line]
    at = {line.split()[0]: line.index("█") for line in bars}
    assert at["start"] < at["pull"] < at["load"]
    assert at["load"] - at["start"] == 17  # half of 34 columns


def test_names_from_outside_cannot_move_the_cursor() -> None:
    waterfall = made(model="evil\x1b[2J")
    waterfall.add("step\x1b]0;x", 0.0, 1.0)
    waterfall.by_source = {"source\x1b[31m": 5}
    waterfall.decisions = {"load\x1b": "why\x1b"}
    assert "\x1b" not in "\n".join(printed(waterfall))


def test_an_empty_waterfall_can_be_shown() -> None:
    assert "Roll of a model, revision : 0 µs" in "\n".join(printed(Waterfall()))


def test_of_each_model_the_boot_and_the_latest_roll_are_shown() -> None:
    first, second = made("roll"), made("roll")
    boot, other = made("boot"), made("boot", "other")
    assert boot_and_roll([boot, first, second, other]) == [boot, second, other]


def test_where_bytes_came_from_leaves_out_who_gave_none() -> None:
    assert origins(made()) == {"older revision here": 1_000_000, "edge:7401": 3_000_000}


def test_waterfalls_are_read_from_a_status() -> None:
    status = {"waterfalls": [msgspec.to_builtins(made())], "report": {}}
    (found,) = read_waterfalls(status)
    assert title(found) == title(made())
    several = {"waterfalls_by_model": {"chat": [made()], "code": [made(model="code")]}}
    assert [fall.model for fall in read_waterfalls(msgspec.to_builtins(several))] == [
        "chat",
        "code",
    ]
    for wrong in ({}, {"waterfalls_by_model": 3}, {"waterfalls": [{"spans": 3}]}):
        with pytest.raises(RefusedError, match="no waterfalls that can be read"):
            read_waterfalls(wrong)
