from __future__ import annotations

from typing import Any

from msgspec import UNSET

from origin.console.figures import MAX_ROUTES, first_token_ms, hit_ratio, routes, stages
from origin.console.window import Lately
from tests.fakes.reports import edge_report
from wire.fleet import CacheFigures, PromptFigures, RouteFigures, StageFigures


def lately(before: dict[str, Any], now: dict[str, Any]) -> Lately:
    return Lately(edge_report(**before), edge_report(**now), 1.0)


def prompts(**fields: Any) -> dict[str, Any]:
    return {"prompts": PromptFigures(**fields)}


def stage(name: str, *counts: int, total_ms: float = 0.0) -> StageFigures:
    return StageFigures(name=name, counts=counts, total_ms=total_ms)


def cache(hits: int, misses: int) -> dict[str, Any]:
    return {"cache": CacheFigures(hits=hits, misses=misses)}


def test_the_hit_ratio_is_that_of_all_edges_lately() -> None:
    edges = [lately(cache(0, 100), cache(30, 100)), lately(cache(5, 5), cache(5, 15))]
    assert hit_ratio(edges) == 0.75
    assert hit_ratio([]) is UNSET
    assert hit_ratio([lately(cache(5, 5), cache(5, 5))]) is UNSET


def test_first_tokens_of_all_edges() -> None:
    edges = [lately(prompts(first_token=(9, 1)), prompts(first_token=(9, 5)))] * 2
    assert first_token_ms(edges, 0.5) == 3.0
    assert first_token_ms([], 0.5) is None


def test_a_stage_has_the_times_of_the_last_minute() -> None:
    before = prompts(stages=(stage("parse", 0, 100, total_ms=10),))
    now = prompts(stages=(stage("parse", 10, 100, total_ms=10.5),))
    found = stages([lately(before, now)])
    assert (found["parse"].count, found["parse"].mean_ms) == (110, 0.05)
    assert found["parse"].p99_ms <= 0.05


def test_a_stage_that_nobody_passed_lately_has_those_of_all_time() -> None:
    now = prompts(stages=(stage("parse", 0, 4, total_ms=0.4),))
    found = stages([lately(now, now)])
    assert (found["parse"].count, found["parse"].mean_ms) == (4, 0.1)
    assert 0.05 < found["parse"].p50_ms <= 0.1


def test_stages_are_in_the_order_in_which_requests_pass_them() -> None:
    one = prompts(stages=(stage("auth", 1), stage("parse", 1), stage("route", 1)))
    other = prompts(stages=(stage("auth", 1), stage("route", 1), stage("extra")))
    found = stages([lately(one, one), lately(other, other)])
    assert [(name, row.order) for name, row in found.items()] == [
        ("auth", 0),
        ("parse", 1),
        ("extra", 2),
        ("route", 3),
    ]
    assert (found["auth"].count, found["parse"].count, found["extra"].count) == (2, 1, 0)
    assert found["extra"].p99_ms == 0


def test_routes_are_added_up_and_the_most_come_first() -> None:
    one = edge_report(
        prompts=PromptFigures(
            routes=(
                RouteFigures(target="worker", reason="named", count=6),
                RouteFigures(target="cloud", reason="complexity", count=1),
            )
        )
    )
    other = edge_report(
        prompts=PromptFigures(routes=(RouteFigures(target="worker", reason="named", count=3),))
    )
    found = routes([one, other])
    assert list(found) == ["worker: named", "cloud: complexity"]
    assert (found["worker: named"].count, found["worker: named"].share) == (9, 0.9)
    assert routes([]) == {}


def test_routes_that_edges_make_up_are_bounded() -> None:
    edges = [
        edge_report(
            prompts=PromptFigures(
                routes=tuple(
                    RouteFigures(target="worker", reason=f"row {edge}-{n}", count=1)
                    for n in range(64)
                )
            )
        )
        for edge in range(4)
    ]
    assert len(routes(edges)) == MAX_ROUTES
