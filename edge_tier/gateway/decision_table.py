"""The decision table of a policy: rows of conditions, and what is decided where all of a row hold.

Pure. A table is compiled once, into functions that look at one fact each; the first row of which
all conditions hold decides. ``CONDITIONS`` is the whole vocabulary.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from edge_tier.gateway.request import Kind, Priority, Privacy, RouteRow
from wire.errors import ConfigError

Check = Callable[["Facts"], bool]


class Facts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a table may look at. A struct, as one is made for every request."""

    kind: Kind = "chat"
    model: str = "auto"
    """As the request names it."""
    tenant: str = ""
    latency: Priority = "interactive"
    quality: Literal["draft", "standard", "high"] = "standard"
    cost: Literal["low", "any"] = "any"
    privacy: Privacy = "any"
    residency: str = ""
    """The region that the prompt must not leave; empty: any."""
    regulations: frozenset[str] = frozenset()
    """Regimes that the prompt falls under."""
    cloud_region: str = ""
    cloud_ready: bool = True
    cloud_allowed: bool = True
    """No hard rule keeps the prompt here."""
    local_ready: bool = True
    complexity: float = 0.0
    prompt_tokens: int = 0
    total_tokens: int = 0
    """Of the prompt and at most of the answer."""
    cloud_cost: float = 0.0
    """What the cloud would charge at most, in the currency of its prices; 0 without prices."""
    budget_used: float = 0.0
    """The part of the caller's day's or month's tokens that is used, 0..1."""
    findings: frozenset[str] = frozenset()
    """Names of what was found; and ``personal`` for any personal data, ``injection``."""
    load: float = 0.0
    """Running and waiting requests per slot of the workers."""
    wait_s: float = 0.0
    """How long a request would wait for a local slot, about."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One word of the vocabulary."""

    meaning: str
    kind: Literal["one of", "number", "yes or no", "any of"]
    fact: str
    compare: Callable[[Any, Any], bool]
    """Of what the row says and what the fact is, in this order."""
    allowed: tuple[str, ...] = ()
    """For ``one of``; empty: any text."""


def _bounds(name: str, meaning: str, fact: str, unit: str = "") -> dict[str, Condition]:
    """A number's two conditions, of which the lower bound is included."""
    return {
        f"{name}_min{unit}": Condition(f"{meaning}, at least", "number", fact, operator.le),
        f"{name}_max{unit}": Condition(f"{meaning}, below", "number", fact, operator.gt),
    }


def _shares_any(wanted: tuple[str, ...], found: frozenset[str]) -> bool:
    return not found.isdisjoint(wanted)


CONDITIONS: dict[str, Condition] = {
    "latency": Condition(
        "how patient the request is",
        "one of",
        "latency",
        operator.contains,
        ("interactive", "batch"),
    ),
    "quality": Condition(
        "the quality asked for",
        "one of",
        "quality",
        operator.contains,
        ("draft", "standard", "high"),
    ),
    "cost": Condition("what it may cost", "one of", "cost", operator.contains, ("low", "any")),
    "privacy": Condition(
        "whether the prompt may leave", "one of", "privacy", operator.contains, ("any", "local")
    ),
    "residency": Condition(
        "the region the prompt must not leave", "one of", "residency", operator.contains
    ),
    "regulation": Condition(
        "a regime the prompt falls under",
        "any of",
        "regulations",
        _shares_any,
    ),
    "cloud_region": Condition("where the cloud is", "one of", "cloud_region", operator.contains),
    "kind": Condition(
        "what is asked for",
        "one of",
        "kind",
        operator.contains,
        ("chat", "completion", "embedding"),
    ),
    "model": Condition("the model or alias named", "one of", "model", operator.contains),
    "tenant": Condition("whose key it is", "one of", "tenant", operator.contains),
    "cloud": Condition("whether the cloud can be reached", "yes or no", "cloud_ready", operator.eq),
    "cloud_allowed": Condition(
        "whether no hard rule keeps the prompt here", "yes or no", "cloud_allowed", operator.eq
    ),
    "local": Condition("whether a worker is ready", "yes or no", "local_ready", operator.eq),
    "findings": Condition(
        "what sanitizing found (a kind, personal, injection)",
        "any of",
        "findings",
        _shares_any,
    ),
    **_bounds("complexity", "complexity", "complexity"),
    **_bounds("prompt_tokens", "tokens of the prompt", "prompt_tokens"),
    **_bounds("volume", "tokens of prompt and answer", "total_tokens"),
    **_bounds("cloud_cost", "what the cloud would charge at most", "cloud_cost"),
    **_bounds("budget_used", "part of the token budget that is used", "budget_used"),
    **_bounds("load", "requests per slot of the workers", "load"),
    **_bounds("wait", "seconds in the queue of the workers", "wait_s", "_s"),
}


@dataclass(frozen=True, slots=True)
class Tried:
    """A row that was looked at, and the first of its conditions that did not hold."""

    row: RouteRow
    failed: str
    """Empty: the row decides."""


class Table:
    """A compiled decision table.

    Raises:
        ConfigError: an unknown condition, or a value that it cannot have; names both.
    """

    def __init__(self, rows: Iterable[RouteRow] = ()) -> None:
        self.rows = tuple(rows)
        self._compiled = [(row, _compiled(row)) for row in self.rows]

    def __bool__(self) -> bool:
        return bool(self.rows)

    def decide(self, facts: Facts) -> RouteRow | None:
        """The first row of which all conditions hold."""
        for row, checks in self._compiled:
            for _, check in checks:
                if not check(facts):
                    break
            else:
                return row
        return None

    def explain(self, facts: Facts) -> list[Tried]:
        """The rows in order, up to the one that decides."""
        tried = []
        for row, checks in self._compiled:
            failed = next((name for name, check in checks if not check(facts)), "")
            tried.append(Tried(row, failed))
            if not failed:
                break
        return tried


def _compiled(row: RouteRow) -> list[tuple[str, Check]]:
    return [(name, _check(row.name, name, value)) for name, value in row.when.items()]


def _check(row: str, name: str, value: object) -> Check:
    condition = CONDITIONS.get(name)
    if condition is None:
        known = ", ".join(sorted(CONDITIONS))
        raise ConfigError(f"route row {row!r} has an unknown condition {name!r}; known: {known}")
    wanted = _value(condition, value)
    if wanted is None:
        raise ConfigError(f"route row {row!r}: {name} cannot be {value!r}; {_expected(condition)}")
    fact, compare = operator.attrgetter(condition.fact), condition.compare
    return lambda facts: compare(wanted, fact(facts))


def _value(condition: Condition, value: object) -> object:
    """The value as it is compared; None where it cannot be one."""
    if condition.kind == "yes or no":
        return value if isinstance(value, bool) else None
    if condition.kind == "number":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return value if math.isfinite(value) else None
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, (tuple, list)) or not names:
        return None
    if not all(isinstance(one, str) for one in names):
        return None
    if condition.allowed and not set(names) <= set(condition.allowed):
        return None
    return frozenset(names)


def _expected(condition: Condition) -> str:
    if condition.allowed:
        return f"it is one or several of {', '.join(condition.allowed)}"
    return {
        "yes or no": "it is true or false",
        "number": "it is a number",
        "one of": "it is a text or a list of texts",
        "any of": "it is a text or a list of texts",
    }[condition.kind]
