"""The sanitize stage: texts that hide nothing, and what was found in them.

Per text, in this order, because each step must see what the one before it brings to light:

1. hidden characters are cut (``hidden``);
2. words in borrowed letters are found and, by policy, folded into the letters that they look like
   (``homoglyphs``);
3. personal data and secrets are looked for in that, whatever digits they are written in
   (``personal_data``), and flagged, masked, replaced by reversible placeholders or refused;
4. deny lists and topics (``content``);
5. literals of control tokens in what remains. They are harmless, because the tokenize stage encodes
   them as plain text, and are reported as a sign of an attempt and for engines that get text.

One RE2 pass with the triggers of all of it finds most texts clean, and then the very same prompt is
returned. In shadow mode everything is found and nothing is changed or refused.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import msgspec

from edge_tier.gateway import hidden, homoglyphs, personal_data
from edge_tier.gateway.content import ContentBlockedError, ContentScreen, Screens
from edge_tier.gateway.examine import Budget, Examined, action_of, examine
from edge_tier.gateway.homoglyphs import HOMOGLYPH
from edge_tier.gateway.json_text import without_escapes
from edge_tier.gateway.memo import Known, Memo
from edge_tier.gateway.personal_data import KINDS
from edge_tier.gateway.placeholders import Placeholders
from edge_tier.gateway.request import ContentRule, Finding, PersonalAction, Prompt, Rules, Sanitized
from edge_tier.gateway.screen import CONTROL_LITERAL, ControlLiterals
from wire.errors import RequestInvalidError

__all__ = [
    "CONTROL_LITERAL",
    "ContentBlockedError",
    "ControlLiterals",
    "HomoglyphsBlockedError",
    "PersonalDataBlockedError",
    "SanitizeConfig",
    "must_not_leave",
    "sanitize",
]

Memory = Memo[ControlLiterals | None]
Action = Literal["flag", "cut", "mask", "replace", "block"]
_ACTIONS: dict[PersonalAction, Action] = {
    "flag": "flag",
    "mask": "mask",
    "block": "block",
    "restore": "replace",
}
_HOMOGLYPH_ACTIONS: dict[str, Action] = {"fold": "replace", "block": "block"}
_JOINED_CHARS = 16 * 1024
"""Texts of so many characters together are screened at once."""
_NO_LITERALS = ControlLiterals(())


class PersonalDataBlockedError(RequestInvalidError):
    """The caller's policy refuses personal data; the message names its kinds, never its text."""

    code = "personal_data_blocked"


class HomoglyphsBlockedError(RequestInvalidError):
    """The caller's policy refuses words written in letters of several scripts."""

    code = "homoglyphs_blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SanitizeConfig:
    """Bounds on the work for one prompt."""

    max_hidden_candidates: int = hidden.MAX_CANDIDATES
    """Invisible characters (or runs of them) that are weighed."""
    max_personal_candidates: int = personal_data.MAX_CANDIDATES
    """Numbers, names and keys that are checked for being personal data."""
    max_homoglyph_words: int = homoglyphs.MAX_WORDS
    """Words of mixed letters that are weighed; what comes after them is not."""


_DEFAULTS = SanitizeConfig()


def sanitize(
    prompt: Prompt,
    rules: Rules,
    *,
    literals: ControlLiterals | None = None,
    memo: Memory | None = None,
    screens: Screens | None = None,
    config: SanitizeConfig = _DEFAULTS,
) -> Sanitized:
    """Clean the texts of a prompt. A clean prompt is returned as the same object.

    Safe to call from threads: RE2 searches without the GIL, and all other work goes in slices of a
    few milliseconds, so that a megabyte in a thread does not stop the event loop.

    Args:
        memo: what to remember; without one, content rules are compiled every time.
        screens: the content rules, where they are compiled already.

    Raises:
        PersonalDataBlockedError, HomoglyphsBlockedError, ContentBlockedError: the rules say so.
        HiddenTextError, TooMuchPersonalDataError: beyond ``config``.
        ConfigError: a content rule that cannot be compiled.
    """
    if memo is not None:
        known = memo.known(rules, literals, screens)
    else:
        known = Known(rules, literals, 0, screens)
    parts = _parts(prompt)
    unknown = parts.texts
    if memo is not None and max(map(len, unknown), default=0) >= memo.min_chars:
        unknown = tuple([t for n, t in enumerate(unknown) if not _is_known(parts, n, known, memo)])
    if _looks_clean(unknown, known, has_json=parts.json_until > parts.json_from):
        _remember(memo, known, unknown)
        return Sanitized(prompt)
    return _sanitize_all(prompt, parts, known, memo, config)


