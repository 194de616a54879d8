from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest

from origin.fleet import FleetConfig, FleetView
from origin.fleet_metrics import FleetCollector
from tests.fakes.clock import ManualClock
from tests.fakes.reports import REVISIONS, edge_report, worker_report
from wire.channel import ChannelPointer, pointer_to
from wire.trust import TrustView

SIGNED, UNSIGNED = REVISIONS[:2]


def signed(pointers: Mapping[tuple[str, str], ChannelPointer]) -> TrustView:
    return TrustView(
        versions={},
        expires={"timestamp": time.time() + 60},
        channels=pointers,
        refused={},
        revisions={(p.model, p.revision): 1 for p in pointers.values()},
    )


def lines(view: FleetView, trust: TrustView) -> list[str]:
    registry = CollectorRegistry()
    registry.register(FleetCollector(view, lambda: trust))
    text = generate_latest(registry).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_the_fleet_is_a_metric() -> None:
    view = FleetView(FleetConfig(), clock=ManualClock())
    trust = signed({("chat", "stable"): pointer_to("chat", "stable", SIGNED, sequence=1)})
    view.report(edge_report("e1", worker_report("w1"), worker_report("w2", revision=UNSIGNED)))
    view.report(edge_report("e2", worker_report("w3", model="unsigned"), ready=False))
    assert lines(view, trust) == [
        'headwater_fleet_nodes{kind="edge",state="not_ready"} 1.0',
        'headwater_fleet_nodes{kind="edge",state="ready"} 1.0',
        'headwater_fleet_nodes{kind="worker",state="ready"} 3.0',
        f'headwater_fleet_workers{{channel="stable",model="chat",revision="{SIGNED}"}} 1.0',
        'headwater_fleet_workers{channel="stable",model="chat",revision="other"} 1.0',
        'headwater_fleet_workers{channel="other",model="other",revision="other"} 1.0',
        'headwater_fleet_consistent{channel="stable",model="chat"} 0.0',
    ]
    view.report(edge_report("e1", worker_report("w1")))
    view.forget("w2")
    assert 'headwater_fleet_consistent{channel="stable",model="chat"} 1.0' in lines(view, trust)


def test_what_workers_call_themselves_makes_no_series() -> None:
    view = FleetView(FleetConfig(), clock=ManualClock())
    trust = signed({("chat", "stable"): pointer_to("chat", "stable", SIGNED, sequence=1)})
    hostile = [
        worker_report(f"w{n}", model=f"m{n}", channel=f"c{n}", revision=f"{n:064d}")
        for n in range(500)
    ]
    view.report(edge_report("e1", *hostile))
    found = lines(view, trust)
    assert 'headwater_fleet_workers{channel="other",model="other",revision="other"} 500.0' in found
    assert len(found) == 4


def test_only_so_many_channels_are_a_metric() -> None:
    view = FleetView(FleetConfig(), clock=ManualClock())
    names = [(f"m{n}", "stable") for n in range(300)]
    trust = signed({name: pointer_to(*name, SIGNED, sequence=1) for name in names})
    found = [line for line in lines(view, trust) if "consistent" in line]
    assert len(found) == 256
