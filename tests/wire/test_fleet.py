from __future__ import annotations

import msgspec
import pytest

from tests.wire.test_workers import REPORT
from wire.fleet import EdgeReport, RevisionFigures, WorkerSeen, decode_edge_report

EDGE = EdgeReport(
    edge="e1",
    url="http://127.0.0.1:1",
    started=1.0,
    ttl_s=3.0,
    workers=(WorkerSeen(report=REPORT, age_s=0.2),),
    figures=(RevisionFigures(model="m", revision="r", answered=3, first_token=(1, 2)),),
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
