"""Deny lists and topics of a policy: on what is asked, and on the answer as it streams.

All words and patterns of a policy are one RE2 set, searched for at once in a *view* of the text;
whether a word that occurs stands there whole is then decided by a pattern of its own. In the view
compatible characters are the same (NFKC), look-alikes are the Latin letters, and case and invisible
characters are gone; so neither full-width letters nor Cyrillic ones nor a zero-width space get a
word by. Words match whole, except at a character of a script that is written without spaces.
Patterns see the text as it is, too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import re2

from edge_tier.gateway.code_points import (
    BIDI_CONTROL,
    BIDI_MARK,
    JOINER,
    SELECTOR,
    TAG,
    ZERO_WIDTH,
)
from edge_tier.gateway.homoglyphs import CONFUSABLES, SLICE_CHARS
from edge_tier.gateway.request import ContentRule
from wire.errors import ConfigError, RequestInvalidError

Side = Literal["input", "output"]

MAX_HOLD_CHARS = 128
"""Default bound on what a scanner holds back of an answer."""
_MAX_SPACES = 4
"""White space between two words of a phrase."""
_MEMORY_BYTES = 64 * 1024 * 1024
_INVISIBLE = {
    code: None
    for ranges in (ZERO_WIDTH, BIDI_CONTROL, BIDI_MARK, JOINER, SELECTOR, TAG)
    for low, high in ranges
    for code in range(low, high + 1)
}
_SAME = _INVISIBLE | CONFUSABLES
_MARKS = dict.fromkeys(range(0x300, 0x370))
_HAS_MARK = re.compile("[\u0300-\u036f]")
_NO_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_IS_NO_SPACES = re2.compile(f"[{_NO_SPACES}]")
_EDGE = r"[^\pL\pM\pN_]"
_NOT_WORD = re.compile(r"\W")
_LAST_NOT_WORD = re.compile(r"(?s).*\W")


class ContentBlockedError(RequestInvalidError):
    """A content rule of the policy refuses the prompt; the message names it, never the text."""

    code = "content_filter"


class Screens(NamedTuple):
    """The content rules of one policy, compiled for both sides."""

    input: ContentScreen
    output: ContentScreen

    @classmethod
    def of(cls, rules: Iterable[ContentRule]) -> Screens:
        """Raises ``ConfigError``, as :class:`ContentScreen` does."""
        rules = tuple(rules)
        return cls(ContentScreen(rules, "input"), ContentScreen(rules, "output"))


class ContentScreen:
    """The content rules of one policy for one side, compiled once. Safe to share.

    Raises:
        ConfigError: an empty word, or a pattern that RE2 does not take.
    """

    def __init__(self, rules: Iterable[ContentRule], side: Side) -> None:
        self.rules = tuple(rule for rule in rules if side in rule.sides)
        self._owners: list[int] = []
        self._sources: list[str] = []
        self._compiled: dict[int, Any] = {}
        words = [word for rule in self.rules for word in rule.words]
        self.longest = max(map(_longest, words), default=0)
        """Characters of the longest word or phrase."""
        self.has_patterns = any(rule.patterns for rule in self.rules)
        if not self.rules:
            return
        options = re2.Options()
        options.max_mem = _MEMORY_BYTES
        options.case_sensitive = False
        options.log_errors = False
        self._set = re2.Set.SearchSet(options)
        for owner, rule in enumerate(self.rules):
            for word in rule.words:
                if not view(word).strip():
                    raise ConfigError(f"content rule {rule.name!r} has an empty word; remove it")
                self._add(owner, _spelled(word), _whole(word))
            for pattern in rule.patterns:
                _check(rule.name, pattern)
                self._add(owner, pattern, pattern)
        if self._sources:
            self._set.Compile()

    def __bool__(self) -> bool:
        return bool(self._sources)

    def hits(self, text: str) -> list[int]:
        """Which words and patterns occur in a whole text, by number."""
        return self.hits_in_part(f"\n{text}\n")

    def hits_in_part(self, text: str) -> list[int]:
        """The same of a part of a text: words count only between two characters of no word."""
        found: set[int] = set()
        if not self._sources:
            return []
        for seen in (text, *views(text)):
            data = seen.encode(errors="replace")
            for number in self._set.Match(data) or ():
                if number not in found and self._exact(number).search(data) is not None:
                    found.add(number)
        return sorted(found)

    def met(self, found: Iterable[int]) -> list[ContentRule]:
        """The rules that have enough hits."""
        counts: dict[int, int] = {}
        for number in set(found):
            counts[self._owners[number]] = counts.get(self._owners[number], 0) + 1
        return [
            rule
            for owner, rule in enumerate(self.rules)
            if 0 < rule.min_hits <= counts.get(owner, 0)
        ]

    def first_span(
        self, text: str, found: Iterable[int], rule: ContentRule
    ) -> tuple[int, int] | None:
        """Where the first hit of a rule stands; the whole text where its view has other places."""
        numbers = [number for number in found if self.rules[self._owners[number]] is rule]
        if not numbers:
            return None
        for seen in (text, *views(text)):
            if len(seen) != len(text):
                continue
            for number in numbers:
                match = self._exact(number).search(f"\n{seen}\n".encode(errors="replace"))
                if match is not None:
                    return _in_characters(seen, *match.span(min(1, match.re.groups)))
        return 0, len(text)

    def _add(self, owner: int, source: str, exact: str) -> None:
        self._set.Add(source)
        self._owners.append(owner)
        self._sources.append(exact)

    def _exact(self, number: int) -> Any:
        """The pattern that decides, compiled when it is first needed; most never are."""
        if number not in self._compiled:
            options = re2.Options()
            options.case_sensitive = False
            self._compiled[number] = re2.compile(self._sources[number].encode(), options)
        return self._compiled[number]


def view(text: str) -> str:
    """How a text is compared. Idempotent for what rules name."""
    if text.isascii():
        return text.lower()
    slices = (text[at : at + SLICE_CHARS] for at in range(0, len(text), SLICE_CHARS))
    return "".join(
        [unicodedata.normalize("NFKC", part).translate(_SAME).lower() for part in slices]
    )


def views(text: str) -> list[str]:
    """The views of a text that differ from it in more than case."""
    if text.isascii():
        return []
    seen = [view(text)]
    if _HAS_MARK.search(text) is not None:
        slices = (text[at : at + SLICE_CHARS] for at in range(0, len(text), SLICE_CHARS))
        seen.append(view("".join([part.translate(_MARKS) for part in slices])))
    return seen


class Scanner:
    """Looks for content that a policy denies in one answer as it streams.

    Text is examined up to the last character that ends a word, so that no verdict depends on where
    the pieces were cut; as much as the longest phrase is held back, so that none is shown before it
    is known. A pattern is given ``max_hold_chars`` for that; on a longer match the answer still
    ends, but its beginning was shown.
    """

    def __init__(
        self,
        screen: ContentScreen,
        max_hold_chars: int = MAX_HOLD_CHARS,
        *,
        shadow: bool = False,
    ) -> None:
        self.blocked = ""
        """The rule that ends the answer."""
        self.flagged: tuple[str, ...] = ()
        """Rules that are met and only flag; in shadow mode that is all of them."""
        self._shadow = shadow
        self._screen = screen
        self._max_hold = max(max_hold_chars, screen.longest + 2)
        self._hold = self._max_hold if screen.has_patterns else screen.longest
        self._found: set[int] = set()
        self._context = "\n"
        self._held = ""

    @property
    def holding(self) -> bool:
        return True

    def feed(self, text: str) -> str:
        """The text that may go on now; nothing any more once a rule has ended the answer."""
        if self.blocked:
            return ""
        self._held += text
        cut = self._settled(len(self._held) - len(text))
        if not cut:
            return ""
        self._examine(self._context + self._held[:cut])
        return self._release(min(cut, max(0, len(self._held) - self._hold)))

    def flush(self) -> str:
        """What was held back; the text has ended."""
        if self.blocked:
            return ""
        self._examine(self._context + self._held + "\n")
        return self._release(len(self._held))

    def _settled(self, new_from: int) -> int:
        """Up to where words are complete; 0 where that is not further than before."""
        match = _LAST_NOT_WORD.match(self._held, new_from)
        if match is not None:
            return match.end()
        # A word without end is no word of a rule; it must not be held without end either.
        return len(self._held) - self._max_hold if len(self._held) > 2 * self._max_hold else 0

    def _examine(self, window: str) -> None:
        found = self._screen.hits_in_part(window)
        if not found or self._found.issuperset(found):
            return
        self._found.update(found)
        met = self._screen.met(self._found)
        blocking = [rule.name for rule in met if rule.action == "block" and not self._shadow]
        self.blocked = next(iter(blocking), "")
        self.flagged = tuple(rule.name for rule in met if rule.name not in blocking)

    def _release(self, count: int) -> str:
        if self.blocked:
            self._held = ""
            return ""
        released, self._held = self._held[:count], self._held[count:]
        self._context = (self._context + released)[-self._max_hold :]
        return released


def _check(name: str, pattern: str) -> None:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0]
        raise ConfigError(
            f"content rule {name!r} has a pattern that RE2 does not take: {reason}"
        ) from error


def _spelled(word: str) -> str:
    """A word wherever it occurs."""
    parts = map(re2.escape, view(word).split())
    return rf"\s{{1,{_MAX_SPACES}}}".join(parts)


def _whole(word: str) -> str:
    """A word between characters of no word; the group is the word itself."""
    seen = view(word).strip()
    before = "" if _IS_NO_SPACES.match(seen[:1]) or _NOT_WORD.match(seen[:1]) else _EDGE
    after = "" if _IS_NO_SPACES.match(seen[-1:]) or _NOT_WORD.match(seen[-1:]) else _EDGE
    return f"{before}({_spelled(word)}){after}"


def _in_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """Byte offsets in a text between two line ends as character offsets in the text."""
    data = f"\n{text}\n".encode(errors="replace")
    first = len(data[:start].decode(errors="replace")) - 1
    last = first + len(data[start:end].decode(errors="replace"))
    return max(0, first), min(len(text), last)


def _longest(word: str) -> int:
    parts = view(word).split()
    return sum(map(len, parts)) + _MAX_SPACES * (len(parts) - 1)
