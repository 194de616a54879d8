from __future__ import annotations

import msgspec
import pytest

from tests.wire.test_workers import REPORT
from wire.fleet import (
    EdgeReport,
    PromptFigures,
    RevisionFigures,
    RouteFigures,
    StageFigures,
    WorkerBoot,
    WorkerSeen,
    decode_edge_report,
)
from wire.workers import BootSpan

EDGE = EdgeReport(
    edge="e1",
    url="http://127.0.0.1:1",
    started=1.0,
    ttl_s=3.0,
    workers=(WorkerSeen(report=REPORT, age_s=0.2),),
    figures=(RevisionFigures(model="m", revision="r", answered=3, first_token=(1, 2)),),
    prompts=PromptFigures(
        answered=3,
        stages=(StageFigures(name="parse", counts=(1, 2), total_ms=0.5),),
        routes=(RouteFigures(target="worker", reason="named", count=3),),
    ),
    boots=(WorkerBoot(worker="w1", model="m", spans=(BootSpan("pull", 0.0, 1.5),)),),
)


def test_a_report_survives_its_bytes() -> None:
    assert decode_edge_report(msgspec.json.encode(EDGE)) == EDGE


def test_fields_of_a_newer_edge_are_ignored() -> None:
    newer = {**msgspec.to_builtins(EDGE), "moon": "full"}
    assert decode_edge_report(msgspec.json.encode(newer)) == EDGE


@pytest.mark.parametrize("spoiled", [{"workers": [1]}, {"edge": None}, {"channels": {"m": "x"}}])
def test_a_wrong_shape_is_refused(spoiled: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_edge_report(msgspec.json.encode({**msgspec.to_builtins(EDGE), **spoiled}))


def test_a_report_of_an_older_edge_tells_less() -> None:
    older = msgspec.to_builtins(EDGE)
    del older["prompts"], older["boots"]
    report = decode_edge_report(msgspec.json.encode(older))
    assert (report.prompts, report.boots) == (PromptFigures(), ())


ROLL: dict[str, object] = {"revision": "b", "began": 5.0, "outcome": "serves"}


@pytest.mark.parametrize(
    "spoiled",
    [
        {"prompts": {"answered": -1}},
        {"prompts": {"streams": 2**60}},
        {"prompts": {"first_token": [0] * 18}},
        {"prompts": {"stages": [{"name": "s", "counts": [0] * 14}]}},
        {"prompts": {"stages": [{"name": "s", "total_ms": -1}]}},
        {"prompts": {"stages": [{"name": "s"}] * 33}},
        {"prompts": {"routes": [{"target": "t", "reason": "r"}] * 65}},
        {"prompts": {"routes": [{"target": "t", "reason": "r" * 129}]}},
        {"boots": [{"worker": "w", "model": "m"}] * 129},
        {"boots": [{"worker": "w", "model": "m", "spans": [["s", 0, 1]] * 49}]},
        {"boots": [{"worker": "w", "model": "m", "spans": [["s" * 97, 0, 1]]}]},
        {"boots": [{"worker": "w", "model": "m", "spans": [["s", -1, 1]]}]},
        {"boots": [{"worker": "w", "model": "m", "spans": [["s", 0, 1e10]]}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "spans": [["s", 0, 1]] * 49}}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "spans": [["s", 0, 1e10]]}}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "outcome": "perhaps"}}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "reason": "r" * 501}}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "step": "s" * 65}}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "began": -1}}]},
        {"boots": [{"worker": "w", "model": "m", "roll": {**ROLL, "revision": "b" * 65}}]},
    ],
)
def test_what_an_edge_counts_and_tells_is_bounded(spoiled: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_edge_report(msgspec.json.encode({**msgspec.to_builtins(EDGE), **spoiled}))
