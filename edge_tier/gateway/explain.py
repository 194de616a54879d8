"""Why a request goes where it goes, in one line for a header and a terminal. Pure."""

from __future__ import annotations

from edge_tier.gateway.complexity_model import BIAS
from edge_tier.gateway.request import Complexity, Plan

MAX_EXPLANATION_CHARS = 1_024
_TOP = 3
_CUT = "..."


def explanation(plan: Plan, complexity: Complexity, confidence: float | None = None) -> str:
    """The plan's reasons, its row and mode, and what weighed most in the complexity.

    Printable ASCII (what else a name holds is ``?``) and at most ``MAX_EXPLANATION_CHARS``.

    Args:
        confidence: of the gate in the local answer, where it was asked.
    """
    parts = list(plan.reasons)
    if plan.rule and not any(reason.startswith(f"row {plan.rule}") for reason in plan.reasons):
        parts.append(f"rule {plan.rule}")
    if plan.mode != "direct":
        parts.append(f"mode {plan.mode}")
    if plan.shadow:
        parts.append(f"shadow {plan.shadow}")
    if confidence is not None:
        parts.append(f"confidence {confidence:.2f}")
    if weighed := weightiest(complexity):
        shares = ", ".join(f"{name} {value:+.2f}" for name, value in weighed)
        score = f"complexity {complexity.score:.2f}"
        said = any(score in reason for reason in plan.reasons)
        parts.append(f"weighed {shares}" if said else f"{score} of {shares}")
    text = "; ".join(parts)
    if not (text.isascii() and text.isprintable()):
        text = "".join(c if " " <= c <= "~" else "?" for c in text)
    if len(text) <= MAX_EXPLANATION_CHARS:
        return text
    return text[: MAX_EXPLANATION_CHARS - len(_CUT)] + _CUT


def weightiest(complexity: Complexity) -> list[tuple[str, float]]:
    """What of the prompt moved its score most, weightiest first; positive: harder."""
    parts = [(name, value) for name, value in complexity.contributions.items() if name != BIAS]
    return sorted(parts, key=lambda part: -abs(part[1]))[:_TOP]
