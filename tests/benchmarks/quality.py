"""``bench quality``: how many answers are right for how much of the cloud, on the demo models.

Half of the questions are inside and half outside what the small model was taught, none about a fact
that the calibration was fitted on. Both models answer all of them once, greedily; then every way of
choosing is played through the edge's own classifier, gate and verifier. Nothing in it is timed, so
every run on the same machine gives the same figures.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np

from edge_tier.gateway.calibration import Calibrator, shipped
from edge_tier.gateway.classify import classify
from edge_tier.gateway.gate import GateConfig, Gates
from edge_tier.gateway.route import RouteConfig
from edge_tier.gateway.verify import VerifyConfig
from infra.training.isotonic import auroc, calibration_error
from tests.benchmarks.hybrid import figure
from tests.benchmarks.hybrid.answers import Pair, collect, gated, verified
from tests.benchmarks.hybrid.curves import Curve, curve
from tests.benchmarks.hybrid.figure import Point
from tests.benchmarks.results import FOLDER, Machine, Row, report

SEED = 11
TARGETS = (0.5, 0.7, 0.9)
SHARES = (0.2, 0.5)


def choices(pairs: list[Pair], calibrator: Calibrator) -> dict[str, Curve]:
    """The curve of every way to choose, by its name."""
    length = [float(len(pair.question.text)) for pair in pairs]
    complexity = [classify(pair.prompt).score for pair in pairs]
    doubt = [-calibrator.score(pair.local.logprobs) for pair in pairs]
    # As the router has it: what the classifier sends is never drafted; the gate sees the rest.
    most = max(doubt) + 1
    both = [
        most + hard if hard >= RouteConfig().threshold else unsure
        for hard, unsure in zip(complexity, doubt, strict=True)
    ]
    urgencies = {
        "gate": doubt,
        "classifier and gate": both,
        "classifier": complexity,
        "length": length,
    }
    return {name: _curve(pairs, urgency) for name, urgency in urgencies.items()}


def perfect(pairs: list[Pair]) -> Curve:
    """Somebody who knows who is right."""
    gain = [pair.right(pair.cloud.text) - pair.right(pair.local.text) for pair in pairs]
    return _curve(pairs, [float(value) for value in gain])


def _undrafted(pairs: list[Pair]) -> float:
    """What the classifier sends at once, so that no draft is made in vain."""
    threshold = RouteConfig().threshold
    return sum(classify(pair.prompt).score >= threshold for pair in pairs) / len(pairs)


def _curve(pairs: list[Pair], urgency: list[float]) -> Curve:
    local = [pair.right(pair.local.text) for pair in pairs]
    return curve(urgency, local, [pair.right(pair.cloud.text) for pair in pairs])


def _row(name: str, value: float, unit: str = "%") -> Row:
    return Row(name=name, unit=unit, runs=[100 * value if unit == "%" else value])


def _curve_rows(name: str, found: Curve, length: Curve) -> list[Row]:
    rows = []
    for share in SHARES:
        rows.append(
            Row(
                name=f"{name}: gap recovered at {share:.0%} sent",
                unit="%",
                runs=[100 * found.recovered(share)],
                peer="" if found is length else "length",
                peer_runs=[] if found is length else [100 * length.recovered(share)],
            )
        )
        rows.append(_row(f"{name}: accuracy at {share:.0%} sent", found.at(share)))
    rows.append(_row(f"{name}: mean gap recovered over all shares", found.area))
    worst = found.accuracies[-1] - 0.1 * (found.accuracies[-1] - found.accuracies[0])
    rows.append(_row(f"{name}: sent for 90% of the gap", found.share_for(worst)))
    return rows


def _gate_rows(pairs: list[Pair]) -> tuple[list[Row], list[Point]]:
    """The gate itself, over streams, at several targets."""
    rows, points = [], []
    for target in TARGETS:
        gates = Gates(GateConfig(min_chance=target), shipped())
        played = [gated(pair, gates) for pair in pairs]
        sent = [
            gate.spent(0).completion_tokens for gate, _ in played if gate.decision == "escalate"
        ]
        share = len(sent) / len(pairs)
        right = sum(pair.right(text) for pair, (_, text) in zip(pairs, played, strict=True))
        name = f"gate at P(right) ≥ {target}"
        rows += [
            _row(f"{name}: sent", share),
            _row(f"{name}: accuracy", right / len(pairs)),
            _row(f"{name}: local tokens per escalation", float(np.mean(sent or [0])), "tokens"),
        ]
        if target == GateConfig().min_chance:
            points.append(Point(f"gate's default, P ≥ {target}", share, right / len(pairs)))
    return rows, points


def _verify_rows(pairs: list[Pair]) -> tuple[list[Row], Point]:
    config = VerifyConfig()
    played = [verified(pair, config) for pair in pairs]
    outcomes = Counter(one.outcome for one in played)
    whole = sum(len(pair.cloud.tokens) for pair in pairs)
    share = sum(one.spent.cloud_tokens for one in played) / whole
    right = sum(pair.right(one.text) for pair, one in zip(pairs, played, strict=True))
    rows = [
        _row("draft and verify: cloud's tokens, of always", share),
        _row("draft and verify: accuracy", right / len(pairs)),
        *(
            _row(f"draft and verify: {outcome}", outcomes[outcome] / len(pairs))
            for outcome in ("accepted", "corrected", "replaced")
        ),
    ]
    return rows, Point("draft and verify", share, right / len(pairs))


def measure(each: int, plot: Path) -> list[Row]:
    """Every figure, and the plot."""
    pairs = collect(each, SEED)
    calibrator = shipped()["edge-small"]
    curves = choices(pairs, calibrator)
    best = perfect(pairs)
    right = np.array([float(pair.right(pair.local.text)) for pair in pairs])
    chances = np.array([calibrator.chance(pair.local.logprobs) for pair in pairs])
    gate_rows, points = _gate_rows(pairs)
    verify_rows, verify_point = _verify_rows(pairs)
    figure.draw(curves, best, [*points, verify_point], plot)
    return [
        _row("questions", float(len(pairs)), ""),
        _row("never: accuracy", best.accuracies[0]),
        _row("always: accuracy", best.accuracies[-1]),
        *(
            row
            for name, found in curves.items()
            for row in _curve_rows(name, found, curves["length"])
        ),
        *(
            _row(f"perfect choice: gap recovered at {s:.0%} sent", best.recovered(s))
            for s in SHARES
        ),
        _row("classifier and gate: sent without a draft", _undrafted(pairs)),
        *gate_rows,
        *verify_rows,
        _row("calibration: ECE", calibration_error(chances, right), ""),
        _row("calibration: AUROC", auroc(chances, right), ""),
    ]


def main(*, quick: bool = False) -> None:
    """Measure and report."""
    machine, started = Machine(), time.monotonic()
    rows = measure(60, FOLDER / "quality.svg") if quick else measure(300, figure.FILE)
    print(f"{report('quality', rows, machine)}, {time.monotonic() - started:.0f} s")