def must_not_leave(findings: Iterable[Finding], rules: Rules) -> bool:
    """Whether personal data or a secret still stands in a sanitized prompt."""
    return any(
        finding.name in KINDS and (rules.shadow or finding.action == "flag") for finding in findings
    )


class _Parts(NamedTuple):
    """The prompt's texts, and the strings at which to stop, which go on as well."""

    texts: tuple[str, ...]
    json_from: int
    """Texts from here on are JSON that an engine parses."""
    json_until: int
    """From here on they are strings at which to stop."""

    def is_json(self, part: int) -> bool:
        return self.json_from <= part < self.json_until


def _parts(prompt: Prompt) -> _Parts:
    texts = prompt.texts()
    json_from = len(prompt.messages) if prompt.kind == "chat" else len(texts)
    stop = prompt.sampling.stop
    return _Parts(texts + stop if stop else texts, json_from, len(texts))


def _with_parts(prompt: Prompt, parts: _Parts, cleaned: tuple[str, ...]) -> Prompt:
    if cleaned == parts.texts:
        return prompt
    prompt = prompt.with_texts(cleaned[: parts.json_until])
    if prompt.sampling.stop:
        stop = tuple(filter(None, cleaned[parts.json_until :]))
        sampling = msgspec.structs.replace(prompt.sampling, stop=stop)
        prompt = msgspec.structs.replace(prompt, sampling=sampling)
    return prompt


def _is_known(parts: _Parts, part: int, known: Known[ControlLiterals | None], memo: Memory) -> bool:
    text = parts.texts[part]
    # In JSON an escape may hide what a plain text shows, so that is remembered by itself.
    number = -known.number if parts.is_json(part) and "\\" in text else known.number
    return len(text) >= memo.min_chars and memo.clean.holds(number, text)


def _looks_clean(
    texts: tuple[str, ...], known: Known[ControlLiterals | None], *, has_json: bool
) -> bool:
    """Whether nothing at all occurs in any of the texts."""
    screen = known.literals or _NO_LITERALS
    if len(texts) == 1 and not has_json:
        return not (screen.suspicions(texts[0]) or (known.content and known.content.hits(texts[0])))
    if has_json and any("\\" in text for text in texts):
        return False
    if sum(map(len, texts)) <= _JOINED_CHARS:
        # No trigger looks beyond a line end, so it occurs in one of them or not at all.
        joined = "\n".join(texts)
        return not (screen.suspicions(joined) or (known.content and known.content.hits(joined)))
    return not any(
        screen.suspicions(text) or (known.content and known.content.hits(text)) for text in texts
    )


def _remember(
    memo: Memory | None, known: Known[ControlLiterals | None], texts: Iterable[str]
) -> None:
    if memo is not None:
        for text in texts:
            if len(text) >= memo.min_chars:
                memo.clean.add(known.number, text)


def _sanitize_all(
    prompt: Prompt,
    parts: _Parts,
    known: Known[ControlLiterals | None],
    memo: Memory | None,
    config: SanitizeConfig,
) -> Sanitized:
    rules, content = known.rules, known.content
    examined = _examine_all(parts, known, memo, config)
    met = content.met({hit for one in examined for hit in one.hits})
    if not rules.shadow:
        _refuse(examined, rules, {rule.name for rule in met if rule.action == "block"})
    findings = [
        finding
        for part, one in enumerate(examined)
        for finding in _findings(part, one, rules, content, met)
    ]
    if rules.shadow:
        findings += _new_literals(parts.texts, examined, known.literals)
        return Sanitized(prompt, tuple(findings))
    placeholders = Placeholders(one.text for one in examined)
    cleaned = tuple(
        _replaced(one, rules, placeholders, as_json=parts.is_json(part))
        for part, one in enumerate(examined)
    )
    findings += _new_literals(cleaned, examined, known.literals)
    return Sanitized(_with_parts(prompt, parts, cleaned), tuple(findings), placeholders.restore)


