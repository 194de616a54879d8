"""What the sanitizer finds in one text, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edge_tier.gateway import hidden, homoglyphs, personal_data
from edge_tier.gateway.content import ContentScreen
from edge_tier.gateway.personal_data import DETECTORS, Match
from edge_tier.gateway.request import PersonalAction, Rules
from edge_tier.gateway.screen import (
    FIRST_DETECTOR,
    HIDDEN,
    HOMOGLYPHS,
    LITERAL,
    OTHER_DIGITS,
    ControlLiterals,
)


class Examined(NamedTuple):
    """One text without its hidden characters, and what was found. Matches are offsets in it."""

    received: str
    text: str
    cuts: list[hidden.Cut]
    tricks: list[homoglyphs.Trick]
    personal: list[Match]
    hits: list[int]
    literals: list[Match]

    @property
    def is_clean(self) -> bool:
        return not any(self[2:])


@dataclass(slots=True)
class Budget:
    """What may still be weighed in this prompt."""

    hidden: int
    personal: int
    words: int


def examine(
    received: str,
    rules: Rules,
    screen: ControlLiterals,
    content: ContentScreen,
    budget: Budget,
    *,
    fold: bool,
) -> Examined:
    """Look for everything in one text.

    Args:
        fold: whether words may be folded at all, where the rules want it.

    Raises:
        HiddenTextError, TooMuchPersonalDataError: more than the budget allows.
    """
    text = received
    suspected = screen.suspicions(text)
    cuts: list[hidden.Cut] = []
    if HIDDEN in suspected:
        cuts, weighed = hidden.hidden(text, budget.hidden)
        budget.hidden -= weighed
    if cuts:
        text = hidden.without(text, cuts)
        # What the cuts brought together may be a literal or a number now.
        suspected = screen.suspicions(text)
    tricks: list[homoglyphs.Trick] = []
    if HOMOGLYPHS in suspected and rules.homoglyphs != "off":
        tricks, weighed = homoglyphs.homoglyphs(text, budget.words)
        budget.words -= weighed
    plain = homoglyphs.folded(text, tricks) if tricks else text
    if rules.homoglyphs == "fold" and fold:
        text = plain
    if OTHER_DIGITS in suspected:
        plain = personal_data.with_ascii_digits(plain)
    if plain is not text or tricks:
        suspected = screen.suspicions(plain)
    personal = _personal(plain, suspected, rules, budget)
    hits = content.hits(text) if content else []
    found = screen.find(text) if LITERAL in suspected or plain is not text else []
    return Examined(received, text, cuts, tricks, personal, hits, found)


def _personal(plain: str, suspected: list[int], rules: Rules, budget: Budget) -> list[Match]:
    detectors = [
        DETECTORS[index - FIRST_DETECTOR]
        for index in sorted(suspected)
        if FIRST_DETECTOR <= index < LITERAL
    ]
    wanted = [detector for detector in detectors if action_of(detector.kind, rules) != "off"]
    if not wanted:
        return []
    found, checked = personal_data.find(plain, wanted, budget.personal)
    budget.personal -= checked
    return found


def action_of(kind: str, rules: Rules) -> PersonalAction:
    """What the rules say about a kind of personal data."""
    return rules.personal_kinds.get(kind, rules.personal_data)
