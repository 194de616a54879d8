"""The injection model: how its weights are stored, and how they score a text.

A text is a list of words (ASCII lower-cased, without punctuation). A word's weight is that of the
word itself and of the n-grams of its characters, both hashed by CRC-32 (Weinberger et al. 2009), so
that misspelt words still count; pairs of neighbours have weights of their own. Training
(``infra.training.fit_injection``) and serving (``injection``) both use this file.

A long text is scored in overlapping windows and the worst one counts: padding an attack with
harmless text does not hide it. Words and their sums are added by C loops; a word's weight is
computed once and kept.
"""

from __future__ import annotations

import base64
from itertools import accumulate, pairwise, repeat
from math import sqrt
from operator import add
from typing import NamedTuple
from zlib import crc32

import msgspec

from wire.errors import ConfigError

BUCKETS = 16_384
"""A power of two."""
WINDOW_WORDS = 96
STRIDE_WORDS = 48
SHORTEST_WORDS = 8
"""A window of fewer words is weighed as if it had so many, so that one word decides nothing."""

MAX_WORD_BYTES = 24
"""A longer word is known by its beginning."""
_SIZES = (3, 4)
_WORD_SALT = 0x51ED270B
_MAX_KEPT_WORDS = 32_768

_SEPARATED = bytes(
    byte + 32
    if 65 <= byte <= 90
    else byte
    if 97 <= byte <= 122 or 48 <= byte <= 57 or byte >= 128
    else 32
    for byte in range(256)
)


def words_of(text: str) -> list[bytes]:
    """The words of a text, in order. An apostrophe separates like every other sign."""
    return text.encode("utf-8", "replace").translate(_SEPARATED).split()


def buckets(word: bytes) -> list[int]:
    """The hashed features of one word: the word and the n-grams of its characters."""
    word = word[:MAX_WORD_BYTES]
    edged = b" %b " % word
    mask = BUCKETS - 1
    found = [crc32(word, _WORD_SALT) & mask]
    for size in _SIZES:
        found += [crc32(edged[i : i + size]) & mask for i in range(len(edged) - size + 1)]
    return found


class InjectionModel(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted weights as they are stored."""

    bias: float
    threshold: float
    """Score at which a text is flagged: as few false positives as the report says."""
    unit: float
    hashed: str
    """A signed byte for each bucket, in units of ``unit``; base64."""
    pairs: dict[str, int]
    """Weights of two neighbouring words (joined by a space), in units of ``unit``."""
    rules: dict[str, float]
    """What a rule that applies adds to the logit."""
    report: dict[str, float] = {}
    """How well the model did when it was fitted."""


class _Weights(dict[bytes, float]):
    """The weight of every word met, up to a bound, after which they are computed anew."""

    def __init__(self, hashed: list[float]) -> None:
        super().__init__()
        self._hashed = hashed

    def __missing__(self, word: bytes) -> float:
        weight = sum(map(self._hashed.__getitem__, buckets(word)))
        if len(word) <= MAX_WORD_BYTES:
            if len(self) >= _MAX_KEPT_WORDS:
                self.clear()
            self[word] = weight
        return weight


class Worst(NamedTuple):
    """The window with the highest logit, as a range of words."""

    logit: float
    start: int
    end: int


class Scorer:
    """Scores words with one model.

    Raises:
        ConfigError: the model was fitted for other features.
    """

    def __init__(self, model: InjectionModel) -> None:
        hashed = base64.b64decode(model.hashed)
        if len(hashed) != BUCKETS:
            raise ConfigError("the injection model was fitted for other features; fit it again")
        self.bias = model.bias
        # Bytes are signed: two's complement.
        self._words = _Weights([((byte ^ 0x80) - 0x80) * model.unit for byte in hashed])
        self._pairs = {
            (left.encode(), right.encode()): weight * model.unit
            for left, _, right in (pair.partition(" ") for pair in model.pairs)
            if (weight := model.pairs[f"{left} {right}"])
        }

    def worst(self, words: list[bytes]) -> Worst:
        """The window that looks most like an attack. The sum of a window's weights is divided by
        the root of its length: neither many harmless words nor a long text decide alone."""
        count = len(words)
        pairs = map(self._pairs.get, pairwise(words), repeat(0.0))
        singles = map(self._words.__getitem__, words)
        if count <= WINDOW_WORDS:
            total = sum(singles) + sum(pairs)
            return Worst(self.bias + total / sqrt(max(count, SHORTEST_WORDS)), 0, count)
        # The last word has no right neighbour; the sum before each word, and after the last.
        weights = list(map(add, singles, [*pairs, 0.0]))
        before = list(accumulate(weights, initial=0.0))
        starts = [*range(0, count - WINDOW_WORDS, STRIDE_WORDS), count - WINDOW_WORDS]
        total, start = max([(before[i + WINDOW_WORDS] - before[i], i) for i in starts])
        return Worst(self.bias + total / sqrt(WINDOW_WORDS), start, start + WINDOW_WORDS)

    def parts(self, words: list[bytes]) -> dict[str, float]:
        """What each word and pair of one window adds to its logit."""
        scale = 1 / sqrt(max(len(words), SHORTEST_WORDS))
        parts: dict[str, float] = {}
        for word in words:
            name = word[:MAX_WORD_BYTES].decode("utf-8", "replace")
            parts[name] = parts.get(name, 0.0) + self._words[word] * scale
        for pair in pairwise(words):
            if weight := self._pairs.get(pair):
                name = b" ".join(pair).decode("utf-8", "replace")
                parts[name] = parts.get(name, 0.0) + weight * scale
        return parts
