"""From a question to an answer."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from infra.cost_view import BillView, Comparison
from infra.costing import Asked, Question, answer
from wire.errors import ConfigError

TODAY = date(2026, 11, 28)
EXAMPLE = Path(__file__).resolve().parents[2] / "infra/terraform/terraform.tfvars.example"


def compared(question: Question) -> Comparison:
    found = answer(question, TODAY, 0.0)
    assert isinstance(found, Comparison)
    return found


def test_requests_are_multiplied() -> None:
    found = compared(Question(asked=Asked(prompt="1k", output="200", requests="1M", per="day")))
    assert found.volume.prompt_tokens == pytest.approx(1e9 * 365 / 12)
    assert found.volume.output_tokens == pytest.approx(2e8 * 365 / 12)


def test_a_deployment_is_paid_beside_the_gpus() -> None:
    asked = Asked(prompt="1B", output="1M")
    without = compared(Question(asked=asked))
    beside = compared(Question(asked=asked, deployment=EXAMPLE))
    assert beside.bill is not None
    saved = without.cloud.per_month - without.ways[0].per_month
    assert saved - (beside.cloud.per_month - beside.ways[0].per_month) == pytest.approx(
        beside.bill.base
    )
    assert isinstance(answer(Question(deployment=EXAMPLE), TODAY, 0.0), BillView)


def test_own_speeds_need_no_example() -> None:
    asked = Asked(prompt="1B")
    (note,) = compared(Question(asked=asked)).notes
    assert "speeds" in note
    assert compared(Question(asked=asked, prompt_speed=900, output_speed=90)).notes == ()
    half = compared(Question(asked=asked, output_speed=90))
    assert (half.terms.prompt_per_s, half.terms.output_per_s) == (1_500, 90)
    with pytest.raises(ConfigError, match="--prompt-speed"):
        compared(Question(asked=asked, gpu="g6-dedicated-2"))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(), "say what is asked"),
        (Asked(page="http://a", prometheus="http://b"), "one of them"),
        (Asked(page="http://a", prompt="1B"), "not both"),
        (Asked(prompt="many"), "not a number of tokens"),
    ],
)
def test_what_is_no_question_is_refused(asked: Asked, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        answer(Question(asked=asked), TODAY, 0.0)
