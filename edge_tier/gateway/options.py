"""What the options of a multiple choice tell about it.

A question is the harder, the more its options are made of the same words, the more they contradict
one another by a single word or a number, and the shorter they are beside what is asked. Options
with words of their own can be recognised by what one knows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from math import log1p

OPTIONS = (
    "options_distinct",
    "options_word_length",
    "options_share",
    "options_digits",
    "options_directions",
)
"""Names of the features, in order."""

_MAX_OPTIONS = 8
_MAX_HUNDREDTHS = 2_000
_USUAL_LENGTH = 5
_USUAL_WORDS = 4

_OPTION = re.compile(r"^\(?[A-H][.)] (.*)$", re.MULTILINE)
_ANSWER_CUE = re.compile(r"\s*Answer:\s*\Z")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[0-9]+(?:[.,][0-9]+)*")
_DIGIT = re.compile(r"[0-9]")
_FUNCTION_WORDS = (
    "the a an of to in and or is are that for on with as by it its at be this from was were which "
    "not no than their they has have had will would can could may"
)
_DIRECTIONS = (
    "more less fewer greater lower higher larger smaller longer shorter faster slower increase "
    "increases increased increasing decrease decreases decreased decreasing rise rises fall falls "
    "both neither but up down positive negative left right same half twice double doubles "
    "doubled"
)
"""Words by which options contradict one another."""
_IS_FUNCTION_WORD = frozenset(_FUNCTION_WORDS.split())
_IS_DIRECTION = frozenset(_DIRECTIONS.split())


def parted(text: str) -> tuple[str, list[str]]:
    """What is asked, and the options, if there are at least two."""
    if "\nA" not in text and "\n(A" not in text:
        return text, []
    text = _ANSWER_CUE.sub("", text)
    options = _OPTION.findall(text)
    return _OPTION.sub("", text), options[:_MAX_OPTIONS] if len(options) > 1 else []


def compared(options: Sequence[str], stem_chars: int) -> list[int]:
    """The features in the order of ``OPTIONS``, in hundredths.

    The share of words that no other option has, the letters of a word (drawn towards the usual
    length), the options' share of the whole text, that of digits, and how many words give a
    direction (as a logarithm).
    """
    texts = list(map(str.lower, options))
    words = list(map(_WORD.findall, texts))
    every = list(chain.from_iterable(words))
    content = [set(one) - _IS_FUNCTION_WORD for one in words]
    spread, chars = sum(map(len, content)), sum(map(len, texts))
    letters = sum(map(len, every)) + _USUAL_LENGTH * _USUAL_WORDS
    values = (
        len(set().union(*content)) / spread if spread else 1.0,
        letters / (len(every) + _USUAL_WORDS),
        chars / (chars + stem_chars + 1),
        sum(len(_DIGIT.findall(text)) for text in texts) / (chars + 1),
        log1p(sum(map(_IS_DIRECTION.__contains__, every))),
    )
    return [min(int(100 * value), _MAX_HUNDREDTHS) for value in values]
