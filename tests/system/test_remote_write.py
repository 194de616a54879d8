"""An edge sends its metrics to a real Prometheus that goes away, and is killed itself meanwhile."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.fakes.fleet import Fleet, eventually
from tests.fakes.prometheus import Prometheus
from wire.telemetry.http_remote_write import HttpReceiver
from wire.telemetry.remote_write import STALE, compress, encode_labels, encode_request
from wire.telemetry.spool import SpoolState

INTERVAL_S = 0.05
SPOOLED = 900
"""Samples; about ten looks."""
LOOK = 150
"""More samples than one look has."""
TIER = '{tier="edge",region="test"}'
PENDING = f"headwater_telemetry_pending_samples{TIER}"
DROPPED = 'headwater_telemetry_samples_total{tier="edge",region="test",outcome="dropped"}'


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[Prometheus]:
    with Prometheus(tmp_path / "prometheus") as running:
        yield running


def settings(prometheus: Prometheus, folder: Path, **more: object) -> dict[str, object]:
    return {
        "plane": "artifacts",
        "telemetry__remote_write_url": prometheus.write_url,
        "telemetry__interval_s": INTERVAL_S,
        "telemetry__spool_dir": folder / "spool",
        "telemetry__backoff_s": 0.02,
        "telemetry__max_backoff_s": 0.2,
        "telemetry__labels": {"region": "test", "instance": "edge-under-test"},
        "trust_dir": folder / "trust",
        "cache__folder": folder / "cache",
        **more,
    }


def state(folder: Path) -> SpoolState:
    """What the spool's file says."""
    return msgspec.json.decode(
        (folder / "spool" / "edge" / "0" / "state").read_bytes(), type=SpoolState
    )


def test_an_outage_and_a_kill_lose_nothing_that_was_spooled(
    fleet: Fleet, prometheus: Prometheus, tmp_path: Path
) -> None:
    with fleet.extra("edge", "reporting", **settings(prometheus, tmp_path)) as edge:
        eventually(lambda: len(prometheus.samples(PENDING)) > 3)
        prometheus.kill()
        eventually(
            lambda: fleet.extra_metric(edge, "headwater_telemetry_pending_samples") > SPOOLED
        )
        killed = edge.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: edge.pid not in {killed, None} and fleet_answers(fleet, edge), 30)
        spooled = fleet.extra_metric(edge, "headwater_telemetry_pending_samples")
        assert spooled > SPOOLED, "what the killed process had spooled is still there"
        prometheus.start()
        eventually(lambda: fleet.extra_metric(edge, "headwater_telemetry_pending_samples") == 0, 30)
    end = state(tmp_path)
    assert (end.dropped, end.rejected) == (0, 0)
    assert end.sent == prometheus.count(TIER), "every sample of every look is there, each once"
    times = [time_s for time_s, _ in prometheus.samples(PENDING)]
    assert times == sorted(set(times)), "in order, and no look twice"


def fleet_answers(fleet: Fleet, edge: object) -> bool:
    try:
        fleet.extra_metric(edge, "headwater_telemetry_pending_samples")  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - it is starting
        return False
    return True


def test_over_the_cap_what_is_missing_is_what_is_counted(
    fleet: Fleet, prometheus: Prometheus, tmp_path: Path
) -> None:
    prometheus.kill()
    cap = 24_000
    more = {"telemetry__spool_bytes": cap, "telemetry__segment_bytes": 6_000}
    with fleet.extra("edge", "small-spool", **settings(prometheus, tmp_path, **more)) as edge:
        eventually(
            lambda: (
                fleet.extra_metric(edge, "headwater_telemetry_samples_total", outcome="dropped") > 0
            ),
            30,
        )
        assert fleet.extra_metric(edge, "headwater_telemetry_spool_bytes") <= cap
        prometheus.start()
        eventually(lambda: fleet.extra_metric(edge, "headwater_telemetry_pending_samples") == 0, 30)
    end = state(tmp_path)
    assert (end.dropped > 0, end.rejected) == (True, 0)
    # A batch that is on its way when the spool needs its room counts as dropped and may arrive.
    assert 0 <= prometheus.count(TIER) - end.sent <= LOOK
    told = [value for _, value in prometheus.samples(DROPPED)]
    assert told == sorted(told), "what arrives is in order"
    assert told[-1] == end.dropped


async def test_a_real_receiver_takes_the_newest_batch_twice_and_refuses_an_older_one(
    prometheus: Prometheus,
) -> None:
    """Why a lost answer costs nothing: ``docs/adr/0032``."""
    now_ms = int(time.time() * 1000)
    labels = encode_labels({"__name__": "asked", "who": "Größe \U0001f30a", "empty": ""})
    receiver = HttpReceiver(prometheus.write_url, "prometheus")
    statuses = []
    for at_ms, value in ((-9, 1.5), (-9, 1.5), (-6, math.inf), (-6, math.inf), (-9, 1.5)):
        body = compress(encode_request([(labels, value)], now_ms + at_ms))
        statuses.append((await receiver.post(body)).status)
    body = compress(encode_request([(labels, STALE)], now_ms - 3))
    statuses.append((await receiver.post(body)).status)
    await receiver.aclose()
    assert [status // 100 for status in statuses] == [2, 2, 2, 2, 4, 2]
    values = [value for _, value in prometheus.samples('asked{who="Größe \U0001f30a"}')]
    assert values == [1.5, math.inf], "the marker of an ended series is no sample"
