"""The injection stage: does a prompt try to talk the model out of its instructions?

A linear model over words, pairs of words and n-grams of characters, plus rules
(``injection_rules``). The weights are fitted by ``infra.training.fit_injection`` and shipped as
``injection.json``, which also says how well they did. A long text is examined in slices, and the
worst window of all counts; so the time is proportional to the length, no single call of C code
holds the interpreter long, and an attack behind a megabyte of padding is still seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from math import exp

import msgspec

from edge_tier.gateway.injection_model import InjectionModel, Scorer, words_of
from edge_tier.gateway.injection_rules import RuleSet
from wire.errors import ConfigError

SLICE_CHARS = 16_384
"""A slice takes a millisecond or so; 7 ms where every word is a new one."""
OVERLAP_CHARS = 512
"""What a slice repeats of the one before: an attack on the border lies whole in one of them."""
_TOP = 6
_MAX_LOGIT = 30.0


class Injection(msgspec.Struct, frozen=True):
    """How much a prompt looks like an attack. ``score`` is in 0..1.

    Only a flagged prompt says by what: ``contributions`` holds the weightiest words and pairs of
    its worst window, and the rules, as shares of the logit.
    """

    score: float
    flagged: bool
    rules: tuple[str, ...] = ()
    contributions: dict[str, float] = {}


class Detector:
    """Examines texts with one model.

    Raises:
        ConfigError: the model was fitted for other features.
    """

    def __init__(self, model: InjectionModel) -> None:
        self.threshold = model.threshold
        self._scorer = Scorer(model)
        self._rules = RuleSet()
        self._boosts = model.rules

    def detect(self, texts: Sequence[str], threshold: float = 0.0) -> Injection:
        """Examine texts of any length; the worst one counts. ``threshold`` 0 is the fitted one."""
        # The worst so far: its logit, the words of its window, its rules.
        logit = -_MAX_LOGIT
        window: list[bytes] = []
        rules: tuple[str, ...] = ()
        for text in texts:
            for part in _slices(text):
                words = words_of(part)
                if not words:
                    continue
                worst = self._scorer.worst(words)
                matched = self._rules.matches(b" ".join(words))
                found = worst.logit + sum(self._boosts[name] for name in matched)
                if found > logit:
                    logit, window, rules = found, words[worst.start : worst.end], matched
        score = 1 / (1 + exp(-min(max(logit, -_MAX_LOGIT), _MAX_LOGIT)))
        if score < (threshold or self.threshold):
            return Injection(score, False, rules)
        return Injection(score, True, rules, self._contributions(window, rules))

    def _contributions(self, window: list[bytes], rules: tuple[str, ...]) -> dict[str, float]:
        parts = self._scorer.parts(window)
        parts |= {f"rule:{name}": self._boosts[name] for name in rules}
        top = sorted(parts.items(), key=lambda part: -abs(part[1]))[:_TOP]
        return {name: round(value, 4) for name, value in top}


def load(text: bytes) -> Detector:
    """Read a stored model. Raises ``ConfigError`` where it is not one."""
    try:
        return Detector(msgspec.json.decode(text, type=InjectionModel))
    except ValueError as error:
        raise ConfigError(f"the injection model cannot be read: {error}") from error


def _slices(text: str) -> Iterator[str]:
    if len(text) <= SLICE_CHARS:
        yield text
        return
    for start in range(0, len(text) - OVERLAP_CHARS, SLICE_CHARS - OVERLAP_CHARS):
        yield text[start : start + SLICE_CHARS]


_SHIPPED = load(resources.files(__package__).joinpath("injection.json").read_bytes())


def detect(texts: Sequence[str], threshold: float = 0.0) -> Injection:
    """Examine texts with the model that this package ships. ``threshold`` 0 is the fitted one.

    Up to some 16 KB it takes microseconds to a millisecond. A long prompt belongs into a thread;
    between slices others get their turn.
    """
    return _SHIPPED.detect(texts, threshold)
