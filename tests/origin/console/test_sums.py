from __future__ import annotations

from typing import Any

from msgspec import UNSET

from origin.console.state import EdgeRow, WorkerRow
from origin.console.sums import region_rows, totals
from origin.console.window import Lately
from tests.fakes.reports import edge_report
from wire.fleet import CacheFigures, PromptFigures


def edge(region: str, state: str = "ready", **fields: Any) -> EdgeRow:
    return EdgeRow(region=region, state=state, **fields)


def worker(region: str, state: str = "ready", **fields: Any) -> WorkerRow:
    return WorkerRow(
        region=region, state=state, model="m", channel="stable", revision="r", **fields
    )


def fetched(count: int, *, hits: int = 0) -> Lately:
    now = edge_report(cache=CacheFigures(fetched_bytes=count, hits=hits, misses=hits))
    return Lately(edge_report(), now, 2.0)


def test_a_region_adds_up_what_is_in_it() -> None:
    edges = {
        "a": edge("eu", requests_per_s=1.5),
        "b": edge("eu", "missing"),
        "c": edge("us", requests_per_s=3.0),
    }
    workers = {
        "w1/m": worker("eu", slots=4, busy=3, queue=1),
        "w2/m": worker("eu", "asleep", slots=4),
        "w3/m": worker("eu", "failed", slots=8, busy=8),
        "w4/m": worker("ap"),
    }
    counted = {"a": fetched(100, hits=1), "c": fetched(50)}
    found = region_rows(edges, workers, counted, counted)
    assert list(found) == ["ap", "eu", "us"]
    eu = found["eu"]
    assert (eu.edges, eu.edges_ready, eu.workers, eu.workers_ready) == (2, 1, 3, 2)
    assert (eu.slots, eu.busy, eu.queue) == (8, 3, 1)
    assert (eu.requests_per_s, eu.origin_bytes_per_s, eu.hit_ratio) == (1.5, 50, 0.5)
    assert (found["us"].requests_per_s, found["us"].hit_ratio) == (3.0, UNSET)
    assert (found["ap"].edges, found["ap"].workers) == (0, 1)


def test_totals_add_up_all_edges() -> None:
    edges = {"a": edge("eu", requests_per_s=1.5, streams=2), "b": edge("us", streams=3)}
    before = edge_report(prompts=PromptFigures(failed=1))
    now = edge_report(prompts=PromptFigures(failed=5, first_token=(0, 10)))
    counted = {"a": Lately(before, now, 2.0)}
    found = totals(edges, counted, counted, problems=(), sent_per_s=12.4, trust="fresh")
    assert (found.healthy, found.requests_per_s, found.failed_per_s) == (True, 1.5, 2.0)
    assert (found.streams, found.origin_bytes_per_s, found.hit_ratio) == (5, 12, UNSET)
    assert (found.first_token_p50_ms, found.first_token_p95_ms) == (3.0, 4.8)


def test_a_quiet_fleet_has_no_times() -> None:
    found = totals({}, {}, {}, problems=("x",), sent_per_s=0.0, trust="expired")
    assert (found.healthy, found.problems, found.trust) == (False, ("x",), "expired")
    assert found.first_token_p50_ms is UNSET
