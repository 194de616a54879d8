"""Words and whole texts whose ids are known already.

People write in words, and a conversation comes again with each of its turns. So a text is cut
where that cannot change its ids (``wire.word_cut``), and known pieces are looked up; the rest goes
to the library. Whether cutting is exact is decided when a tokenizer is loaded, by proof and by
trial; where it is not, only whole texts are remembered.

Everything is bounded: the memory of both maps, the pieces that one call may teach, and the work
between two chances for other threads to run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from wire.generations import Generations
from wire.word_cut import SIGN, Cut, pieces_of, slices_of

Library = Callable[[str], list[int]]
"""The ids of one text, by the tokenizers library."""
_SEPARATOR = "\0"
Known = dict[str, tuple[int, ...]]

TRIALS = (
    "", " ", "  ", "a", " a", "a ", "a  b", "a \n b", "\n a", " \n",
    "The quick brown fox, it's 12.", "don't we'LL 'S it's", "x  1   22\t 3\r\n\r\n  y \t",
    "def f(x):\n    return x[0] + 1  # no\n\n", "Straße naïve café Ünïcode",
    "日本語 の テキスト。 ひらがな", "한국어 텍스트", "नी हिन्दी ba\u0302\u0301",
    "🙂 👨‍👩‍👧 e\u0301 \u200b \u00a0 \u3000 \u2003! \x85 x", "a\0b \0 c",
    "<|im_end|> <s> [INST] </s>", "100 000 1234567 3.14 ٣٤٥ ½ Ⅷ",
    "... !? --- === $ ^ ` ~ |", f"{SIGN} a{SIGN}b {SIGN}", "A B C dEf GhI",
    "https://example.org/a?b=c&d=e mail@example.org", "' 's ' s", "word " * 40,
    "aaaa " * 9 + "\n\n\n x",
)  # fmt: skip
"""Texts on which cutting must be seen to be exact before it is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordCacheConfig:
    """Bounds."""

    words: int = 50_000
    word_bytes: int = 16 * 1024 * 1024
    """Of one generation of words; there are two."""
    longest_word: int = 48
    """Characters; longer pieces are not remembered."""
    texts: int = 20_000
    text_bytes: int = 24 * 1024 * 1024
    """Of one generation of whole texts; there are two."""
    shortest_text: int = 256
    """Characters from which a text is remembered as a whole."""
    slice: int = 16 * 1024
    """Characters that are looked up at once."""
    mostly_new: float = 0.7
    """Share of a slice that may be new pieces, each counted once, if these are to be encoded apart;
    with more the slice is encoded whole."""
    short: int = 2 * 1024
    """Characters up to which that is told by the number of pieces alone."""
    taught: int = 24
    """Where a slice is encoded whole, this many of its first pieces are learnt."""


