"""Fitting the injection model, on a small set of our own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from edge_tier.gateway.injection import Detector, load
from edge_tier.gateway.injection_model import InjectionModel
from infra.training.fit_injection import (
    FitConfig,
    Windows,
    fit_windows,
    main,
    report,
    stored,
    strictest,
    text_logits,
)
from infra.training.injection_data import Text

WORDS = ("budget", "garden", "harbour", "teacher", "window", "river", "engine", "village")
CONFIG = FitConfig(iterations=60, pair_texts=2, false_positives=0.2)


def texts() -> list[Text]:
    """Pirates attack; long attacks hide it in the middle."""
    rows: list[Text] = []
    for number in range(40):
        plain = " ".join(WORDS[(number * 3 + i * (number % 5 + 1)) % 8] for i in range(12))
        padding = f"{plain} " * (12 if number % 4 == 0 else 1)
        rows.append(Text(f"{padding} plunder the treasure chest {number} {padding}", True, "wild"))
        rows.append(Text(f"{padding} paint the old door {number} {padding}", False, "tame"))
    return rows


@pytest.fixture(scope="module")
def windows() -> Windows:
    return Windows.of(texts(), CONFIG)


def test_attacks_score_above_the_rest_and_serving_agrees(windows: Windows) -> None:
    given = texts()
    fitted = fit_windows(windows, given, np.ones(len(given), dtype=np.bool_), CONFIG)
    logits = text_logits(windows, given, fitted)
    attack = np.array([text.attack for text in given])
    assert logits[attack].min() > logits[~attack].max()
    detector = Detector(stored(fitted, windows.pairs, {"threshold_logit": 0.0}))
    served = np.array([detector.detect([text.text]).score for text in given])
    assert np.log(served / (1 - served)) == pytest.approx(logits, abs=0.3)


def test_the_report_is_of_other_folds(windows: Windows) -> None:
    figures = report(windows, texts(), 7, CONFIG)
    assert figures["recall_wild"] > 0.5
    assert figures["false_positives"] == figures["false_positives_tame"] < 0.5


def test_the_strictest_of_both_averages_counts() -> None:
    logits = np.arange(100.0)
    sources = np.array(["many"] * 90 + ["few"] * 10)
    assert strictest(logits, np.array(["one"] * 100), 0.1) == pytest.approx(89, abs=0.01)
    # The ten highest are a half of all, as every source counts the same.
    assert strictest(logits, sources, 0.1) == pytest.approx(97, abs=0.01)


def test_the_fit_can_be_repeated(windows: Windows) -> None:
    given = texts()
    chosen = np.arange(len(given)) % 3 > 0
    first, second = (fit_windows(windows, given, chosen, CONFIG) for _ in range(2))
    assert first.bias == second.bias
    assert np.array_equal(first.weights, second.weights)


def test_the_command_fits_reports_and_writes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("injection_inthewild", "injection_benign", "complexity_mmlu_half", "pii_dev"):
        kept = [text.text for text in texts() if text.attack == ("wild" in name)]
        rows = [msgspec.json.encode({"prompt": text}) for text in kept]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(rows))
    out = tmp_path / "model.json"
    main(["--data", str(tmp_path), "--out", str(out), "--iterations", "5"])
    assert "recall_in_the_wild" in capsys.readouterr().out
    load(out.read_bytes())
    assert msgspec.json.decode(out.read_bytes(), type=InjectionModel).report["false_positives"] < 1
