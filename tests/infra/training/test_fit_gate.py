"""The fit of the gate's calibration, on made-up answers and, small, on the demo model itself."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from edge_tier.gateway.calibration import Calibrator, load, shipped
from infra.demo_models.engine import Answer
from infra.training.fit_gate import Asked, calibrate, chances, main, report
from infra.training.gate_questions import Question


def asked(count: int, seed: int) -> Asked:
    """Answers that are right the more often, the surer their first tokens are."""
    rng = random.Random(seed)
    questions, answers = [], []
    for number in range(count):
        least = -4 * rng.random()
        right = rng.random() < np.exp(least)
        questions.append(Question(f"q{number}", "yes", f"g{number % 7}", True, None))
        answers.append(Answer("yes" if right else "no", (-0.01, least, -0.02), "stop"))
    return Asked(questions, answers)


def test_the_chances_come_true_on_answers_not_fitted_on() -> None:
    fitted, held_out = asked(2_000, 1), asked(2_000, 2)
    found = report(calibrate(fitted, 3), fitted, held_out, asked(2_000, 4))
    assert found["ece_held_out"] < 0.05
    assert found["ece_next_revision"] < 0.05
    assert found["ece_unseen_groups"] < 0.05
    assert found["auroc_held_out"] > 0.75
    assert found["right_of_passed"] > 0.7


def test_surer_answers_have_better_chances() -> None:
    calibration = calibrate(asked(500, 3), 3)
    given = chances(calibration, [Answer("", (-0.01, x), "stop") for x in (-4.0, -1.0, -0.1)])
    assert given[0] < given[1] < given[2]
    assert all(weight > 0 for weight in calibration.weights.values())


def test_what_is_written_can_be_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "gate.json"
    main(["--out", str(file), "--each", "12", "--tokens", "4"])
    found = load(file.read_bytes())["edge-small"]
    assert isinstance(found, Calibrator)
    assert found.tokens == 4
    assert "ece_held_out" in capsys.readouterr().out


def test_the_shipped_calibration_is_of_the_served_model() -> None:
    assert set(shipped()) == {"edge-small"}
