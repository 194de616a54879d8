"""Conversations packed into batches of token ids for training.

A row is one long conversation: perhaps a system message, then turn after turn until it is full.
So nothing is spent on padding, and second and later turns are practised with the first.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from infra.demo_models.corpus import Corpus, chance
from infra.demo_models.groups import Group
from infra.demo_models.vocabulary import END_OF_TEXT_ID, Piece, Vocabulary

# Rows x tokens of a batch, about 2000 tokens each, and how often each form is drawn. Short rows
# practise first turns, long ones the long recital.
FORMS = ((32, 64), (12, 176), (4, 512))
FORM_WEIGHTS = (0.4, 0.3, 0.3)
LONG_ROW = 512


@dataclass(frozen=True)
class Batch:
    """Token ids and which of them are to be learnt, both [rows, length]."""

    tokens: torch.Tensor
    taught: torch.Tensor


class Batches:
    """Batches without end, drawn from a corpus; `long` is what only long rows have room for."""

    def __init__(self, corpus: Corpus, vocabulary: Vocabulary, long: Sequence[Group]) -> None:
        self._corpus = corpus
        self._vocabulary = vocabulary
        self._long = tuple(long)

    @property
    def _rng(self) -> random.Random:
        return self._corpus.rng

    def next(self) -> Batch:
        """The next batch."""
        rows, length = self._rng.choices(FORMS, FORM_WEIGHTS)[0]
        pieces = [self._row(length) for _ in range(rows)]
        return Batch(
            torch.tensor([piece.ids for piece in pieces]),
            torch.tensor([piece.taught for piece in pieces]),
        )

    def _row(self, length: int) -> Piece:
        """One conversation of exactly `length` tokens, its end filled up where no turn fits."""
        ids: list[int] = []
        taught: list[bool] = []
        system = self._corpus.system()
        if system is not None:
            opening = self._vocabulary.system(system)
            if len(opening.ids) < length // 2:
                ids, taught = list(opening.ids), list(opening.taught)
        if length >= LONG_ROW and self._long and chance(self._rng, 0.6):
            group = self._rng.choice(self._long)
            recital = self._vocabulary.turn(self._corpus.fact(group))
            ids += recital.ids
            taught += recital.taught
        misses, previous = 0, None
        while misses < 3:
            turn = self._corpus.turn(previous)
            piece = self._vocabulary.turn(turn)
            if len(ids) + len(piece.ids) > length:
                misses += 1
                continue
            ids += piece.ids
            taught += piece.taught
            previous = turn
        empty = length - len(ids)
        return Piece(ids + [END_OF_TEXT_ID] * empty, taught + [False] * empty)
