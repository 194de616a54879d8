from __future__ import annotations

import msgspec
import pytest

from wire.workers import BootSpan, WorkerReport, WorkerRoll, decode_heartbeat, decode_report

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


def test_a_heartbeat_is_one_report_or_one_for_each_model() -> None:
    second = msgspec.structs.replace(REPORT, model="other")
    assert decode_heartbeat(msgspec.json.encode(REPORT)) == (REPORT,)
    assert decode_heartbeat(msgspec.json.encode([REPORT, second])) == (REPORT, second)


@pytest.mark.parametrize(
    "reports", [[], [REPORT] * 65, [REPORT, msgspec.structs.replace(REPORT, worker="other")], 3]
)
def test_an_array_that_is_no_heartbeat_is_refused(reports: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_heartbeat(msgspec.json.encode(reports))


@pytest.mark.parametrize("name", ["gpu-1", "10.0.0.1:7402", "a@b", "A_b.c", "x" * 128])
def test_names_that_machines_have_are_names(name: str) -> None:
    named = msgspec.structs.replace(REPORT, worker=name)
    assert decode_report(msgspec.json.encode(named)) == named


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "a\n", "x" * 129, "\x1b[2J"])
def test_names_that_could_do_harm_are_refused(name: str) -> None:
    named = msgspec.structs.replace(REPORT, worker=name)
    with pytest.raises(msgspec.ValidationError):
        decode_report(msgspec.json.encode(named))


def test_the_spans_of_a_boot_are_small_arrays() -> None:
    spans = (BootSpan("pull: chunks", 12.5, 1_234.5),)
    booted = msgspec.structs.replace(REPORT, boot_spans=spans)
    body = msgspec.json.encode(booted)
    assert b'"boot_spans":[["pull: chunks",12.5,1234.5]]' in body
    assert decode_report(body) == booted
    with pytest.raises(msgspec.ValidationError):
        decode_report(msgspec.json.encode(msgspec.structs.replace(REPORT, boot_spans=spans * 49)))


def test_a_roll_is_told_in_as_few_bytes() -> None:
    spans = (BootSpan("pull", 0.0, 1.5), BootSpan("drain", 1.5, 9.0))
    roll = WorkerRoll(revision="b", previous="a", began=5.0, outcome="running", spans=spans)
    rolling = msgspec.structs.replace(REPORT, roll=roll)
    body = msgspec.json.encode(rolling)
    assert decode_report(body) == rolling
    with pytest.raises(msgspec.ValidationError):
        decode_report(body.replace(b'"running"', b'"other"'))
    with pytest.raises(msgspec.ValidationError):
        decode_report(body.replace(b":5.0", b":%d" % (2**53 + 1)))
    longer = msgspec.structs.replace(roll, spans=spans * 25)
    with pytest.raises(msgspec.ValidationError):
        decode_report(msgspec.json.encode(msgspec.structs.replace(REPORT, roll=longer)))
