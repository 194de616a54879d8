"""Characters that hide text or change how it reads, and where they are legitimate.

A pattern finds candidates; each is cut unless its neighbours make it part of ordinary writing:

- tag characters only in the flags of England, Scotland and Wales (UTS #51, RGI tag sequences);
- variation selectors one at a time, after a base they vary (UTS #51 section 1.4.3, UTS #37), so
  that no bytes can be smuggled in runs of them;
- ZWJ between emoji, ZWJ and ZWNJ beside scripts that join (UAX #31 section 2.3), ZWSP beside
  scripts written without spaces;
- directional marks (LRM, RLM, ALM); embeddings and isolates where a line that has right-to-left
  letters closes them all; directional overrides never (UAX #9, UTR #36 section 3.1).

Control characters other than TAB, LF and CR, interlinear annotation, noncharacters and lone
surrogates are always cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

from edge_tier.gateway.code_points import (
    ANNOTATION,
    BIDI_CONTROL,
    BIDI_MARK,
    CONTROL,
    EMOJI,
    IDEOGRAPH,
    JAMO,
    JOINER,
    JOINING,
    NONCHARACTER,
    RIGHT_TO_LEFT,
    SELECTOR,
    STANDARD_VARIATION,
    SURROGATE,
    TAG,
    WITHOUT_SPACES,
    ZERO_WIDTH,
    Ranges,
)
from wire.errors import RequestInvalidError

_BLACK_FLAG = "\U0001f3f4"
_FLAG_TAGS = tuple(
    "".join(chr(0xE0000 + ord(char)) for char in region) + "\U000e007f"
    for region in ("gbeng", "gbsct", "gbwls")
)
MAX_CANDIDATES = 20_000
"""Default bound on what is weighed in one text; a Persian text has one in some 25 characters."""

_KEYCAPS = frozenset("0123456789#*")
_MAX_MARKS = 2
_MAX_BIDI_CONTROLS = 1_000
_SLICE_CHARS = 32 * 1024
"""Python's ``re`` holds the GIL while it searches, some 0.5 ms for so many characters."""

_KINDS: dict[str, Ranges] = {
    "control": CONTROL,
    "unicode_tag": TAG,
    "bidi_control": BIDI_CONTROL,
    "bidi_mark": BIDI_MARK,
    "joiner": JOINER,
    "zero_width": ZERO_WIDTH,
    "variation_selector": SELECTOR,
    "annotation": ANNOTATION,
    "noncharacter": NONCHARACTER,
    "surrogate": SURROGATE,
}
NAMES = frozenset(_KINDS)
"""What findings of hidden characters are called."""
_KIND = {
    chr(code): kind
    for kind, ranges in _KINDS.items()
    for low, high in ranges
    for code in range(low, high + 1)
}


def _char_class(groups: Iterable[Ranges], escape: str) -> str:
    pairs = [pair for ranges in groups for pair in ranges]
    return "[" + "".join(escape % low + "-" + escape % high for low, high in pairs) + "]"


def _one_of(*groups: Ranges) -> str:
    """A character class for ``re``."""
    return _char_class(groups, "\\U%08x")


_CANDIDATES = re.compile(_one_of(*_KINDS.values()) + "+")
_IS_BIDI_CONTROL = re.compile(_one_of(BIDI_CONTROL))
_BIDI_OR_LINE_END = re.compile(rf"{_one_of(BIDI_CONTROL)}|(?P<end>[\n\r\u2029]|\Z)")
_IS_RIGHT_TO_LEFT = re.compile(_one_of(RIGHT_TO_LEFT))
_IS_JOINING = re.compile(_one_of(JOINING))
_IS_WITHOUT_SPACES = re.compile(_one_of(WITHOUT_SPACES))
_IS_EMOJI = re.compile(_one_of(EMOJI))
_IS_IDEOGRAPH = re.compile(_one_of(IDEOGRAPH))
_IS_STANDARD_VARIATION = re.compile(_one_of(STANDARD_VARIATION))
_IS_JAMO = re.compile(_one_of(JAMO))

TRIGGER = _char_class((ranges for kind, ranges in _KINDS.items() if kind != "surrogate"), r"\x{%x}")
"""RE2 pattern: UTF-8 in which it finds nothing holds no candidate (surrogates are not UTF-8)."""


class HiddenTextError(RequestInvalidError):
    """More hidden characters than any writing needs, and than we want to weigh one by one."""

    code = "too_many_hidden_characters"


class Cut(NamedTuple):
    """Characters ``start`` to ``end`` of the text as received must go."""

    name: str
    start: int
    end: int


class Weighed(NamedTuple):
    """What must be cut, in order, not overlapping; and how many candidates were weighed."""

    cuts: list[Cut]
    candidates: int


