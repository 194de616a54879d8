from __future__ import annotations

from msgspec.structs import replace as changed

from origin.console.edge_rows import edge_rows, missing_since
from origin.console.state import EdgeRow
from origin.console.window import Lately
from origin.fleet_nodes import EdgeNode
from tests.fakes.looks import AT, NEW, POINTER, edge
from wire.channel import pointer_to
from wire.fleet import CacheFigures, PromptFigures

OTHER = pointer_to("code", "stable", NEW, sequence=2)


def row(node: EdgeNode, minute: Lately | None = None) -> EdgeRow:
    counted = {node.name: minute} if minute is not None else {}
    return edge_rows([node], [POINTER, OTHER], {}, counted, {"e1": 4}, AT)["e1"]


def test_an_edge_that_knows_every_roll_is_not_behind() -> None:
    assert row(edge(channels={"chat@stable": 3, "code@stable": 2})).behind == {}
    assert row(edge(channels={"chat@stable": 9, "code@stable": 2, "x@y": 1})).behind == {}


def test_how_far_an_edge_is_behind() -> None:
    found = row(edge(channels={"chat@stable": 1}))
    assert found.behind == {"chat@stable": 2, "code@stable": 2}
    assert found.workers == 4


def test_the_cache_of_an_edge() -> None:
    figures = CacheFigures(
        used_bytes=5, capacity_bytes=9, hits=8, misses=2, fetched_bytes=77, degraded="disk full"
    )
    node = edge(cache=figures)
    before = changed(node.report, cache=CacheFigures(hits=5, misses=1))
    found = row(node, Lately(before, node.report, 60.0))
    assert (found.cache_used, found.cache_capacity, found.origin_bytes) == (5, 9, 77)
    assert found.hit_ratio == 0.75
    assert found.reason == "disk full"


def test_an_edge_that_is_gone_streams_nothing() -> None:
    told = PromptFigures(streams=9)
    assert row(edge(prompts=told)).streams == 9
    assert row(edge("e1", "missing", prompts=told)).streams == 0


def test_an_edge_without_a_region_is_in_one_that_has_a_name() -> None:
    assert row(edge(region="")).region == "unnamed"


def test_two_processes_of_one_name_are_said() -> None:
    node = EdgeNode(name="e1", report=edge().report, age_s=0.1, presence="here", twins=True)
    assert "two processes" in row(node).reason


def test_a_moment_is_told_in_utc() -> None:
    assert missing_since(0) == "missing since 1970-01-01 00:00:00 UTC"
