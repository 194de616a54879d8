"""The plot of accuracy against the share sent to the cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.benchmarks.hybrid.curves import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = Path("docs/figures/quality.svg")
STYLES = {
    "gate": ("#3aa76d", "-"),
    "classifier and gate": ("#1b6ca8", (0, (4, 4))),
    "classifier": ("#d98e04", "-"),
    "length": ("#a64d79", "-"),
}
"""Who chooses → colour and dashes, as the curves of gate and both nearly cover each other."""


@dataclass(frozen=True, slots=True)
class Point:
    """A single way of working: share and accuracy, 0..1."""

    label: str
    share: float
    accuracy: float


def draw(curves: Mapping[str, Curve], perfect: Curve, points: list[Point], file: Path) -> None:
    """All curves as SVG; the same figures give the same bytes."""
    import matplotlib as mpl  # heavy, and only drawn here
    from matplotlib.figure import Figure

    file.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context({"svg.hashsalt": "headwater", "font.size": 9}):
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        _line(axes, perfect, "perfect choice", color="#999999", linestyle=":")
        for name, curve in curves.items():
            color, style = STYLES[name]
            _line(axes, curve, name, color=color, linestyle=style, linewidth=1.8)
        ends = Curve((0.0, 1.0), (perfect.accuracies[0], perfect.accuracies[-1]))
        _line(axes, ends, "at random", color="#999999", linestyle="--")
        for point in points:
            at = (100 * point.share, 100 * point.accuracy)
            axes.plot(*at, marker="D", markersize=5, color="#333333", linestyle="none")
            axes.annotate(
                point.label, at, xytext=(8, -13), textcoords="offset points", color="#333333"
            )
        axes.annotate(
            "never", (0, 100 * ends.accuracies[0]), xytext=(6, -4), textcoords="offset points"
        )
        axes.annotate(
            "always", (100, 100 * ends.accuracies[1]), xytext=(-34, 5), textcoords="offset points"
        )
        axes.set(
            xlabel="sent to the cloud, % of questions (draft and verify: % of the cloud's tokens)",
            ylabel="right answers, %",
            xlim=(-2, 102),
            title="Demo models; half the questions are outside what the small one was taught",
        )
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", frameon=False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def _line(axes: Axes, curve: Curve, label: str, **style: Any) -> None:
    shares = [100 * share for share in curve.shares]
    axes.plot(shares, [100 * accuracy for accuracy in curve.accuracies], label=label, **style)
