from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.decision_table import CONDITIONS, Facts, Table
from edge_tier.gateway.request import RouteRow
from wire.errors import ConfigError

Value = str | float | bool | tuple[str, ...]

HOLDS: dict[str, tuple[Value, Facts, Facts]] = {
    "latency": ("batch", Facts(latency="batch"), Facts()),
    "quality": (("draft", "high"), Facts(quality="high"), Facts()),
    "cost": ("low", Facts(cost="low"), Facts()),
    "privacy": ("local", Facts(privacy="local"), Facts()),
    "residency": ("eu", Facts(residency="eu"), Facts(residency="us")),
    "regulation": ("gdpr", Facts(regulations=frozenset({"gdpr", "x"})), Facts()),
    "cloud_region": ("eu", Facts(cloud_region="eu"), Facts()),
    "kind": ("embedding", Facts(kind="embedding"), Facts()),
    "model": (("auto", "fast"), Facts(model="fast"), Facts(model="other")),
    "tenant": ("shop", Facts(tenant="shop"), Facts(tenant="shops")),
    "cloud": (False, Facts(cloud_ready=False), Facts()),
    "cloud_allowed": (False, Facts(cloud_allowed=False), Facts()),
    "local": (True, Facts(), Facts(local_ready=False)),
    "findings": (
        ("email", "personal"),
        Facts(findings=frozenset({"personal", "iban"})),
        Facts(findings=frozenset({"iban"})),
    ),
    "complexity_min": (0.5, Facts(complexity=0.5), Facts(complexity=0.49)),
    "complexity_max": (0.5, Facts(complexity=0.49), Facts(complexity=0.5)),
    "prompt_tokens_min": (10, Facts(prompt_tokens=10), Facts(prompt_tokens=9)),
    "prompt_tokens_max": (10, Facts(prompt_tokens=9), Facts(prompt_tokens=10)),
    "volume_min": (10, Facts(total_tokens=10), Facts(total_tokens=9)),
    "volume_max": (10, Facts(total_tokens=9), Facts(total_tokens=10)),
    "cloud_cost_min": (0.01, Facts(cloud_cost=0.01), Facts()),
    "cloud_cost_max": (0.01, Facts(), Facts(cloud_cost=0.01)),
    "budget_used_min": (0.9, Facts(budget_used=0.95), Facts()),
    "budget_used_max": (0.9, Facts(), Facts(budget_used=0.9)),
    "load_min": (2, Facts(load=2.0), Facts(load=1.9)),
    "load_max": (2, Facts(load=1.9), Facts(load=2.0)),
    "wait_min_s": (1.5, Facts(wait_s=1.5), Facts(wait_s=1.4)),
    "wait_max_s": (1.5, Facts(wait_s=1.4), Facts(wait_s=1.5)),
}


def row(name: Any = "r", **when: Value) -> RouteRow:
    return RouteRow(name=name, when=when)


def test_every_condition_has_an_example_here() -> None:
    assert HOLDS.keys() == CONDITIONS.keys()


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_holds_where_it_should_and_only_there(name: str) -> None:
    value, holds, fails = HOLDS[name]
    table = Table([row(**{name: value})])
    assert table.decide(holds) is table.rows[0]
    assert table.decide(fails) is None
    assert [tried.failed for tried in table.explain(fails)] == [name]


def test_all_conditions_of_a_row_must_hold_and_the_first_row_decides() -> None:
    table = Table(
        [row("both", latency="batch", cost="low"), row("one", latency="batch"), row("rest")]
    )
    for facts, name in (
        (Facts(latency="batch", cost="low"), "both"),
        (Facts(latency="batch"), "one"),
        (Facts(cost="low"), "rest"),
    ):
        decided = table.decide(facts)
        assert decided is not None
        assert decided.name == name


def test_the_explanation_ends_at_the_row_that_decides() -> None:
    table = Table([row("a", cost="low"), row("b"), row("c")])
    assert [(t.row.name, t.failed) for t in table.explain(Facts())] == [("a", "cost"), ("b", "")]


def test_an_empty_table_decides_nothing() -> None:
    assert not Table()
    assert Table().decide(Facts()) is None
    assert Table().explain(Facts()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("latencyy", "batch"),
        ("latency", "soon"),
        ("latency", ("batch", "soon")),
        ("latency", True),
        ("latency", ()),
        ("tenant", 3),
        ("findings", ()),
        ("cloud", "yes"),
        ("cloud", 1),
        ("complexity_min", "0.5"),
        ("complexity_min", True),
        ("complexity_min", float("nan")),
        ("volume_max", float("inf")),
    ],
)
def test_what_cannot_hold_is_refused_by_row_and_condition(name: str, value: Value) -> None:
    with pytest.raises(ConfigError) as caught:
        Table([row("night", **{name: value})])
    assert "'night'" in caught.value.message
    assert name in caught.value.message


@st.composite
def rows(draw: st.DrawFn) -> RouteRow:
    names = draw(st.lists(st.sampled_from(sorted(HOLDS)), max_size=4, unique=True))
    return row(draw(st.sampled_from("abc")), **{name: HOLDS[name][0] for name in names})


FACTS = st.sampled_from([facts for _, *both in HOLDS.values() for facts in both])


@given(st.lists(rows(), max_size=6), FACTS)
def test_explaining_and_deciding_agree(made: list[RouteRow], facts: Facts) -> None:
    table = Table(made)
    tried: list[Any] = table.explain(facts)
    decided = table.decide(facts)
    assert [one.row for one in tried] == made[: len(tried)]
    if decided is None:
        assert len(tried) == len(made)
        assert all(one.failed for one in tried)
    else:
        assert tried[-1].row is decided
        assert [bool(one.failed) for one in tried] == [True] * (len(tried) - 1) + [False]
