"""Words and whole texts whose ids are known already.

People write in words, and a conversation comes again with each of its turns. So a text is cut
where that cannot change its ids (``wire.word_cut``), and known pieces are looked up; the rest goes
to the library. Whether cutting is exact is decided when a tokenizer is loaded, by proof and by
trial; where it is not, only whole texts are remembered.

Everything is bounded: the memory of both maps, the pieces that one call may teach, and the work
between two chances for other threads to run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from wire.generations import Generations
from wire.word_cut import SIGN, Cut, pieces_of, slices_of

Library = Callable[[str], list[int]]
"""The ids of one text, by the tokenizers library."""
_SEPARATOR = "\0"
Known = dict[str, tuple[int, ...]]

TRIALS = (
    "", " ", "  ", "a", " a", "a ", "a  b", "a \n b", "\n a", " \n", "The quick brown fox, it's 12.",
    "don't we'LL 'S it's", "x  1   22\t 3\r\n\r\n  y \t", "def f(x):\n    return x[0] + 1  # no\n\n",
    "Straße naïve café Ünïcode", "日本語 の テキスト。 ひらがな", "한국어 텍스트", "नी हिन्दी ba\u0302\u0301",
    "🙂 👨‍👩‍👧 e\u0301 \u200b \u00a0 \u3000 \u2003! \x85 x", "a\0b \0 c", "<|im_end|> <s> [INST] </s>",
    "100 000 1234567 3.14 ٣٤٥ ½ Ⅷ", "... !? --- === $ ^ ` ~ |", f"{SIGN} a{SIGN}b {SIGN}", "A B C dEf GhI",
    "https://example.org/a?b=c&d=e mail@example.org", "' 's ' s", "word " * 40, "aaaa " * 9 + "\n\n\n x",
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
    batch: int = 64
    """New pieces of a slice that are encoded apart; with more of them the slice is encoded whole,
    which teaches about as many."""


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

    def knows(self, text: str) -> bool:
        """Whether the text needs no work, as far as can be told at once."""
        return self._texts.get(text) is not None

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
        if whole:
            ids = tuple(ids)
            self._texts.put(text, ids)
        return ids

    def _is_exact(self, cut: Cut) -> bool:
        """Every text is tried twice: new, and known."""
        return all(self._of_pieces(text, cut) == self._library(text) for text in TRIALS * 2)

    def _of_pieces(self, text: str, cut: Cut) -> list[int]:
        if cut.signs and (SIGN in text or text[:1] == " " or text[-1:] == " " or not text):
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
        found = list(map(self._words.young.get, pieces))
        if None not in found:
            return list(chain.from_iterable(found))  # type: ignore[arg-type]
        return self._of_partly_known(text, pieces, found, cut)

    def _of_partly_known(
        self,
        text: str,
        pieces: list[str],
        found: list[tuple[int, ...] | None],
        cut: Cut,
    ) -> list[int]:
        """Only pieces that end in no white space are ever remembered; so the pieces before all
        known ones were cut right, and the others are looked at here.
        """
        missing = [piece for piece, ids in zip(pieces, found, strict=True) if ids is None]
        if any(piece[-1].isspace() for piece in missing):
            pieces = pieces_of(text)
            missing = [piece for piece in pieces if piece not in self._words.young]
        new = [piece for piece in dict.fromkeys(missing) if self._words.get(piece) is None]
        if len(new) > self._config.batch:
            ids = self._by_library(text, cut)
            self._learn(dict(self._shares(ids, pieces[: 2 * self._config.batch], cut)))
            return ids
        told = self._told(new, cut)
        if told is None:
            return self._by_library(text, cut)
        get = self._words.get
        shares = [told[piece] if piece in told else get(piece) for piece in pieces]
        if None in shares:  # another thread made the cache forget
            return self._by_library(text, cut)
        return list(chain.from_iterable(shares))  # type: ignore[arg-type]

    def _told(self, new: list[str], cut: Cut) -> Known | None:
        """The ids of new pieces, encoded in one text in which they can be cut as well; None: their
        shares cannot be told apart.
        """
        if not new:
            return {}
        # A piece that ends in white space can only be the last of all.
        ids = self._by_library("".join(new), cut)
        told = dict(self._shares(ids, new, cut))
        if len(told) < len(new):
            return None
        self._learn(told)
        return told

    def _learn(self, told: Known) -> None:
        longest = self._config.longest_word
        for piece, ids in told.items():
            if len(piece) <= longest and not piece[-1].isspace():
                self._words.put(piece, ids)

    def _shares(
        self, ids: list[int], pieces: list[str], cut: Cut
    ) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Each piece with its part of the ids of their join, by the sizes of tokens."""
        sizes, start, end, count = cut.sizes, 0, 0, len(ids)
        for piece in pieces:
            left = cut.size(piece)
            while left > 0 and end < count:
                left -= sizes[ids[end]]
                end += 1
            if left:
                return
            yield piece, tuple(ids[start:end])
            start = end

    def _by_library(self, text: str, cut: Cut) -> list[int]:
        return self._library(text[1:] if cut.prepends and text[:1] == " " else text)
