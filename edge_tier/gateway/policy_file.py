"""The policy file: named policies in TOML, and which tenant has which. Pure.

::

    [tenants]
    hospital = "strict"

    [policies.default]
    injection = "flag"

    [policies.strict]
    extends = "default"
    privacy = "local"

    [[policies.strict.content]]
    name = "codenames"
    words = ["bluebird"]

    [[policies.strict.routes]]
    name = "long batches stay here"
    when = { latency = "batch", prompt_tokens_min = 4000 }
    target = "local"

A policy that extends another has all that it does not say itself from that one; lists are not
joined. Whatever cannot be in force is refused when the file is read, by its place in it; and so is
what could never do anything, for it would be taken to protect somebody.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edge_tier.gateway import hidden
from edge_tier.gateway.content import Screens
from edge_tier.gateway.decision_table import Table
from edge_tier.gateway.hints import REGION
from edge_tier.gateway.homoglyphs import HOMOGLYPH
from edge_tier.gateway.personal_data import KINDS
from edge_tier.gateway.policy_lines import line_of
from edge_tier.gateway.request import ContentRule, RouteRow, Rules
from edge_tier.gateway.screen import CONTROL_LITERAL
from wire.errors import ConfigError

DEFAULT = "default"
MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 16
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""As a key may name it."""
_MAX_ROW_NAME = 64
_FINDINGS = KINDS | hidden.NAMES | {"personal", "injection", HOMOGLYPH, CONTROL_LITERAL}
"""What may be found, besides a policy's own content rules."""


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy as it is in force."""

    rules: Rules
    table: Table
    screens: Screens


def built_in() -> Policy:
    """What is in force without a policy file."""
    return Policy(Rules(), Table(), Screens.of(()))


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """All policies of a file; there always is a ``default``."""

    policies: dict[str, Policy] = field(default_factory=lambda: {DEFAULT: built_in()})
    tenants: dict[str, str] = field(default_factory=dict)


class _Strict(Rules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A policy's table, in which a misspelt key must not be a default in silence."""


