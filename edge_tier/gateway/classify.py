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
from edge_tier.gateway.thresholds import Thresholds

_SHIPPED = load(resources.files(__package__).joinpath("complexity.json").read_bytes())
_THRESHOLDS = Thresholds(_SHIPPED.model.quantiles, _SHIPPED.model.recovered)


def classify(prompt: Prompt) -> Complexity:
    """Score a prompt with the model that this package ships."""
    return _SHIPPED.classify(prompt)


def threshold_for_local_share(share: float) -> float:
    """The score below which ``share`` of a reference mix of prompts lies.

    Raises:
        ConfigError: the share is not in 0..1.
    """
    return _THRESHOLDS.for_local_share(share)


def threshold_for_quality(quality: float) -> float:
    """The score from which the strong model must answer to recover ``quality`` of the gap between
    the local model (0) and the strong one (1), as measured on examination questions.

    Raises:
        ConfigError: the quality is not in 0..1.
    """
    return _THRESHOLDS.for_quality(quality)
