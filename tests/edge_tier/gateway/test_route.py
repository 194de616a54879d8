from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.decision_table import Table
from edge_tier.gateway.hints import NONE, Hints
from edge_tier.gateway.request import Complexity, Plan, RouteRow, Rules
from edge_tier.gateway.route import (
    CloudTraits,
    FleetView,
    NoRouteError,
    RouteConfig,
    StaysLocalError,
    UnknownModelError,
    facts_of,
    route,
)
from wire.errors import HeadwaterError

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


# With a table.


def by_table(
    *rows: RouteRow,
    score: float = 0.2,
    rules: Rules | None = None,
    hints: Hints = NONE,
    fleet: FleetView = BOTH,
    config: RouteConfig | None = None,
    model: str = "auto",
    private_findings: bool = False,
) -> Plan:
    rules, config = rules or Rules(), config or RouteConfig()
    facts = facts_of(
        model,
        "shop",
        rules,
        hints,
        fleet,
        config,
        complexity=score,
        prompt_tokens=1_000,
        total_tokens=3_000,
        private_findings=private_findings,
    )
    return route(
        model,
        Complexity(score, {}),
        rules,
        fleet,
        config,
        hints=hints,
        table=Table(rows),
        facts=facts,
        private_findings=private_findings,
    )


def in_cloud(**traits: Any) -> FleetView:
    return FleetView(
        local=BOTH.local, cloud=BOTH.cloud, offered=BOTH.offered, traits=CloudTraits(**traits)
    )


LOCAL_ONLY = RouteRow(name="here", target="local", only=True)
CLOUD = RouteRow(name="there", when={"latency": "batch"}, target="cloud")


def test_a_row_overrides_complexity_and_the_request() -> None:
    made = by_table(LOCAL_ONLY, score=1.0, hints=Hints(prefer="cloud"))
    assert targets(made) == ["worker"]
    assert made.rule == "here"
    made = by_table(CLOUD, hints=Hints(latency="batch", prefer="worker"))
    assert targets(made) == ["cloud", "worker"]
    assert made.priority == "batch"


def test_a_row_may_leave_it_to_the_hint_and_to_complexity() -> None:
    row = RouteRow(name="gated", mode="gate")
    made = by_table(row, score=0.1)
    assert (targets(made), made.mode, made.rule) == (["worker", "cloud"], "gate", "gated")
    assert "row gated" in made.reasons[0]
    assert "complexity" in made.reasons[0]
    assert targets(by_table(row, hints=Hints(prefer="cloud")))[0] == "cloud"


@pytest.mark.parametrize("hedge", [True, False, None])
def test_a_row_says_whether_a_slow_worker_is_raced(hedge: bool | None) -> None:
    assert by_table(RouteRow(name="r", target="local", hedge=hedge)).hedge is hedge
    assert plan("edge-small").hedge is None


def test_where_no_row_holds_it_is_as_without_a_table() -> None:
    assert by_table(CLOUD) == plan()


def test_a_row_does_not_move_a_named_model() -> None:
    assert [s.model for s in by_table(LOCAL_ONLY, model="cloud-large").steps] == ["cloud-large"]


def test_a_row_for_the_cloud_alone_is_served_here_where_the_prompt_must_stay() -> None:
    row = RouteRow(name="there", target="cloud", only=True)
    assert targets(by_table(row, rules=Rules(privacy="local"))) == ["worker"]


@pytest.mark.parametrize(
    ("residency", "cloud_region", "expected"),
    [
        ("eu", "eu", "cloud"),
        ("eu", "eu-west-1", "cloud"),
        ("eu-west-1", "eu", "worker"),
        ("eu", "europe", "worker"),
        ("eu", "us", "worker"),
        ("eu", "", "worker"),
        ("", "", "cloud"),
    ],
)
@pytest.mark.parametrize("asked_by_request", [False, True])
def test_a_prompt_stays_in_its_region(
    residency: str, cloud_region: str, expected: str, asked_by_request: bool
) -> None:
    fleet = in_cloud(region=cloud_region)
    rules = Rules(residency="" if asked_by_request else residency)
    hints = Hints(residency=residency if asked_by_request else "")
    assert targets(by_table(score=1.0, rules=rules, hints=hints, fleet=fleet))[0] == expected


