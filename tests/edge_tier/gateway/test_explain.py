from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.explain import MAX_EXPLANATION_CHARS, explanation, weightiest
from edge_tier.gateway.request import Complexity, Plan, Step

STEPS = (Step(target="worker", model="edge-small"),)
SCORED = Complexity(
    0.42, {"bias": -2.0, "wording": 0.25, "words": -0.75, "math": 0.5, "code": 0.125}
)


def test_all_that_decided_is_said() -> None:
    plan = Plan(
        steps=STEPS,
        reasons=("row nights: complexity 0.42 < 0.50", "cloud x is not ready"),
        mode="gate",
        rule="nights",
        shadow="other side: cloud",
    )
    assert explanation(plan, SCORED, 0.875) == (
        "row nights: complexity 0.42 < 0.50; cloud x is not ready; mode gate; "
        "shadow other side: cloud; confidence 0.88; weighed words -0.75, math +0.50, wording +0.25"
    )


def test_what_no_reason_names_is_named() -> None:
    plan = Plan(steps=STEPS, reasons=("the cloud is down",), rule="nights")
    assert explanation(plan, SCORED).startswith(
        "the cloud is down; rule nights; complexity 0.42 of words -0.75"
    )


def test_nothing_is_said_of_what_was_not_there() -> None:
    plan = Plan(steps=STEPS, reasons=("model edge-small was named",))
    assert explanation(plan, Complexity(0.1, {"bias": -2.0})) == "model edge-small was named"


def test_the_weightiest_come_first_and_the_bias_is_none_of_the_prompts() -> None:
    assert [name for name, _ in weightiest(SCORED)] == ["words", "math", "wording"]


@given(st.lists(st.text(max_size=400), max_size=8), st.text(), st.floats(0, 1) | st.none())
def test_it_always_fits_a_header(reasons: list[str], rule: str, confidence: float | None) -> None:
    text = explanation(Plan(steps=STEPS, reasons=tuple(reasons), rule=rule), SCORED, confidence)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) <= MAX_EXPLANATION_CHARS
