"""The data of the complexity model as arrays: examination questions and our own seed prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_tier.gateway.complexity_model import CLIP
from edge_tier.gateway.features import BUCKETS, DENSE, Chunks, extract
from edge_tier.gateway.options import OPTIONS
from infra.training.logistic import Floats
from infra.training.seed_prompts import SeedPrompt

Rows = NDArray[np.intp]
_LEAST_SCALE = 1e-3


class Question(msgspec.Struct, frozen=True):
    """A row of the data: whether a weak and a strong model answered it right."""

    subject: str
    prompt: str
    weak_correct: bool
    strong_correct: bool


@dataclass(frozen=True, slots=True)
class Examples:
    """Features and labels. Shapes: ``dense`` (rows, dense), ``hashed`` (rows, buckets)."""

    dense: Floats
    hashed: Floats
    label: Floats
    """1 where the strong model is worth its price."""
    missed: Floats
    """1 where the weak model is wrong, whatever the strong one says."""
    subject: Rows
    """Numbers of the subjects."""

    def rows(self, chosen: Rows) -> Examples:
        return Examples(
            self.dense[chosen],
            self.hashed[chosen],
            self.label[chosen],
            self.missed[chosen],
            self.subject[chosen],
        )


@dataclass(frozen=True, slots=True)
class Scaling:
    """Means and scales of the dense features, taken from the examination questions."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, examples: Examples) -> Scaling:
        scale = examples.dense.std(axis=0)
        # A feature that never varies says nothing; any scale will do.
        return cls(examples.dense.mean(axis=0), np.where(scale < _LEAST_SCALE, 1.0, scale))

    def columns(self, examples: Examples, names: Sequence[str]) -> Floats:
        """The named dense features, scaled and clipped as when serving; 0 what is not there."""
        chosen = [DENSE.index(name) for name in names]
        values = examples.dense[:, chosen]
        absent = (values == 0) & np.isin(names, OPTIONS)
        scaled = np.clip((values - self.mean[chosen]) / self.scale[chosen], *CLIP)
        return np.where(absent, 0.0, scaled)


@dataclass(frozen=True, slots=True)
class Corpus:
    """All that a model is fitted on, as read and as arrays of the same order."""

    questions: Sequence[Question]
    prompts: Sequence[SeedPrompt]
    examples: Examples
    seeds: Examples

    @classmethod
    def of(cls, questions: Sequence[Question], prompts: Sequence[SeedPrompt]) -> Corpus:
        """Extract the features.

        A question is positive where it is worth the strong model, because that was right and the
        weak one wrong; a seed prompt where it is complex.
        """
        worth = [q.strong_correct and not q.weak_correct for q in questions]
        missed = [not q.weak_correct for q in questions]
        subjects = np.unique([q.subject for q in questions], return_inverse=True)[1]
        examples = _examples([q.prompt for q in questions], worth, missed, subjects)
        hard = [p.is_complex for p in prompts]
        none = np.zeros(len(prompts), dtype=np.intp)
        seeds = _examples([p.text for p in prompts], hard, hard, none)
        return cls(questions, prompts, examples, seeds)


def read_questions(path: Path) -> list[Question]:
    """Read JSON lines. Raises ``OSError`` and ``msgspec.ValidationError``."""
    decode = msgspec.json.Decoder(Question).decode
    return [decode(line) for line in path.read_bytes().splitlines() if line]


def _examples(
    texts: Sequence[str], labels: Sequence[bool], missed: Sequence[bool], subject: Rows
) -> Examples:
    dense = np.zeros((len(texts), len(DENSE)))
    hashed = np.zeros((len(texts), BUCKETS))
    known = Chunks()
    for row, text in enumerate(texts):
        features = extract(text, known)
        dense[row] = features.dense
        hashed[row, list(features.hashed)] = features.hashed_value
    label, wrong = np.array(labels, dtype=np.float64), np.array(missed, dtype=np.float64)
    return Examples(dense, hashed, label, wrong, subject)
