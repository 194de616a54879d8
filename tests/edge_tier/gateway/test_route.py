from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from edge_tier.gateway.hints import Hints
from edge_tier.gateway.request import Complexity, Plan, Rules
from edge_tier.gateway.route import (
    FleetView,
    NoRouteError,
    RouteConfig,
    StaysLocalError,
    UnknownModelError,
    route,
)

BOTH = FleetView(
    local=frozenset({"edge-small"}),
    cloud=frozenset({"cloud-large"}),
    offered=frozenset({"edge-small", "cloud-large"}),
)
NO_CLOUD = FleetView(local=BOTH.local, cloud=frozenset(), offered=BOTH.offered)
NOTHING = FleetView(local=frozenset(), cloud=frozenset(), offered=BOTH.offered)
NO_LOCAL = FleetView(local=frozenset(), cloud=BOTH.cloud, offered=BOTH.offered)


def plan(
    model: str = "auto",
    score: float = 0.2,
    *,
    rules: Rules | None = None,
    hints: Hints | None = None,
    fleet: FleetView = BOTH,
    config: RouteConfig | None = None,
    private_findings: bool = False,
) -> Plan:
    return route(
        model,
        Complexity(score, {}),
        rules or Rules(),
        fleet,
        config or RouteConfig(),
        hints=hints or Hints(),
        private_findings=private_findings,
    )


def targets(made: Plan) -> list[str]:
    return [step.target for step in made.steps]


@pytest.mark.parametrize(
    ("score", "expected"), [(0.0, "worker"), (0.49, "worker"), (0.5, "cloud"), (1.0, "cloud")]
)
def test_auto_follows_complexity_and_falls_back_to_the_other(score: float, expected: str) -> None:
    made = plan(score=score)
    assert targets(made)[0] == expected
    assert len(made.steps) == 2
    assert "complexity" in made.reasons[0]


def test_without_fallback_there_is_one_step() -> None:
    assert targets(plan(config=RouteConfig(fallback=False))) == ["worker"]


def test_a_named_model_is_that_model() -> None:
    assert [s.model for s in plan("cloud-large", 0.0).steps] == ["cloud-large"]
    assert [s.model for s in plan("edge-small", 1.0).steps] == ["edge-small"]


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(UnknownModelError):
        plan("gpt-17")


STAYS: list[Callable[..., Plan]] = [
    partial(plan, rules=Rules(privacy="local")),
    partial(plan, hints=Hints(privacy="local")),
    partial(plan, private_findings=True),
]


@pytest.mark.parametrize("make", STAYS)
def test_what_must_stay_never_has_a_cloud_step(make: Callable[..., Plan]) -> None:
    assert targets(make(score=1.0)) == ["worker"]
    with pytest.raises(NoRouteError):
        make(score=1.0, fleet=NOTHING)
    with pytest.raises(StaysLocalError):
        make("cloud-large")


@pytest.mark.parametrize(
    ("fleet", "score", "expected"), [(NO_CLOUD, 1.0, "worker"), (NO_LOCAL, 0.0, "cloud")]
)
def test_what_is_not_ready_is_passed_over_and_said(
    fleet: FleetView, score: float, expected: str
) -> None:
    made = plan(score=score, fleet=fleet)
    assert targets(made) == [expected]
    assert any("not ready" in reason for reason in made.reasons)


def test_nothing_ready_says_when_to_retry() -> None:
    with pytest.raises(NoRouteError) as caught:
        plan(fleet=NOTHING)
    assert int(caught.value.headers["Retry-After"]) > 0


def test_a_hint_overrides_complexity_but_not_privacy() -> None:
    assert targets(plan(score=0.0, hints=Hints(prefer="cloud")))[0] == "cloud"
    assert targets(plan(hints=Hints(prefer="cloud", privacy="local"))) == ["worker"]
