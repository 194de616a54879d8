"""How a rollout looks: every line fits, nothing from outside moves the cursor."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console, RenderableType

from infra.roll_view import history, moves, of_id, outcome, rollout

NEW, OLD = "a" * 64, "b" * 64
ONE: dict[str, Any] = {
    "id": "1",
    "model": "chat",
    "channel": "stable",
    "revision": NEW,
    "previous": OLD,
    "percent": 10,
    "stage": "observing",
    "stage_s": 23.0,
    "started": 100.0,
    "notes": ["edge e2 was \x1b[31mlate"],
}
NOW = {
    "preheated": {
        "e1": {"state": "done"},
        "e2": {"state": "running", "bytes": 1_000_000, "done_bytes": 410_000},
        "e3": None,
    },
    "workers": [
        {"worker": "w1", "phase": "", "canary": True},
        {"worker": "w2", "phase": "load", "canary": False},
    ],
    "workers_by_revision": {OLD: 2, NEW: 1},
    "figures": {
        "trial": {
            "requests": 20,
            "error_rate": 0.05,
            "first_token_p50_ms": 41.0,
            "first_token_p95_ms": 803.0,
        },
        "stable": {
            "requests": 0,
            "error_rate": 0.0,
            "first_token_p50_ms": None,
            "first_token_p95_ms": None,
        },
    },
}


def printed(what: RenderableType, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(what)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    return str(text)


def flat(what: RenderableType) -> str:
    return " ".join(printed(what).split())


def test_a_running_canary_with_everything_that_there_is_to_see() -> None:
    text = flat(rollout({"record": {"current": ONE, "past": []}, "now": NOW}, "1"))
    assert "chat@stable to aaaaaaaaaaaa from bbbbbbbbbbbb, 10% of workers first" in text
    assert "observing for 23.0 s" in text
    assert "e1 done, e2 41% of 1.00 MB, e3 not begun" in text
    assert "1 at aaaaaaaaaaaa, 2 at bbbbbbbbbbbb; canary: w1; at work: w2 (load)" in text
    assert "aaaaaaaaaaaa new 20 5.0% 41.0 ms 803 ms" in text
    assert "bbbbbbbbbbbb old 0 0.0% none none" in text
    assert "note: edge e2 was" in text


def test_one_that_is_forgotten_or_has_only_begun() -> None:
    record: dict[str, Any] = {"record": {"past": []}, "now": None}
    assert "forgotten" in flat(rollout(record, "1"))
    fresh = {key: ONE[key] for key in ("id", "model", "channel", "revision", "started")}
    assert "preheating" in flat(rollout({"record": {"current": fresh}, "now": None}, "1"))
    assert of_id({"record": {"current": fresh}}, "2") is None


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"stage": "done", "ended": 142.0, "serving": 3},
            "done: chat@stable serves aaaaaaaaaaaa on 3 workers, after 42.0 s",
        ),
        (
            {"stage": "aborted", "ended": 103.0, "reason": "w1 refused it"},
            "aborted: w1 refused it; chat@stable is back at bbbbbbbbbbbb after 3.00 s",
        ),
        ({"stage": "aborted", "previous": "", "reason": "no"}, "aborted: no"),
        ({"stage": "superseded", "reason": "a roll to c"}, "superseded: chat@stable: a roll to c"),
    ],
)
def test_how_it_ended_in_one_line(changes: dict[str, Any], line: str) -> None:
    assert flat(outcome({**ONE, **changes})) == line


def test_the_history_of_channels_and_their_pointers() -> None:
    assert "nothing was rolled yet" in printed(history([]))
    past = {**ONE, "stage": "aborted", "reason": "w1 refused it", "who": "ann"}
    record = {"current": {**ONE, "why": "better"}, "past": [past]}
    text = printed(history([record], now=400.0), 120)
    assert "5 min ago" in text
    assert "better" in text
    assert "w1 refused it" in text
    move = {"sequence": 4, "revision": OLD, "canary": NEW, "percent": 10, "at": 1.0, "who": "ann"}
    shown = printed(moves({"moves": [move]}), 120)
    assert "aaaaaaaaaaaa 10%" in shown
    assert "found" in shown
