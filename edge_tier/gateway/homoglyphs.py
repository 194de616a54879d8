"""Letters of one script that pass for another's, and the words in which that is a trick.

A word is a trick where letters of several scripts are mixed and every foreign one has a Latin
look-alike, or where it is written in letters made for formulas. Such letters are legitimate in
ordinary writing, and then the word is left alone:

- a Latin stem with a Cyrillic ending, and words with more foreign than Latin letters, in a text
  that has words of that script;
- Greek letters beside Latin ones as formulas have them (``ρmax``, ``Δx``);
- full-width letters in a text that has East Asian writing;
- mathematical letters in runs shorter than a word.

The table is a selection of our own from what UTS #39 (Unicode Security Mechanisms) calls
confusables; mixed scripts per word are that standard's section 5.1. Every letter has one look-alike
of one character, so offsets stay as they are.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise
from typing import NamedTuple

from edge_tier.gateway.code_points import ENCLOSED_LETTER, FULL_WIDTH_LETTER, MATH_LETTER

HOMOGLYPH = "homoglyph"
MAX_WORDS = 5_000
"""Default bound on the words that are weighed in one text."""
SLICE_CHARS = 32 * 1024
"""Work on long texts is done in slices of so many characters: Python's ``re`` and ``str`` hold the
GIL for one, some 1 ms."""

_PAIRS = {
    "cyrillic": (
        "аеорсухіјѕԁһԛԝѵӏкАВЕЅІЈКМНОРСТУХҮѴԚԜ",
        "aeopcyxijsdhqwvlkABESIJKMHOPCTYXYVQW",
    ),
    "greek": (
        "οανριυγκχτηωϲϳΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
        "oavpiuykxtnwcjABEZHIKMNOPTYX",
    ),
    "armenian": ("օոսհցզՏՍԼ", "onuhgqSUL"),
    "cherokee": ("ᎠᎡᎢᎪᎫᎬᎳᎷᎻᏀᏃᏙᏚᏞᏟᏢᏦᏴ", "DRTAJEWMHGZVSLCPKB"),
}
_SCRIPT = {letter: script for script, (letters, _) in _PAIRS.items() for letter in letters}
_LATIN = {
    letter: latin
    for letters, latins in _PAIRS.values()
    for letter, latin in zip(letters, latins, strict=True)
}
_FORMULA_GREEK = frozenset("ανριυγκχτηω")
"""Formulas use these; the rest of the table is written in no formula beside Latin letters."""


def _styled() -> dict[str, str]:
    """Letters that differ from ASCII in style only: full-width, mathematical, in circles."""
    styled: dict[str, str] = {}
    for low, high in (*FULL_WIDTH_LETTER, *MATH_LETTER, *ENCLOSED_LETTER):
        for code in range(low, high + 1):
            plain = unicodedata.normalize("NFKC", chr(code))
            # An emoji (ℹ) is what it seems.
            if plain.isascii() and plain.isalpha() and len(plain) == 1 and code != 0x2139:
                styled[chr(code)] = plain
    for first in (0x1F150, 0x1F170):  # white on black: they have no decomposition
        styled |= {chr(first + place): chr(ord("A") + place) for place in range(26)}
    return styled


_STYLED = _styled()
CONFUSABLES = {ord(letter): plain for letter, plain in (_LATIN | _STYLED).items()}
"""Every look-alike and its ASCII letter, for ``str.translate``."""


def _ranges(letters: str) -> str:
    """The inside of a character class for RE2, neighbours put together."""
    codes = sorted(map(ord, letters))
    starts = [code for code in codes if code - 1 not in codes]
    ends = [code for code in codes if code + 1 not in codes]
    pairs = zip(starts, ends, strict=True)
    return "".join(rf"\x{{{low:x}}}-\x{{{high:x}}}" for low, high in pairs)


_FULL_WIDTH = "Ａ-Ｚａ-ｚ"
_FOREIGN = "".join(_LATIN)
_STYLED_ONLY = "".join(letter for letter in _STYLED if unicodedata.east_asian_width(letter) != "F")
_ANY = "".join(_LATIN) + "".join(_STYLED)


def _trigger() -> str:
    either, styled = _ranges(_ANY), _ranges(_STYLED_ONLY)
    return rf"[A-Za-z][{either}]|[{either}][A-Za-z]|[{styled}]{{5}}|[{_FULL_WIDTH}]{{3}}"


TRIGGER = _trigger()
"""RE2 pattern: a text in which it finds nothing holds no trick."""

_SPOT = re.compile(
    rf"(?<=[A-Za-z])[{_ANY}]|[{_ANY}](?=[A-Za-z])|[{_STYLED_ONLY}]{{2,}}|[{_FULL_WIDTH}]{{3,}}"
)
_REACH = 32
"""Letters of a word on either side of a spot that are looked at."""
_EAST_ASIAN = re.compile(
    "[\u1100-\u11ff\u2e80-\u2fdf\u3001-\u30ff\u3105-\ua4cf\uac00-\ud7ff\uff66-\uff9f]"
)
_OWN_WORDS = {
    "cyrillic": re.compile(
        "[бвгджзийлмнптфцчшщъыьэюяґєїўљњћђџБГДЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯ][\u0400-\u04ff]"
    ),
    "greek": re.compile("[\u0370-\u03ff\u1f00-\u1fff]{3}"),
    "armenian": re.compile("[\u0531-\u0587]{3}"),
    "cherokee": re.compile("[\u13a0-\u13ff]{3}"),
}
_MIN_WORD = 3
_MIN_LONG_WORD = 5
_BESIDE_LATIN = re.compile(f"[A-Za-z][{_ANY}]|[{_ANY}][A-Za-z]")
_STYLED_WORD = re.compile(f"[{_STYLED_ONLY}]{{{_MIN_LONG_WORD}}}")
_MAX_ENDING = 3


class Trick(NamedTuple):
    """A word whose letters are not what they seem, at character offsets."""

    start: int
    end: int


class Weighed(NamedTuple):
    """Tricks in order, not overlapping; and how many words were weighed."""

    tricks: list[Trick]
    words: int


def homoglyphs(text: str, max_words: int = MAX_WORDS) -> Weighed:
    """The words of ``text`` that are tricks. After ``max_words`` the rest is not looked at."""
    tricks: list[Trick] = []
    context = _Context(text)
    words = done = 0
    while words < max_words and (spot := _next_spot(text, done)) is not None:
        words += 1
        start, done = _word_around(text, *spot, done)
        if _is_trick(text[start:done], context):
            tricks.append(Trick(start, done))
    return Weighed(tricks, words)


def folded(text: str, tricks: list[Trick]) -> str:
    """``text`` with those words in the letters that they look like."""
    pieces: list[str] = []
    at = 0
    for start, end in tricks:
        pieces += (text[at:start], text[start:end].translate(CONFUSABLES))
        at = end
    return "".join((*pieces, text[at:]))


class _Context:
    """What the whole text says about its words; looked up once, when it is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._known: dict[str, bool] = {}

    def writes(self, script: str) -> bool:
        if script not in self._known:
            self._known[script] = self._holds(_OWN_WORDS[script])
        return self._known[script]

    @property
    def east_asian(self) -> bool:
        if "east_asian" not in self._known:
            self._known["east_asian"] = self._holds(_EAST_ASIAN)
        return self._known["east_asian"]

    @property
    def styled_words(self) -> bool:
        """Whether runs of styled letters are as long as words."""
        if "styled" not in self._known:
            self._known["styled"] = self._holds(_STYLED_WORD)
        return self._known["styled"]

    def _holds(self, pattern: re.Pattern[str]) -> bool:
        """Slices overlap by as much as a pattern needs."""
        starts = range(0, len(self._text), SLICE_CHARS)
        return any(
            pattern.search(self._text, max(0, start - _MIN_LONG_WORD), start + SLICE_CHARS)
            for start in starts
        )