class WordCache:
    """Encodes texts for one tokenizer. Safe to share between threads.

    Args:
        library: must be what ``cut`` was made of.
        cut: None: texts are not cut.
    """

    def __init__(
        self, library: Library, cut: Cut | None, config: WordCacheConfig | None = None
    ) -> None:
        self._config = config or WordCacheConfig()
        self._library = library
        self._words = Generations(self._config.words, self._config.word_bytes)
        self._texts = Generations(self._config.texts, self._config.text_bytes)
        self._cut: Cut | None = cut
        if cut is not None and not self._is_exact(cut):
            self._cut = None
            self._words = Generations(self._config.words, self._config.word_bytes)

    @property
    def cuts(self) -> bool:
        """Whether texts are cut into words."""
        return self._cut is not None

    def encode(self, text: str) -> Sequence[int]:
        """The library's ids of the text.

        Raises:
            TypeError: a lone surrogate.
        """
        whole = len(text) >= self._config.shortest_text
        if whole:
            known = self._texts.get(text)
            if known is not None:
                return known
        ids = self._library(text) if self._cut is None else self._of_pieces(text, self._cut)
        if not whole:
            return ids
        kept = tuple(ids)
        self._texts.put(text, kept)
        return kept

    def _is_exact(self, cut: Cut) -> bool:
        """Every trial is made of its pieces, each encoded alone; and then as texts are, twice."""
        for text in TRIALS:
            whole = self._library(text)
            if not _is_left_whole(text, cut):
                alone = [self._by_library(piece, cut) for piece in pieces_of(text)]
                if list(chain.from_iterable(alone)) != whole:
                    return False
            if any(self._of_pieces(text, cut) != whole for _ in range(2)):
                return False
        return True

    def _of_pieces(self, text: str, cut: Cut) -> list[int]:
        if _is_left_whole(text, cut):
            return self._library(text)
        if len(text) <= self._config.slice:
            return self._of_slice(text, cut)
        ids: list[int] = []
        for part in slices_of(text, self._config.slice):
            ids.extend(self._of_slice(part, cut))
        return ids

    def _of_slice(self, text: str, cut: Cut) -> list[int]:
        if len(text) > 4 * self._config.slice:  # hardly a space in it
            return self._by_library(text, cut)
        if _SEPARATOR in text:
            pieces = pieces_of(text)
        else:
            pieces = text.replace(" ", _SEPARATOR + " ").split(_SEPARATOR)
            if not pieces[0]:
                del pieces[0]
        try:
            return list(chain.from_iterable(map(self._words.young.__getitem__, pieces)))
        except KeyError:
            found = list(map(self._words.young.get, pieces))
            return self._of_partly_known(text, pieces, found, cut)

    def _of_partly_known(
        self, text: str, pieces: list[str], found: list[tuple[int, ...] | None], cut: Cut
    ) -> list[int]:
        """Only pieces that end in no white space are ever remembered; so the pieces before all
        known ones were cut right, and the others are looked at here.
        """
        gaps = _gaps(found)
        if len(gaps) > self._config.mostly_new * len(pieces) and len(text) <= self._config.short:
            return self._learning(text, pieces[: self._config.taught], cut)[0]
        if any(pieces[gap][-1].isspace() for gap in gaps):
            pieces = pieces_of(text)
            found = list(map(self._words.young.get, pieces))
            gaps = _gaps(found)
        told: dict[str, tuple[int, ...] | None] = {pieces[gap]: None for gap in gaps}
        if self._words.has_old:
            told = {piece: self._words.get(piece) for piece in told}
        new = [piece for piece, ids in told.items() if ids is None]
        if sum(map(len, new)) > self._config.mostly_new * len(text):
            return self._learning(text, pieces[: self._config.taught], cut)[0]
        if new:
            # A piece that ends in white space can only be the last of all.
            told.update(self._learning("".join(new), new, cut)[1])
        for gap in gaps:
            found[gap] = told[pieces[gap]]
        if None in found:  # sizes that do not add up
            return self._by_library(text, cut)
        return list(chain.from_iterable(found))  # type: ignore[arg-type]

    def _learning(self, text: str, pieces: list[str], cut: Cut) -> tuple[list[int], Known]:
        """The library's ids of a text that begins with these pieces, and their shares of them."""
        ids = self._by_library(text, cut)
        sizes, size_of, longest = cut.sizes, cut.size, self._config.longest_word
        put, start, end, count = self._words.put, 0, 0, len(ids)
        told: Known = {}
        for piece in pieces:
            left = size_of(piece)
            while left > 0 and end < count:
                left -= sizes[ids[end]]
                end += 1
            if left:
                break
            share = told[piece] = tuple(ids[start:end])
            start = end
            if piece[-1].isspace():
                break  # where the next one begins was no cut
            if len(piece) <= longest:
                put(piece, share)
        return ids, told

    def _by_library(self, text: str, cut: Cut) -> list[int]:
        return self._library(text[1:] if cut.prepends and text[:1] == " " else text)


def _is_left_whole(text: str, cut: Cut) -> bool:
    """Where SentencePiece's own space or sign would be mistaken for one of the text's."""
    return cut.signs and (SIGN in text or text[:1] == " " or text[-1:] == " " or not text)


def _gaps(found: list[tuple[int, ...] | None]) -> list[int]:
    """Where it holds None."""
    gaps: list[int] = []
    place = -1
    with contextlib.suppress(ValueError):
        while True:
            place = found.index(None, place + 1)
            gaps.append(place)
    return gaps
