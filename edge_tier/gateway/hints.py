"""What a request itself asks of routing: the ``x-headwater-*`` headers. Pure.

A hint may choose among what the policy allows; it never loosens it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from edge_tier.gateway.request import Priority, Privacy, Target
from wire.errors import RequestInvalidError

T = TypeVar("T")
Quality = Literal["draft", "standard", "high"]
Cost = Literal["low", "any"]

PREFIX = "x-headwater-"
NAMES = ("privacy", "prefer", "latency", "quality", "cost", "residency")
"""Of the hints; what stands behind ``PREFIX``."""
_PRIVACY: dict[str, Privacy] = {"any": "any", "local": "local"}
_TARGETS: dict[str, Target] = {"worker": "worker", "local": "worker", "cloud": "cloud"}
_LATENCY: dict[str, Priority] = {"interactive": "interactive", "batch": "batch"}
_QUALITY: dict[str, Quality] = {"draft": "draft", "standard": "standard", "high": "high"}
_COST: dict[str, Cost] = {"low": "low", "any": "any"}
_IS_HINT = re.compile(PREFIX).match
REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What the request asks of routing. ``None``: nothing."""

    privacy: Privacy | None = None
    prefer: Target | None = None
    latency: Priority = "interactive"
    quality: Quality = "standard"
    cost: Cost = "any"
    residency: str = ""
    """The region that this prompt must not leave."""


NONE = Hints()


def parse_hints(headers: Mapping[str, str]) -> Hints:
    """The hints among headers, whose names are in lower case.

    Raises:
        RequestInvalidError: a value that is none of the allowed; names the header.
    """
    if not any(map(_IS_HINT, headers)):
        return NONE
    return Hints(
        privacy=_choice(headers, "privacy", _PRIVACY, None),
        prefer=_choice(headers, "prefer", _TARGETS, None),
        latency=_choice(headers, "latency", _LATENCY, "interactive"),
        quality=_choice(headers, "quality", _QUALITY, "standard"),
        cost=_choice(headers, "cost", _COST, "any"),
        residency=_region(headers.get(f"{PREFIX}residency")),
    )


def _choice(headers: Mapping[str, str], name: str, allowed: Mapping[str, T], default: T) -> T:
    text = headers.get(f"{PREFIX}{name}")
    if text is None:
        return default
    value = allowed.get(text.strip().lower())
    if value is None:
        raise RequestInvalidError(f"header {PREFIX}{name} is one of {', '.join(sorted(allowed))}")
    return value


def _region(text: str | None) -> str:
    if text is None:
        return ""
    region = text.strip().lower()
    # An empty one is refused too: who sends the header wants a region, and may have lost its name.
    if not REGION.fullmatch(region):
        raise RequestInvalidError(
            f"header {PREFIX}residency is a region: 1 to 32 letters, digits and dashes"
        )
    return region
