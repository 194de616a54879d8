"""The sanitize stage: texts that hide nothing, and what was found in them.

Per text: hidden characters are cut (``hidden``), then personal data and secrets are looked for in
what remains (``personal_data``), so that a zero-width space inside a card number hides nothing; the
caller's policy says whether they are flagged, masked or refused. One RE2 pass with the triggers of
all detectors finds most texts clean, and then the very same prompt is returned.

Literals of control tokens in content are harmless, because the tokenize stage encodes them as plain
text; they are reported here only as a sign of an attempt.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import msgspec
import re2

from edge_tier.gateway import hidden, personal_data
from edge_tier.gateway.personal_data import DETECTORS, Match
from edge_tier.gateway.request import Finding, Message, Policy, Prompt, Sanitized
from wire.errors import RequestInvalidError

CONTROL_LITERAL = "control_literal"
_SCREEN_MEMORY_BYTES = 64 * 1024 * 1024


class PersonalDataBlockedError(RequestInvalidError):
    """The caller's policy refuses personal data; the message names its kinds, never its text."""

    code = "personal_data_blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitizeConfig:
    """Bounds on the work for one prompt."""

    max_hidden_candidates: int = hidden.MAX_CANDIDATES
    """Invisible characters (or runs of them) that are weighed."""
    max_personal_candidates: int = personal_data.MAX_CANDIDATES
    """Numbers, names and keys that are checked for being personal data."""


class ControlLiterals:
    """Finds the literals of a model's control tokens. Build it once per tokenizer."""

    def __init__(self, literals: Iterable[str]) -> None:
        longest_first = sorted(filter(None, literals), key=len, reverse=True)
        escaped = "|".join(re2.escape(literal) for literal in longest_first)
        self._pattern = re2.compile(escaped) if escaped else None

    def occur(self, data: bytes) -> bool:
        """Whether any occurs in UTF-8 ``data``."""
        return self._pattern is not None and self._pattern.search(data) is not None

    def find(self, text: str) -> list[Match]:
        found = self._pattern.finditer(text) if self._pattern is not None else ()
        return [Match(CONTROL_LITERAL, *match.span()) for match in found]


class _Examined(NamedTuple):
    """One text without its hidden characters, and what was found. Matches are offsets in it."""

    text: str
    cuts: list[hidden.Cut]
    personal: list[Match]
    literals: list[Match]


@dataclass(slots=True)
class _Budget:
    """What may still be weighed in this prompt."""

    hidden: int
    personal: int


def _screen() -> re2.Set:
    """All triggers as one automaton: hidden characters first, then each detector's."""
    options = re2.Options()
    options.max_mem = _SCREEN_MEMORY_BYTES
    screen = re2.Set.SearchSet(options)
    for trigger in (hidden.TRIGGER, *(detector.trigger for detector in DETECTORS)):
        screen.Add(trigger)
    screen.Compile()
    return screen


_SCREEN = _screen()
_HIDDEN = 0
_LITERAL = -1
_DEFAULTS = SanitizeConfig()


def sanitize(
    prompt: Prompt,
    policy: Policy,
    *,
    literals: ControlLiterals | None = None,
    config: SanitizeConfig = _DEFAULTS,
) -> Sanitized:
    """Clean the texts of a prompt. A clean prompt is returned as the same object.

    Raises:
        PersonalDataBlockedError: personal data, and the policy says ``block``.
        HiddenTextError, TooMuchPersonalDataError: beyond ``config``.
    """
    texts = prompt.texts()
    suspicions = [_suspicions(text, literals) for text in texts]
    if not any(suspicions):
        return Sanitized(prompt)
    budget = _Budget(config.max_hidden_candidates, config.max_personal_candidates)
    examined = [
        _examine(text, suspected, policy, literals, budget)
        for text, suspected in zip(texts, suspicions, strict=True)
    ]
    if (policy.personal_data or "flag") == "block":
        _refuse_personal(examined)
    findings = [finding for part, one in enumerate(examined) for finding in _findings(part, one)]
    mask = policy.personal_data == "mask"
    cleaned = tuple(_masked(one.text, one.personal) if mask else one.text for one in examined)
    return Sanitized(_with_texts(prompt, texts, cleaned), tuple(findings))


def _suspicions(text: str, literals: ControlLiterals | None) -> list[int]:
    """Which triggers occur; empty for most texts."""
    try:
        data = text.encode()
    except UnicodeEncodeError:  # lone surrogates, which are cut like all that cannot be written
        return [_HIDDEN]
    suspected: list[int] = _SCREEN.Match(data) or []
    if literals is not None and literals.occur(data):
        return [*suspected, _LITERAL]
    return suspected


def _examine(
    text: str,
    suspected: list[int],
    policy: Policy,
    literals: ControlLiterals | None,
    budget: _Budget,
) -> _Examined:
    cuts: list[hidden.Cut] = []
    if _HIDDEN in suspected:
        cuts, weighed = hidden.hidden(text, budget.hidden)
        budget.hidden -= weighed
    if cuts:
        text = hidden.without(text, cuts)
        # What the cuts brought together may be a literal or a number now.
        suspected = _suspicions(text, literals)
    personal: list[Match] = []
    detectors = [DETECTORS[index - 1] for index in sorted(suspected) if index > _HIDDEN]
    if detectors and policy.personal_data != "off":
        personal, checked = personal_data.find(text, detectors, budget.personal)
        budget.personal -= checked
    found = literals.find(text) if literals is not None and _LITERAL in suspected else []
    return _Examined(text, cuts, personal, found)


def _refuse_personal(examined: list[_Examined]) -> None:
    kinds = {match.kind for one in examined for match in one.personal}
    if kinds:
        raise PersonalDataBlockedError(
            f"the prompt holds personal data or secrets ({', '.join(sorted(kinds))}), which the "
            "policy of this key refuses; remove them and try again"
        )


def _findings(part: int, one: _Examined) -> list[Finding]:
    """All findings of one text in order, at offsets in the text as it was received."""
    found = [Finding(cut.name, part, cut.start, cut.end) for cut in one.cuts]
    # Where each cut stands in the cleaned text, and how much is gone up to and with it.
    gone = list(accumulate((cut.end - cut.start for cut in one.cuts), initial=0))
    places = [cut.start - before for cut, before in zip(one.cuts, gone, strict=False)]
    for kind, start, end in (*one.personal, *one.literals):
        received_start = start + gone[bisect_right(places, start)]
        received_end = end + gone[bisect_left(places, end)]
        found.append(Finding(kind, part, received_start, received_end))
    return sorted(found, key=lambda finding: (finding.start, finding.end))


def _masked(text: str, matches: list[Match]) -> str:
    pieces: list[str] = []
    at = 0
    for kind, start, end in matches:
        pieces += (text[at:start], f"[{kind.upper()}]")
        at = end
    return "".join((*pieces, text[at:]))


def _with_texts(prompt: Prompt, texts: tuple[str, ...], cleaned: tuple[str, ...]) -> Prompt:
    if cleaned == texts:
        return prompt
    if prompt.kind == "completion":
        return msgspec.structs.replace(prompt, text=cleaned[0])
    pairs = zip(prompt.messages, cleaned, strict=True)
    return msgspec.structs.replace(
        prompt, messages=tuple(Message(message.role, text) for message, text in pairs)
    )
