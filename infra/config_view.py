"""The configuration in force, value by value, and which of default, file and environment set it.

Precedence is ``wire.settings``'s: the environment over the file over the defaults.
"""

from __future__ import annotations

import importlib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
from rich.console import Console
from rich.text import Text

from infra.render import table
from wire.settings import PREFIX, load

Origin = Literal["default", "file", "environment"]
_KINDS = {
    "origin": ("origin.config", "OriginConfig"),
    "edge": ("edge_tier.config", "EdgeConfig"),
    "worker": ("gpu_worker.config", "WorkerConfig"),
}
_PASSWORD = re.compile(r"(?<=://)[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Setting:
    """A value and who set it."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class InForce:
    """All settings by tier and dotted name."""

    file: Path | None
    tiers: dict[str, dict[str, Setting]]

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        shown: dict[str, Any] = {"file": str(self.file) if self.file is not None else None}
        for tier, settings in self.tiers.items():
            shown[tier] = {
                name: {"value": setting.value, "from": setting.origin}
                for name, setting in settings.items()
            }
        return shown

    def show(self, console: Console) -> None:
        """For people."""
        console.print(f"file: {self.file or 'none'}", style="dim", markup=False)
        for tier, settings in self.tiers.items():
            rows = [
                (name, msgspec.json.encode(setting.value).decode(), _origin(setting.origin))
                for name, setting in settings.items()
            ]
            console.print(table((f"[{tier}]", "value", "from"), rows))


def show_in_force(
    tiers: Iterable[str],
    file: Path | None,
    *,
    environ: Mapping[str, str] | None = None,
    changed: bool = False,
) -> InForce:
    """What each tier would be told now.

    Args:
        changed: leave out what is the default.

    Raises:
        ConfigError: the file or a value cannot be used.
    """
    environment = os.environ if environ is None else environ
    found: dict[str, dict[str, Setting]] = {}
    for tier in tiers:
        config = load_config(tier, file, environment)
        in_file = set(flatten(_table(tier, file)))
        in_environment = _names(tier, environment)
        found[tier] = {
            name: Setting(_without_password(value), _who(name, in_file, in_environment))
            for name, value in flatten(msgspec.to_builtins(config, enc_hook=str)).items()
        }
        if changed:
            settings = found[tier].items()
            found[tier] = {n: setting for n, setting in settings if setting.origin != "default"}
    return InForce(file, found)


def load_config(tier: str, file: Path | None, environ: Mapping[str, str] = os.environ) -> Any:
    """A tier's configuration from file and environment. Raises ``ConfigError``."""
    module, name = _KINDS[tier]
    kind: type[Any] = getattr(importlib.import_module(module), name)
    return load(tier, kind, file=file, environ=environ)


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, by dotted names; an empty table is a value."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def _table(tier: str, file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    table = tomllib.loads(file.read_text(encoding="utf-8")).get(tier, {})
    return dict(table)


def _names(tier: str, environ: Mapping[str, str]) -> set[str]:
    prefix = f"{PREFIX}{tier.upper()}__"
    return {
        name[len(prefix) :].lower().replace("__", ".")
        for name in environ
        if name.startswith(prefix)
    }


def _who(name: str, in_file: set[str], in_environment: set[str]) -> Origin:
    """A variable may set a whole table as JSON, so every table above the value counts too."""
    parts = name.split(".")
    above = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
    if above & in_environment:
        return "environment"
    return "file" if name in in_file else "default"


def _without_password(value: Any) -> Any:
    """URLs may carry a password (``redis://:secret@host``); it is never shown."""
    if isinstance(value, str):
        return _PASSWORD.sub("***@", value)
    if isinstance(value, list):
        return [_without_password(item) for item in value]
    return value


def _origin(origin: Origin) -> Text:
    styles = {"default": "dim", "file": "cyan", "environment": "yellow"}
    return Text(origin, style=styles[origin])
