from __future__ import annotations

import msgspec
import pytest

from wire.workers import WorkerReport, decode_report

REPORT = WorkerReport(
    worker="w",
    url="http://127.0.0.1:1",
    model="m",
    channel="stable",
    revision="r",
    state="ready",
    slots=4,
    busy=1,
    queue=0,
    ttl_s=4.0,
    boot={"load": 40.5},
)


def test_a_report_survives_its_bytes() -> None:
    assert decode_report(msgspec.json.encode(REPORT)) == REPORT


def test_fields_of_a_newer_worker_are_ignored() -> None:
    newer = {**msgspec.to_builtins(REPORT), "temperature_c": 71}
    assert decode_report(msgspec.json.encode(newer)) == REPORT


@pytest.mark.parametrize(
    "spoiled", [{"state": "sleeping"}, {"slots": "four"}, {"url": None}, {"boot": {"a": "b"}}]
)
def test_a_wrong_shape_is_refused(spoiled: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_report(msgspec.json.encode({**msgspec.to_builtins(REPORT), **spoiled}))
