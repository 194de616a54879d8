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
joined. Whatever cannot be in force is refused when the file is read, by its place in it.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edge_tier.gateway.content import ContentScreen
from edge_tier.gateway.decision_table import Table
from edge_tier.gateway.hints import REGION
from edge_tier.gateway.personal_data import KINDS
from edge_tier.gateway.request import Rules
from wire.errors import ConfigError

DEFAULT = "default"
MAX_FILE_BYTES = 4 * 1024 * 1024
_MAX_DEPTH = 16


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy as it is in force."""

    rules: Rules
    table: Table


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """All policies of a file; there always is a ``default``."""

    policies: dict[str, Policy] = field(default_factory=lambda: {DEFAULT: Policy(Rules(), Table())})
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
        tables = tomllib.loads(data.decode())
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
    policies = {name: _policy(name, named) for name in {DEFAULT: None, **named}}
    return PolicyFile(policies, _tenants(tables.get("tenants", {}), policies))


def _policy(name: str, named: dict[str, dict[str, Any]]) -> Policy:
    where = f"policy file [policies.{name}]"
    values = _inherited(name, named) | {"name": name}
    try:
        rules = msgspec.convert(values, _Strict)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from error
    unknown = rules.personal_kinds.keys() - set(KINDS)
    if unknown:
        known = ", ".join(sorted(KINDS))
        raise ConfigError(f"{where}: personal_kinds has no kind {min(unknown)!r}; known: {known}")
    if rules.residency and not REGION.fullmatch(rules.residency):
        raise ConfigError(f"{where}: residency is 1 to 32 small letters, digits and dashes")
    if not 0 <= rules.injection_threshold <= 1:
        raise ConfigError(f"{where}: injection_threshold lies in 0..1 (0: the fitted one)")
    try:
        for side in ("input", "output"):
            ContentScreen(rules.content, side)
        table = Table(rules.routes)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error.message}") from error
    return Policy(msgspec.convert(msgspec.to_builtins(rules), Rules), table)


def _inherited(name: str, named: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A policy's values over those of the policies it extends."""
    chain: list[dict[str, Any]] = []
    seen: set[str] = set()
    at: str | None = name
    while at is not None:
        if at in seen:
            raise ConfigError(f"policy file [policies.{name}]: extends itself by way of {at!r}")
        if len(seen) >= _MAX_DEPTH:
            raise ConfigError(
                f"policy file [policies.{name}]: extends more than {_MAX_DEPTH} others in a row"
            )
        seen.add(at)
        if at not in named and at != DEFAULT:
            raise ConfigError(f"policy file [policies.{name}]: extends {at!r}, which is not there")
        values = dict(named.get(at, {}))
        at = values.pop("extends", None)
        if at is not None and not isinstance(at, str):
            raise ConfigError(f"policy file [policies.{name}]: extends is the name of a policy")
        chain.append(values)
    merged: dict[str, Any] = {}
    for values in reversed(chain):
        merged |= values
    return merged


def _tenants(table: object, policies: dict[str, Policy]) -> dict[str, str]:
    try:
        tenants = msgspec.convert(table, dict[str, str])
    except msgspec.ValidationError as error:
        raise ConfigError(f"policy file [tenants]: {error}") from error
    for tenant, name in tenants.items():
        if name not in policies:
            raise ConfigError(f"policy file [tenants]: {tenant} has no policy {name!r}")
    return tenants