def _next_spot(text: str, start: int) -> tuple[int, int] | None:
    """Where letters of two kinds meet, or styled ones stand together."""
    for at in range(start, len(text), SLICE_CHARS):
        # Slices overlap by a letter, so that two that meet at a cut are seen together.
        match = _SPOT.search(text, max(start, at - 1), at + SLICE_CHARS + 1)
        if match is not None:
            return match.span()
    return None


def _word_around(text: str, start: int, end: int, floor: int) -> tuple[int, int]:
    low, high = max(floor, start - _REACH), min(len(text), end + _REACH)
    while start > low and text[start - 1].isalpha():
        start -= 1
    while end < high and (text[end].isalpha() or text[end] in _STYLED):
        end += 1
    return start, end


def _is_trick(word: str, context: _Context) -> bool:
    if len(word) < _MIN_WORD and not context.styled_words:
        return False
    styled = [letter for letter in word if letter in _STYLED]
    if styled:
        return _is_styled_trick(word, styled, context)
    scripts = {_SCRIPT[letter] for letter in word if letter in _SCRIPT}
    known = all(letter in _SCRIPT or letter < "\u0250" for letter in word)
    if not known:
        return False
    foreign = sum(1 for letter in word if letter in _SCRIPT)
    for script in scripts:
        if context.writes(script) and (2 * foreign >= len(word) or _has_ending(word)):
            return False
    return scripts != {"greek"} or _is_greek_trick(word)


def _is_styled_trick(word: str, styled: list[str], context: _Context) -> bool:
    full_width = any("\uff21" <= letter <= "\uff5a" for letter in styled)
    if full_width:
        return not context.east_asian
    if len(styled) == len(word):
        return context.styled_words
    changes = sum(1 for a, b in pairwise(word) if (a in _STYLED) != (b in _STYLED))
    return len(word) >= _MIN_LONG_WORD and changes > 1 and bool(_BESIDE_LATIN.search(word))


def _has_ending(word: str) -> bool:
    """Whether a Latin stem carries an ending of another script (``SMSка``)."""
    stem = word.rstrip(_FOREIGN)
    return bool(stem) and len(word) - len(stem) <= _MAX_ENDING and stem.isascii()


def _is_greek_trick(word: str) -> bool:
    """Letters of formulas count only between Latin ones in a longer word; all others anywhere."""
    if any(letter in _SCRIPT and letter not in _FORMULA_GREEK for letter in word):
        return True
    return len(word) >= _MIN_LONG_WORD and any(letter in _FORMULA_GREEK for letter in word[1:-1])
