"""Looks for attempts to talk a model out of its instructions, and does what the policy says.

Who writes the system's own messages is trusted with them: only what users and tools say is
examined. Long texts that were found harmless once are remembered, so that a growing chat is not
examined anew at every turn.
"""

from __future__ import annotations

from typing import Literal

from edge_tier.gateway.injection import detect
from edge_tier.gateway.memo import CleanTexts
from edge_tier.gateway.request import Finding, Prompt, Rules
from wire.errors import RequestInvalidError

INJECTION = "injection"
_MIN_CHARS = 256
"""Shorter texts are not worth remembering."""
_FROM_OUTSIDE = frozenset({"user", "tool"})


class InjectionBlockedError(RequestInvalidError):
    """The policy refuses what looks like an attack on the model's instructions."""

    code = "prompt_injection"


class Screening:
    """Args:
    max_bytes: bound on the remembered texts.
    """

    def __init__(self, max_bytes: int) -> None:
        self._harmless = CleanTexts(max_bytes)

    def screen(self, prompt: Prompt, rules: Rules) -> tuple[Finding, ...]:
        """What was found; nothing for nearly all prompts.

        Raises:
            InjectionBlockedError: an attack, and the policy says ``block``.
        """
        if rules.injection == "off":
            return ()
        known = int(rules.injection_threshold * 1e9)
        action: Literal["flag", "block"] = "block" if rules.injection == "block" else "flag"
        found = []
        for part, text in _outside(prompt):
            long = len(text) >= _MIN_CHARS
            if long and self._harmless.holds(known, text):
                continue
            if detect((text,), rules.injection_threshold).flagged:
                found.append(Finding(INJECTION, part, 0, len(text), action))
            elif long:
                self._harmless.add(known, text)
        if found and rules.injection == "block" and not rules.shadow:
            raise InjectionBlockedError(
                "the prompt looks like an attempt to override the model's instructions, which the "
                "policy of this key refuses"
            )
        return tuple(found)


def _outside(prompt: Prompt) -> list[tuple[int, str]]:
    """The texts to examine, with their place among all texts."""
    if prompt.kind != "chat":
        return list(enumerate(prompt.texts()))
    return [
        (part, message.content)
        for part, message in enumerate(prompt.messages)
        if message.role in _FROM_OUTSIDE and message.content
    ]
