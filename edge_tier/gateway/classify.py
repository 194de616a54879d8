"""The classify stage: how hard a prompt looks.

The weights are fitted by ``infra.training.fit_complexity`` and shipped as ``complexity.json``,
which also says how well they did. A score of 0.5 is the boundary between a short question for a
fact and a request to reason, explain or design; of multiple-choice questions the hardest fifth lies
above it.
"""

from __future__ import annotations

from importlib import resources

from edge_tier.gateway.complexity_model import load
from edge_tier.gateway.request import Complexity, Prompt

_SHIPPED = load(resources.files(__package__).joinpath("complexity.json").read_bytes())


def classify(prompt: Prompt) -> Complexity:
    """Score a prompt with the model that this package ships."""
    return _SHIPPED.classify(prompt)