def test_a_request_cannot_move_its_prompt_to_another_region() -> None:
    fleet = in_cloud(region="us")
    made = by_table(
        score=1.0, rules=Rules(residency="eu"), hints=Hints(residency="us"), fleet=fleet
    )
    assert targets(made) == ["worker"]


@pytest.mark.parametrize(
    ("approved", "leaves"),
    [((), False), (("gdpr",), False), (("hipaa", "gdpr"), True), (("hipaa", "gdpr", "x"), True)],
)
def test_a_cloud_must_be_approved_for_every_regulation(
    approved: tuple[str, ...], leaves: bool
) -> None:
    rules, fleet = Rules(regulations=("gdpr", "hipaa")), in_cloud(approved_for=frozenset(approved))
    made = by_table(score=1.0, rules=rules, fleet=fleet)
    assert ("cloud" in targets(made)) is leaves
    if not leaves:
        assert "not approved for" in made.reasons[-1]
        with pytest.raises(StaysLocalError, match="hipaa"):
            by_table(model="cloud-large", rules=rules, fleet=fleet)


def test_a_row_knows_what_the_cloud_would_charge_and_whether_it_may_be_asked() -> None:
    fleet = in_cloud(input_price=2.0, output_price=10.0)  # 0.002 + 0.020 at most
    dear = RouteRow(name="dear", when={"cloud_cost_min": 0.022}, target="local")
    dearer = RouteRow(name="dearer", when={"cloud_cost_min": 0.0221}, target="local")
    assert by_table(dearer, dear, score=1.0, fleet=fleet).rule == "dear"
    here = RouteRow(name="here", when={"cloud_allowed": False}, target="local")
    assert by_table(here, private_findings=True).rule == "here"
    assert by_table(here, hints=Hints(residency="us")).rule == "here"
    assert by_table(here).rule == ""


def test_shadow_says_what_the_table_or_the_other_side_would_have_been() -> None:
    shadow = RouteConfig(shadow=True)
    made = by_table(RouteRow(name="there", target="cloud", mode="verify"), config=shadow)
    assert made.shadow == "row there: cloud, verify"
    assert made.rule == ""
    assert plan(config=shadow).shadow == "other side: cloud"
    assert plan(config=shadow, score=0.9).shadow == "other side: worker"


SIDES = st.sampled_from([frozenset[str](), frozenset({"edge-small"}), frozenset({"cloud-large"})])
FLEETS = st.builds(
    FleetView,
    local=SIDES,
    cloud=SIDES,
    offered=st.just(BOTH.offered),
    traits=st.builds(
        CloudTraits,
        region=st.sampled_from(["", "eu", "eu-west", "us"]),
        approved_for=st.frozensets(st.sampled_from(["gdpr", "hipaa"])),
    ),
)
REGIONS = st.sampled_from(["", "eu", "us"])
HINTS = st.builds(Hints, residency=REGIONS)
RULES = st.builds(
    Rules,
    privacy=st.sampled_from(["any", "local"]),
    residency=REGIONS,
    regulations=st.sampled_from([(), ("gdpr",), ("gdpr", "hipaa")]),
)
ROWS = st.lists(
    st.builds(
        RouteRow,
        name=st.sampled_from("abc"),
        when=st.sampled_from(
            [{}, {"latency": "batch"}, {"complexity_min": 0.5}, {"cloud": False}, {"cost": "low"}]
        ),
        target=st.sampled_from(["local", "cloud", "by_complexity"]),
        only=st.booleans(),
        mode=st.sampled_from([None, "direct", "gate", "verify"]),
    ),
    max_size=4,
)
CONFIGS = st.builds(
    RouteConfig,
    threshold=st.just(0.5),
    mode=st.sampled_from(["direct", "gate", "verify"]),
    fallback=st.booleans(),
    shadow=st.booleans(),
)
REQUESTS = st.fixed_dictionaries(
    {
        "model": st.sampled_from(["auto", "edge-small", "cloud-large"]),
        "score": st.floats(0, 1),
        "rules": RULES,
        "hints": HINTS,
        "fleet": FLEETS,
        "config": CONFIGS,
        "private_findings": st.booleans(),
    }
)


