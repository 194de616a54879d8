"""The merges that make a BPE model give what llama.cpp makes of a SentencePiece vocabulary.

llama.cpp (``llm_tokenizer_spm_session``) joins the two neighbours whose join is the token of the
highest score, the leftmost of equals, until no join is a token. A BPE model joins the pair of the
lowest rank, the leftmost of equals. Ordered by score the two agree, but for this: a rank has one
pair, and several pairs may make one token of one score. So only the pairs that can meet are taken,
and where several make one token, what could tell the two orders apart is refused:

- a longer token that scores no lower than this one, its part, and takes a neighbour that may be
  part of another such pair: it would be joined in between;
- another token of the same score;
- pairs that overlap without a fixed order. Where ``x+y`` and ``y+z`` are one token, ``x|y|z`` must
  be joined on the left, so ``(x, y)`` gets the lower rank. That settles all but powers of one text
  (``aa+aaaa`` and ``aaaa+aa``); of a character, every run that can come about is tried.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import pairwise

Pair = tuple[str, str]
_Runs = set[tuple[int, ...]]
_MAX_LENGTH = 128
"""Characters of a token; a vocabulary with a longer one is given up, as it is for these:"""
_MAX_CHARACTERS = 8_000_000
_MAX_NEIGHBOURS = 8_000_000
_MAX_RUNS = 20_000
_MAX_RUN_WORK = 5_000_000
"""The highest power, squared, times the number of powers; summed up."""
_REPEATS = 4
"""Runs are tried up to this many times the highest power; longer ones repeat it on the left."""


class NotMergesError(ValueError):
    """A vocabulary whose scores a list of merges cannot stand for; the message says why."""


def derive_merges(scores: Mapping[str, float], never: Collection[str] = ()) -> list[Pair]:
    """The merges in order of rank.

    Args:
        scores: every token that may come out of merging, white space as in the vocabulary.
        never: tokens that must not, such as those of single bytes.

    Raises:
        NotMergesError: no list of merges is known to give the same tokens for every text.
    """
    if not all(map(math.isfinite, scores.values())):
        raise NotMergesError("a token's score is not a finite number")
    if max(map(len, scores), default=0) > _MAX_LENGTH or sum(map(len, scores)) > _MAX_CHARACTERS:
        raise NotMergesError("its tokens are too long")
    meeting = _pairs_that_meet(scores, frozenset(never))
    _check(meeting, scores)
    return [
        pair
        for token in sorted(meeting, key=lambda token: -scores[token])
        for pair in sorted(
            meeting[token], key=lambda pair: _follows_another(pair, token, meeting[token])
        )
    ]


def _pairs_that_meet(
    scores: Mapping[str, float], never: Collection[str]
) -> dict[str, dict[Pair, None]]:
    """For each token of several characters: the pairs that can stand side by side at some time."""
    neighbours = _Neighbours(scores)
    powers = _powers_of_characters(scores)
    for token in sorted({*scores, *never}, key=len):
        pairs: dict[Pair, None] = {}
        if token in powers:
            pairs = powers[token]
        for cut in range(1, 1 if token in powers else len(token)):
            left, right = token[:cut], token[cut:]
            if neighbours.can_meet(left, right):
                pairs[left, right] = None
        if pairs and token in never:
            raise NotMergesError("plain text could be merged into a token of bytes or of control")
        if pairs:
            neighbours.add(token, pairs)
    return neighbours.meeting


class _Neighbours:
    """Which symbols can stand side by side, by the tokens added, shorter ones first.

    ``l|r`` comes about from ``l|x|y`` or from ``x|y|r``. It cannot where ``l+x`` (or ``y+r``) is a
    token of a higher score, which is joined before ``x+y`` is; on the left an equal one is too. And
    it cannot where the part that would be joined last is always joined before the other one is.
    """

    def __init__(self, scores: Mapping[str, float]) -> None:
        self.meeting: dict[str, dict[Pair, None]] = {}
        self._scores = scores
        self._known: dict[Pair, bool] = {}
        self._latest: dict[str, float] = {}
        """The score by which a token is joined at the latest, once its characters are left."""

    def add(self, token: str, pairs: dict[Pair, None]) -> None:
        self.meeting[token] = pairs
        self._latest[token] = min(self._joined_by(token, pair) for pair in pairs)

    def can_meet(self, left: str, right: str) -> bool:
        """Symbols that nothing makes meet nothing."""
        if len(left) == len(right) == 1:
            return True
        known = self._known.get((left, right))
        if known is None:
            known = self._follows(left, right) or self._precedes(left, right)
            if len(self._known) >= _MAX_NEIGHBOURS:
                raise NotMergesError("too many of its tokens can stand side by side")
            self._known[left, right] = known
        return known

    def _follows(self, left: str, right: str) -> bool:
        """Whether the right one can be joined last."""
        if len(left) > 1 and left not in self.meeting:
            return False
        before = self._scores.get(left, math.inf) if len(left) > 1 else math.inf
        return any(
            self._score(left + x) < self._scores[right]
            and self._joined_by(right, (x, y)) <= before
            and self.can_meet(left, x)
            for x, y in self.meeting.get(right, ())
        )

    def _precedes(self, left: str, right: str) -> bool:
        """Whether the left one can be joined last."""
        if len(right) > 1 and right not in self.meeting:
            return False
        before = self._scores.get(right, math.inf) if len(right) > 1 else math.inf
        return any(
            self._score(y + right) <= self._scores[left]
            and self._joined_by(left, (x, y)) <= before
            and self.can_meet(y, right)
            for x, y in self.meeting.get(left, ())
        )

    def _score(self, token: str) -> float:
        return self._scores.get(token, -math.inf)

    def _joined_by(self, token: str, pair: Pair) -> float:
        left, right = pair
        return min(
            self._scores[token],
            self._latest.get(left, math.inf),
            self._latest.get(right, math.inf),
        )


def _check(meeting: Mapping[str, Collection[Pair]], scores: Mapping[str, float]) -> None:
    uses: dict[str, list[Pair]] = {}
    for pairs in meeting.values():
        for pair in pairs:
            for part in pair:
                if part not in scores:
                    raise NotMergesError("a token holds a character that is no token of its own")
                uses.setdefault(part, []).append(pair)
    counts = Counter(scores[token] for token in meeting)
    if counts and counts.most_common(1)[0][1] > 1:
        raise NotMergesError("two tokens that merging makes have one score")
    for token, pairs in meeting.items():
        is_power = token == token[0] * len(token)
        if not is_power and any(left != right and (right, left) in pairs for left, right in pairs):
            raise NotMergesError("which powers of a text to merge depends on their place")
        if len(pairs) > 1 and _is_disturbed(token, pairs, uses, scores):
            raise NotMergesError("a token scores no lower than its parts")


def _is_disturbed(
    token: str,
    pairs: Collection[Pair],
    uses: Mapping[str, Iterable[Pair]],
    scores: Mapping[str, float],
) -> bool:
    """Whether joining one pair of the token may at once take a part of another pair."""
    lefts, rights = {left for left, _ in pairs}, {right for _, right in pairs}
    grown, waiting = {token}, [token]
    while waiting:
        part = waiting.pop()
        for left, right in uses.get(part, ()):
            if scores[left + right] < scores[token]:
                continue
            if (left == part and right in lefts) or (right == part and left in rights):
                return True
            if left + right not in grown:
                grown.add(left + right)
                waiting.append(left + right)
    return False


def _follows_another(pair: Pair, token: str, pairs: Collection[Pair]) -> bool:
    """Whether another pair of the token can end with what this one begins with."""
    left, _ = pair
    other = token[: -len(left)], left
    return other != pair and other in pairs


def _powers_of_characters(scores: Mapping[str, float]) -> dict[str, dict[Pair, None]]:
    """As :func:`_pairs_that_meet`, for the tokens that repeat one character."""
    levels: dict[str, dict[int, float]] = {}
    for token, score in scores.items():
        if len(token) > 1 and token == token[0] * len(token):
            levels.setdefault(token[0], {})[len(token)] = score
    if sum(max(powers) ** 2 * len(powers) for powers in levels.values()) > _MAX_RUN_WORK:
        raise NotMergesError("too many of its tokens repeat one character")
    return {
        root * power: {(root * left, root * right): None for left, right in pairs}
        for root, powers in levels.items()
        for power, pairs in _powers_that_meet(powers).items()
    }


def _powers_that_meet(scores: Mapping[int, float]) -> dict[int, dict[tuple[int, int], None]]:
    """Try every run of a character. Neighbours of a run may take symbols from its ends at any time.

    Args:
        scores: of the powers that are tokens, from the second on.

    Raises:
        NotMergesError: two overlapping pairs could meet, or a power scores above its part.
    """
    meeting: dict[int, dict[tuple[int, int], None]] = {power: {} for power in scores}
    runs: _Runs = {(1,) * length for length in range(_REPEATS * max(scores) + 1)}
    for level in sorted(scores, key=lambda power: -scores[power]):
        for run in runs:
            for pair in pairwise(run):
                if sum(pair) in scores:
                    meeting[sum(pair)][pair] = None
        runs = _with_parts(_joined(run, level, scores) for run in runs)
    return meeting


def _joined(run: tuple[int, ...], level: int, scores: Mapping[int, float]) -> tuple[int, ...]:
    """The run with every two that make ``level`` joined, from the left."""
    joined: list[int] = []
    is_made = False
    for index, power in enumerate(run):
        if joined and not is_made and joined[-1] + power == level:
            if joined[-1] != power and run[index + 1 : index + 2] == (joined[-1],):
                raise NotMergesError("which powers of a character to merge depends on their place")
            joined[-1] = level
            is_made = True
            for neighbour in (*joined[-2:-1], *run[index + 1 : index + 2]):
                if scores.get(neighbour + level, -math.inf) >= scores[level]:
                    raise NotMergesError("a power of a character scores no lower than its parts")
        else:
            joined.append(power)
            is_made = False
    return tuple(joined)


def _with_parts(runs: Iterable[tuple[int, ...]]) -> _Runs:
    """These and all that is left of them when symbols go from their ends."""
    waiting = list(runs)
    found: _Runs = set()
    while waiting:
        run = waiting.pop()
        if run in found:
            continue
        found.add(run)
        if len(found) > _MAX_RUNS:
            raise NotMergesError("runs of one character can be merged in too many ways")
        if run:
            waiting += (run[1:], run[:-1])
    return found
