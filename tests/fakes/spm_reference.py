"""What llama.cpp's SentencePiece tokenizer does, in a few lines, to compare much with.

The tests show first that the engine itself does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise


def merged(text: str, scores: Mapping[str, float]) -> list[str]:
    """The symbols that are left of an escaped text when no two neighbours make a token."""
    symbols = list(text)
    while True:
        joins = [
            (-scores[left + right], index)
            for index, (left, right) in enumerate(pairwise(symbols))
            if left + right in scores
        ]
        if not joins:
            return symbols
        _, index = min(joins)
        symbols[index : index + 2] = [symbols[index] + symbols[index + 1]]