def _examine_all(
    parts: _Parts,
    known: Known[ControlLiterals | None],
    memo: Memory | None,
    config: SanitizeConfig,
) -> list[Examined]:
    """Every text in order; those that are known clean are not looked at again."""
    budget = Budget(
        config.max_hidden_candidates, config.max_personal_candidates, config.max_homoglyph_words
    )
    examined = []
    for part, text in enumerate(parts.texts):
        if memo is not None and _is_known(parts, part, known, memo):
            examined.append(Examined(text, text, [], [], [], [], []))
            continue
        as_json = parts.is_json(part)
        received = without_escapes(text) if as_json else text
        screen = known.literals or _NO_LITERALS
        # Names of fields, and what the client waits for, stay in the letters that it knows.
        one = examine(
            received, known.rules, screen, known.content, budget, fold=part < parts.json_from
        )
        examined.append(one)
        if memo is not None and len(text) >= memo.min_chars and received == text and one.is_clean:
            memo.clean.add(-known.number if as_json and "\\" in text else known.number, text)
    return examined


def _refuse(examined: list[Examined], rules: Rules, blocking: set[str]) -> None:
    """Raise where the rules refuse what was found."""
    if blocking:
        raise ContentBlockedError(
            f"the prompt meets the content rule {', '.join(sorted(blocking))}, which the policy of "
            "this key refuses"
        )
    kinds = {match.kind for one in examined for match in one.personal}
    refused = sorted(kind for kind in kinds if action_of(kind, rules) == "block")
    if refused:
        raise PersonalDataBlockedError(
            f"the prompt holds personal data or secrets ({', '.join(refused)}), which the "
            "policy of this key refuses; remove them and try again"
        )
    if rules.homoglyphs == "block" and any(one.tricks for one in examined):
        raise HomoglyphsBlockedError(
            "the prompt holds words in letters of several scripts that look alike, which the "
            "policy of this key refuses; write each word in one script"
        )


def _findings(
    part: int,
    one: Examined,
    rules: Rules,
    content: ContentScreen,
    met: list[ContentRule],
) -> list[Finding]:
    """All findings of one text in order, at offsets in the text as it was received."""
    found = [Finding(cut.name, part, cut.start, cut.end, "cut") for cut in one.cuts]
    # Where each cut stands in the cleaned text, and how much is gone up to and with it.
    gone = list(accumulate((cut.end - cut.start for cut in one.cuts), initial=0))
    places = [cut.start - before for cut, before in zip(one.cuts, gone, strict=False)]
    for name, start, end, action in _spans(one, rules, content, met):
        received_start = start + gone[bisect_right(places, start)]
        received_end = end + gone[bisect_left(places, end)]
        found.append(Finding(name, part, received_start, received_end, action))
    return sorted(found, key=lambda finding: (finding.start, finding.end))


def _spans(
    one: Examined, rules: Rules, content: ContentScreen, met: list[ContentRule]
) -> Iterable[tuple[str, int, int, Action]]:
    for kind, start, end in one.personal:
        yield kind, start, end, _ACTIONS[action_of(kind, rules)]
    for kind, start, end in one.literals:
        yield kind, start, end, "flag"
    action = _HOMOGLYPH_ACTIONS.get(rules.homoglyphs, "flag")
    for start, end in one.tricks:
        yield HOMOGLYPH, start, end, action
    for rule in met:
        span = content.first_span(one.text, one.hits, rule)
        if span is not None:
            yield rule.name, *span, rule.action


def _replaced(one: Examined, rules: Rules, placeholders: Placeholders, *, as_json: bool) -> str:
    """The text with its personal data masked, or placeholders for them."""
    pieces: list[str] = []
    at = 0
    for kind, start, end in one.personal:
        action = action_of(kind, rules)
        if action == "mask":
            pieces += (one.text[at:start], f"[{kind.upper()}]")
        elif action == "restore":
            value = one.text[start:end]
            value = _unescaped(value) if as_json else value
            pieces += (one.text[at:start], placeholders.of(kind, value))
        else:
            continue
        at = end
    return "".join((*pieces, one.text[at:])) if pieces else one.text


def _unescaped(text: str) -> str:
    """What a part of a JSON string stands for."""
    try:
        return msgspec.json.decode(f'"{text}"', type=str)
    except (msgspec.DecodeError, UnicodeError):
        return text


def _new_literals(
    texts: tuple[str, ...], examined: list[Examined], literals: ControlLiterals | None
) -> list[Finding]:
    """Texts that hold a literal now though none was found in what was examined: replacing, or in
    shadow mode not cutting, may have put one together.
    """
    return [
        Finding(CONTROL_LITERAL, part, 0, len(one.received))
        for part, (text, one) in enumerate(zip(texts, examined, strict=True))
        if text != one.text and not one.literals and literals is not None and literals.occur(text)
    ]