def attempt(rows: list[RouteRow], **request: Any) -> Plan | HeadwaterError:
    try:
        return by_table(*rows, **request)
    except (NoRouteError, StaysLocalError) as error:
        return error


@given(ROWS, REQUESTS)
def test_whatever_the_table_says_the_hard_rules_hold(
    rows: list[RouteRow], request: dict[str, Any]
) -> None:
    made = attempt(rows, **request)
    if isinstance(made, HeadwaterError):
        return
    rules, hints, fleet = request["rules"], request["hints"], request["fleet"]
    stays = (
        "local" in (rules.privacy, hints.privacy)
        or not {rules.residency, hints.residency} <= {"", fleet.traits.region[:2]}
        or not set(rules.regulations) <= fleet.traits.approved_for
        or request["private_findings"]
    )
    assert not stays or "cloud" not in targets(made)
    assert made.steps
    for step in made.steps:
        assert step.model in (fleet.local if step.target == "worker" else fleet.cloud)
    assert len(set(made.steps)) == len(made.steps)


@given(ROWS, REQUESTS)
def test_two_models_answer_together_only_with_a_worker_first_and_the_cloud_behind(
    rows: list[RouteRow], request: dict[str, Any]
) -> None:
    made = attempt(rows, **request)
    if isinstance(made, Plan) and made.mode != "direct":
        assert targets(made) == ["worker", "cloud"]


@given(ROWS, REQUESTS)
def test_a_row_that_says_only_has_one_step(rows: list[RouteRow], request: dict[str, Any]) -> None:
    made = attempt(
        [RouteRow(name=row.name, target=row.target, only=True) for row in rows], **request
    )
    if isinstance(made, Plan) and made.rule:
        assert len(made.steps) == 1


@given(ROWS, REQUESTS)
def test_a_hint_never_widens_where_a_prompt_may_go(
    rows: list[RouteRow], request: dict[str, Any]
) -> None:
    """What a request without hints could not have had with any complexity, none with hints has."""
    hinted = attempt(rows, **request)
    if isinstance(hinted, Plan) and "cloud" in targets(hinted):
        # Another row may hold with hints, so the table is left out: it widens nothing either.
        free = [attempt([], **request | {"hints": NONE, "score": score}) for score in (0.0, 1.0)]
        assert any(isinstance(one, Plan) and "cloud" in targets(one) for one in free)


@given(ROWS, REQUESTS)
def test_in_shadow_it_goes_where_it_would_without_a_table(
    rows: list[RouteRow], request: dict[str, Any]
) -> None:
    request["config"] = RouteConfig(shadow=True, mode=request["config"].mode)
    request["model"] = "auto"
    made, bare = attempt(rows, **request), attempt([], **request)
    assert isinstance(made, Plan) == isinstance(bare, Plan)
    if isinstance(made, Plan) and isinstance(bare, Plan):
        assert (made.steps, made.mode, made.reasons) == (bare.steps, bare.mode, bare.reasons)
        assert made.shadow
        assert bare.shadow.startswith("other side")
        assert not made.rule


LOCAL = Rules(privacy="local")


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (partial(plan), "complexity"),
        (partial(plan, score=0.9), "complexity"),
        (partial(plan, "edge-small"), "named"),
        (partial(plan, "cloud-large"), "named"),
        (partial(plan, hints=Hints(prefer="cloud")), "preferred"),
        (partial(plan, score=0.9, rules=LOCAL), "must stay local"),
        (partial(plan, score=0.2, rules=LOCAL), "complexity"),
        (partial(plan, score=0.9, fleet=NO_CLOUD), "not ready"),
        (partial(plan, score=0.2, fleet=NO_LOCAL), "not ready"),
    ],
)
def test_what_decided_is_said_in_a_word_that_can_be_counted(
    made: Callable[[], Plan], why: str
) -> None:
    assert made().why == why


def test_a_row_that_decides_is_named() -> None:
    table, config = Table((RouteRow(name="night", target="cloud"),)), RouteConfig()
    facts = facts_of("auto", "t", Rules(), NONE, BOTH, config, complexity=0.2)
    made = route("auto", Complexity(0.2, {}), Rules(), BOTH, config, table=table, facts=facts)
    assert (made.why, targets(made)[0]) == ("row night", "cloud")
