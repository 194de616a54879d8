"""Special tokens in a text, found in llama.cpp's order: the longest literal first, everywhere.

That is not leftmost-longest: a long literal wins over a shorter one that begins before it
(``tokenizer_st_partition`` in llama.cpp's ``llama-vocab.cpp``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wire.bundle import SpecialToken

Piece = str | int
"""A run of text, or the id of a special token."""


class Specials:
    """A fixed set of special tokens."""

    def __init__(self, tokens: Iterable[SpecialToken]) -> None:
        self.tokens = sorted(tokens, key=lambda token: (-len(token.text.encode()), token.id))
        self.by_text = {token.text: token.id for token in self.tokens}

    def partition(self, text: str) -> list[Piece]:
        """The text cut at every special token; no empty runs."""
        pieces: list[Piece] = [text] if text else []
        for token in self.tokens:
            if token.text in text:
                pieces = _cut(pieces, token)
        return pieces

    def holds_any(self, text: str) -> bool:
        """Whether any of the tokens stands in the text."""
        return any(token.text in text for token in self.tokens)


def _cut(pieces: Sequence[Piece], token: SpecialToken) -> list[Piece]:
    cut: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, int):
            cut.append(piece)
            continue
        for index, run in enumerate(piece.split(token.text)):
            if index:
                cut.append(token.id)
            if run:
                cut.append(run)
    return cut