def read_policies(data: bytes) -> PolicyFile:
    """Read a policy file.

    Raises:
        ConfigError: not TOML, an unknown key or policy, a value that cannot be; says where.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError(f"policy file is larger than {MAX_FILE_BYTES} B")
    try:
        text = data.decode()
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"policy file is not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError("policy file is nested too deeply") from error
    unknown = tables.keys() - {"policies", "tenants"}
    if unknown:
        raise ConfigError(f"policy file has no table {min(unknown)!r}; known: policies, tenants")
    named = tables.get("policies", {})
    if not isinstance(named, dict) or not all(isinstance(one, dict) for one in named.values()):
        raise ConfigError("policy file: [policies.NAME] must be tables")
    policies = {name: _policy(name, named, text) for name in {DEFAULT: None, **named}}
    return PolicyFile(policies, _tenants(tables.get("tenants", {}), policies))


def _policy(name: str, named: dict[str, dict[str, Any]], text: str) -> Policy:
    where = f"policy file [policies.{name}]"
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{where}: a policy's name is 1 to 64 letters, digits and ._-")
    chain = _chain(name, named)
    values: dict[str, Any] = {}
    for one in reversed(chain):
        values |= named.get(one, {})
    values.pop("extends", None)
    try:
        return _checked(values | {"name": name})
    except (msgspec.ValidationError, ConfigError) as error:
        problem = error.message if isinstance(error, ConfigError) else str(error)
        line = line_of(text, chain, problem)
        at = f" line {line}" if line is not None else ""
        raise ConfigError(f"{where}{at}: {problem}") from error


def _checked(values: dict[str, Any]) -> Policy:
    """Raises ``ConfigError`` or ``ValidationError``, without the place."""
    strict = msgspec.convert(values, _Strict)
    rules = msgspec.convert(msgspec.to_builtins(strict), Rules)
    unknown = rules.personal_kinds.keys() - KINDS
    if unknown:
        known = ", ".join(sorted(KINDS))
        raise ConfigError(f"personal_kinds has no kind {min(unknown)!r}; known: {known}")
    if rules.residency and not REGION.fullmatch(rules.residency):
        raise ConfigError("residency is 1 to 32 small letters, digits and dashes")
    if not all(map(REGION.fullmatch, rules.regulations)):
        raise ConfigError("regulations are names of 1 to 32 small letters, digits and dashes")
    if not 0 <= rules.injection_threshold <= 1:
        raise ConfigError("injection_threshold lies in 0..1 (0: the fitted one)")
    policy = Policy(rules, Table(rules.routes), Screens.of(rules.content))
    _check_content(rules.content)
    _check_rows(rules)
    return policy


def _check_content(rules: tuple[ContentRule, ...]) -> None:
    """Raises ``ConfigError`` for rules that are never met, or that a log could not tell apart."""
    seen = set(_FINDINGS)
    for rule in rules:
        if not rule.name or rule.name in seen:
            raise ConfigError(f"content rule {rule.name!r}: the name is empty or taken")
        seen.add(rule.name)
        if not rule.sides or not 1 <= rule.min_hits <= len(rule.words) + len(rule.patterns):
            raise ConfigError(
                f"content rule {rule.name!r} is never met: it needs sides, and at least min_hits "
                f"({rule.min_hits}) words and patterns"
            )


def _check_rows(rules: Rules) -> None:
    """Raises ``ConfigError`` for rows that never decide, or that a log could not tell apart."""
    findings = _FINDINGS | {rule.name for rule in rules.content}
    seen: set[str] = set()
    for row in rules.routes:
        if row.name in seen:
            raise ConfigError(f"route row {row.name!r} is there twice")
        seen.add(row.name)
        _check_row(row, findings)


def _check_row(row: RouteRow, known: frozenset[str]) -> None:
    where, when = f"route row {row.name!r}", row.when
    if not 0 < len(row.name) <= _MAX_ROW_NAME or not row.name.isprintable():
        raise ConfigError(f"{where}: a name has 1 to {_MAX_ROW_NAME} printable characters")
    if row.mode in ("gate", "verify") and (row.only or row.target == "cloud"):
        raise ConfigError(f"{where}: mode {row.mode} needs a local answer first and the cloud then")
    for name, low in when.items():
        high = when.get(name.replace("_min", "_max"))
        if "_min" in name and high is not None and low >= high:  # type: ignore[operator]
            raise ConfigError(f"{where}: {name} {low} is not below {high}; no request meets both")
    findings = when.get("findings", ())
    for name in (findings,) if isinstance(findings, str) else findings:  # type: ignore[union-attr]
        if name not in known:
            names = ", ".join(sorted(known))
            raise ConfigError(f"{where}: nothing is found that is called {name!r}; known: {names}")


def _chain(name: str, named: dict[str, dict[str, Any]]) -> list[str]:
    """A policy and those that it extends, nearest first."""
    where = f"policy file [policies.{name}]"
    chain: list[str] = []
    at: object = name
    while at is not None:
        if not isinstance(at, str):
            raise ConfigError(f"{where}: extends is the name of a policy")
        if at in chain:
            raise ConfigError(f"{where}: extends itself by way of {at!r}")
        if len(chain) >= _MAX_DEPTH:
            raise ConfigError(f"{where}: extends more than {_MAX_DEPTH} others in a row")
        if at not in named and at != DEFAULT:
            raise ConfigError(f"{where}: extends {at!r}, which is not there")
        chain.append(at)
        at = named.get(at, {}).get("extends")
    return chain


def _tenants(table: object, policies: dict[str, Policy]) -> dict[str, str]:
    try:
        tenants = msgspec.convert(table, dict[str, str])
    except msgspec.ValidationError as error:
        raise ConfigError(f"policy file [tenants]: {error}") from error
    for tenant, name in tenants.items():
        if name not in policies:
            raise ConfigError(f"policy file [tenants]: {tenant} has no policy {name!r}")
    return tenants
