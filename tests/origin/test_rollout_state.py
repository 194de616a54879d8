"""A rollout as it is written down."""

from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from origin.rollout_state import OVER, Rollout, Stage
from wire.channel import Canary

ROLLOUT = Rollout(
    id="1", model="chat", channel="stable", revision="b" * 64, previous="a" * 64, started=1.0
)


@pytest.mark.parametrize(
    ("stage", "target", "canary"),
    [
        ("preheating", "a", False),
        ("canary", "a", True),
        ("observing", "a", True),
        ("promoting", "b", False),
        ("rolling", "b", False),
        ("aborting", "a", False),
        ("aborted", "a", False),
        ("done", "b", False),
    ],
)
def test_what_the_channel_should_point_at(stage: Stage, target: str, canary: bool) -> None:
    rollout = replace(ROLLOUT, stage=stage, percent=10, seed=3)
    wanted = Canary(revision="b" * 64, percent=10, seed=3)
    assert rollout.target == target * 64
    assert rollout.canary == (wanted if canary else None)
    assert rollout.over is (stage in OVER)


def test_it_is_read_as_it_was_written() -> None:
    rollout = replace(ROLLOUT, served=frozenset({"w1"}), refused={"w2": "hung"}, notes=("n",))
    data = msgspec.json.encode(rollout)
    assert msgspec.json.decode(data, type=Rollout) == rollout
    assert b"faults" not in data  # what is as usual is not written
