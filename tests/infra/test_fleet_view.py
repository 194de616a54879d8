from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rich.console import Console, RenderableType

from infra.fleet_view import age, consistency, fleet, order_line
from origin.consistency import consistency as consistency_of
from origin.fleet import FleetConfig, FleetView
from origin.fleet_status import describe_fleet
from tests.fakes.clock import ManualClock
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.channel import Canary, pointer_to
from wire.fleet import CacheFigures, EdgeReport

OLD, NEW = REVISIONS[:2]
POINTER = pointer_to("chat", "stable", NEW, sequence=3)
CACHE = CacheFigures(used_bytes=16 * 10**9, capacity_bytes=64 * 10**9, hits=93, misses=7)
ORDER = {
    "command": {"id": "c", "node": "w1", "action": "drain"},
    "state": "given",
    "problem": "",
    "edges": ["e1"],
}


def printed(what: RenderableType, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(what)
    return captured.get()


def shown(*reports: EdgeReport, then_s: float = 0.0) -> dict[str, Any]:
    clock = ManualClock()
    view = FleetView(FleetConfig(), clock=clock)
    for report in reports:
        view.report(report)
    clock.advance(then_s)
    found = describe_fleet(view.edges(), view.workers(), [POINTER], [], now=2e9)
    return {**msgspec.to_builtins(found), "takes_reports": True}


HERE = edge_report("edge-1", cache=CACHE, region="eu", channels={"chat@stable": 3})


def test_a_fleet_that_is_well_is_two_tables_and_no_complaint() -> None:
    told = msgspec.structs.replace(
        HERE,
        workers=edge_report(
            "x", worker_report("gpu-1", revision=NEW, busy=3, queue=2, variant="Q4_K_M")
        ).workers,
    )
    lines = printed(fleet(shown(told))).split("\n")
    assert lines[1].split() == [
        *("edge-1", "eu", "ready", "1"),
        *("16.0", "GB", "25%", "93%", "0", "0.0", "s"),
    ]
    assert lines[4].split() == ["gpu-1", "chat", "Q4_K_M", NEW[:8], "ready", "3/4", "2", "0.2", "s"]
    assert "".join(lines[5:]).strip() == ""


def test_what_is_not_well_is_told_with_its_reason() -> None:
    workers = [
        worker_report("gpu-1", revision=OLD, target=NEW, phase="pull", missing_bytes=2_000_000),
        worker_report("gpu-2", revision=OLD),
        worker_report("gpu-3", revision=NEW, state="failed", reason="out of memory"),
    ]
    told = edge_report("edge-1", *workers, channels={"chat@stable": 1})
    text = printed(fleet(shown(told)), 100)
    for line in (
        "edge-1: does not know the newest roll of chat@stable",
        "gpu-1: on its way: pull, 2.0 MB to come",
        f"gpu-2: still serves {OLD[:12]}",
        "gpu-3: failed: out of memory",
        f"chat@stable: not consistent; 0 of 3 workers serve {NEW[:12]}",
    ):
        assert line in text
    assert " -2 " in text
    gone = printed(fleet(shown(told, then_s=45)))
    assert "edge-1: missing, last heard 45 s ago" in gone
    assert "gpu-3: missing, last seen 45 s ago" in gone


@pytest.mark.parametrize("width", [80, 100])
def test_it_fits_whatever_nodes_call_themselves(width: int) -> None:
    name = "w" * 128
    report = edge_report(
        "e" * 128,
        worker_report(name, model="m" * 96, channel="c" * 96, phase="make_room", variant="v" * 64),
        region="r" * 64,
        reason="x" * 500,
        ready=False,
    )
    text = printed(fleet(shown(report)), width)
    assert max(map(len, text.split("\n"))) <= width


def test_no_node_can_move_the_cursor() -> None:
    report = edge_report(
        "e1", worker_report("w1", reason="\x1b[2J", revision="\x1b[0m"), reason="\x07", ready=False
    )
    text = printed(fleet(shown(report)))
    assert "\x1b" not in text
    assert "\x07" not in text


def test_an_empty_fleet_says_why_it_may_be_so() -> None:
    assert "no edge has reported" in printed(fleet(shown()))
    closed = printed(fleet({**shown(), "takes_reports": False}))
    assert "origin.edge_token_file" in closed


def test_commands_under_way_are_told() -> None:
    text = printed(fleet({**shown(HERE), "commands": [ORDER, {**ORDER, "state": "done"}]}))
    assert text.count("under way") == 1
    assert "drain w1: given through e1" in text
    failed = {**ORDER, "state": "failed", "problem": "no room\x1b"}
    assert order_line(failed) == "drain w1: failed through e1: no room\ufffd"


def test_consistency_names_who_is_apart() -> None:
    view = FleetView(FleetConfig(), clock=ManualClock())
    workers = [worker_report("gpu-1", revision=NEW), worker_report("gpu-2", revision=OLD)]
    view.report(edge_report("e1", *workers, channels={"chat@stable": 3}))

    def told(pointer: Any) -> str:
        found = consistency_of(pointer, view.edges(), view.workers())
        return printed(consistency(msgspec.to_builtins(found)))

    text = told(POINTER)
    assert "1 of 2 workers" in text
    assert "not consistent" in text
    assert f"worker gpu-2 ({OLD[:8]}): still serves {OLD[:12]}" in text
    canary = Canary(revision=OLD, percent=1)
    assert "canary" in told(pointer_to("chat", "stable", NEW, sequence=3, canary=canary))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (3.14, "3.1 s"),
        (45, "45 s"),
        (120, "2 min"),
        (7_200, "2 h"),
        (200_000, "2 d"),
    ],
)
def test_ages_are_in_one_unit(seconds: float, text: str) -> None:
    assert age(seconds) == text