def hidden(text: str, max_candidates: int = MAX_CANDIDATES) -> Weighed:
    """Weigh every candidate in ``text``. Takes time linear in its length.

    Raises:
        HiddenTextError: more than ``max_candidates`` runs of one kind to decide on.
    """
    cuts: list[Cut] = []
    closed = _closed_controls(text)
    candidates = 0
    for begin, end in _candidate_runs(text):
        stop = begin
        before = text[stop - 1] if stop else ""
        for run in _runs_of_one_kind(text[begin:end]):
            candidates += 1
            if candidates > max_candidates:
                raise HiddenTextError("the prompt holds too many invisible or control characters")
            kind = _KIND[run[0]]
            start, stop = stop, stop + len(run)
            if kind == "bidi_control" and closed:
                cuts += [Cut(kind, at, at + 1) for at in range(start, stop) if at not in closed]
                continue
            # What was cut just before counts for nothing; the last kept character is the base.
            kept = min(_kept(kind, run, before, text[stop : stop + 1]), len(run))
            if kept:
                before = run[kept - 1]
            if kept < len(run):
                cuts.append(Cut(kind, start + kept, stop))
    return Weighed(cuts, candidates)


def without(text: str, cuts: list[Cut]) -> str:
    """``text`` without what is cut."""
    bounds = [0, *(bound for cut in cuts for bound in (cut.start, cut.end)), len(text)]
    return "".join([text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True)])


def _candidate_runs(text: str) -> Iterator[tuple[int, int]]:
    """Where candidates stand side by side. A run may go on in the next slice."""
    begin = end = 0
    for at in range(0, len(text), _SLICE_CHARS):
        for match in _CANDIDATES.finditer(text, at, at + _SLICE_CHARS):
            start, stop = match.span()
            if start > end and end:
                yield begin, end
            if start > end or not end:
                begin = start
            end = stop
    if end:
        yield begin, end


def _runs_of_one_kind(run: str) -> Iterable[str]:
    if len(run) == 1:
        return (run,)
    return ("".join(group) for _, group in groupby(run, _KIND.__getitem__))


def _kept(name: str, run: str, before: str, after: str) -> int:
    """How many characters at the start of a run of candidates are legitimate."""
    if _KIND.get(before) == name:
        return 0  # what stood between two runs was cut, so this run continues the one before
    if name == "unicode_tag" and before == _BLACK_FLAG:
        return next((len(tags) for tags in _FLAG_TAGS if run.startswith(tags)), 0)
    if name == "bidi_mark":
        return _MAX_MARKS
    if name == "joiner":
        return int(_joins(run[0], before, after))
    if name == "variation_selector":
        return int(_varies(run[0], before))
    if name == "zero_width":
        return int(_is_spacing(run[0], before, after))
    return 0


def _joins(joiner: str, before: str, after: str) -> bool:
    if _IS_JOINING.match(before) or _IS_JOINING.match(after):
        return True
    follows_emoji = _IS_EMOJI.match(before) or before in ("\ufe0f", "\u20e3", "\U000e007f")
    return bool(joiner == "\u200d" and before and follows_emoji and _IS_EMOJI.match(after))


def _varies(selector: str, before: str) -> bool:
    if selector in "\ufe0e\ufe0f":
        emoji = before in _KEYCAPS or _IS_EMOJI.match(before)
        return bool(emoji or _IS_STANDARD_VARIATION.match(before))
    bases = _IS_STANDARD_VARIATION if selector <= "\ufe0f" else _IS_IDEOGRAPH
    return bool(bases.match(before))


def _is_spacing(char: str, before: str, after: str) -> bool:
    if char == "\u200b":
        return bool(_IS_WITHOUT_SPACES.match(before) or _IS_WITHOUT_SPACES.match(after))
    if char in "\u115f\u1160":
        return bool(_IS_JAMO.match(before) or _IS_JAMO.match(after))
    return False


def _closed_controls(text: str) -> set[int]:
    """Where embeddings and isolates stand that a line with right-to-left letters closes in order.

    One that is left open, or closes nothing, spoils the line: then all of its controls go. So they
    do in a text with more of them than any writing needs.
    """
    closed: set[int] = set()
    slices = range(0, len(text), _SLICE_CHARS)
    controls = sum(
        1 for at in slices for _ in _IS_BIDI_CONTROL.finditer(text, at, at + _SLICE_CHARS)
    )
    if not 0 < controls <= _MAX_BIDI_CONTROLS:
        return closed
    line: list[int] = []
    start = 0
    for match in _BIDI_OR_LINE_END.finditer(text):
        if match["end"] is None:
            line.append(match.start())
            continue
        if line and _IS_RIGHT_TO_LEFT.search(text, start, match.start()):
            closed |= _pairs(text, line)
        line = []
        start = match.end()
    return closed


def _pairs(text: str, controls: list[int]) -> set[int]:
    """The legitimate controls of one line: properly nested, overrides and their ends left out."""
    closers = {"\u202a": "\u202c", "\u202b": "\u202c", "\u202d": "\u202c", "\u202e": "\u202c"}
    open_at: list[int] = []
    kept: set[int] = set()
    for at in controls:
        char = text[at]
        if char not in "\u202c\u2069":
            open_at.append(at)
            continue
        if not open_at or closers.get(text[open_at[-1]], "\u2069") != char:
            return set()
        opened = open_at.pop()
        if text[opened] not in "\u202d\u202e":
            kept |= {opened, at}
    return set() if open_at else kept
