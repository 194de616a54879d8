"""Configuration: one TOML file with a table per tier, the environment over it, the command line
over both. Each tier parses it once into a frozen value.

``HEADWATER_EDGE__CACHE_BYTES=1000`` sets ``cache_bytes`` in ``[edge]``; further ``__`` descend into
nested tables. Values from the environment are text and are read as the field's type; lists, and
arrays of tables such as ``[[worker.models]]``, are JSON there.
"""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from wire.errors import ConfigError

PREFIX = "HEADWATER_"
T = TypeVar("T")


def load(
    section: str,
    kind: type[T],
    *,
    file: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, Any] | None = None,
) -> T:
    """The frozen configuration of a tier.

    Args:
        section: the TOML table, for example ``edge``.
        kind: the frozen dataclass or struct to build.
        file: the TOML file, or None for defaults only.
        environ: usually ``os.environ``.
        overrides: values from the command line; None values are skipped.

    Raises:
        ConfigError: unreadable file, unknown key, or a value of the wrong type, named by its path.
    """
    values = _from_file(section, file) if file is not None else {}
    for path, text in _from_environment(section, environ):
        _assign(values, path, text)
    for key, value in (overrides or {}).items():
        if value is not None:
            values[key] = value
    _refuse_unknown(kind, values, section)
    try:
        return msgspec.convert(values, kind, strict=False, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"configuration [{section}]: {error}") from error


def _refuse_unknown(kind: Any, values: dict[str, Any], where: str) -> None:
    """A misspelt key must not be a default in silence."""
    kinds = get_type_hints(kind)
    for key, value in values.items():
        if key not in kinds:
            raise ConfigError(f"configuration [{where}] has no key {key!r}; known: {_list(kinds)}")
        if isinstance(value, dict) and dataclasses.is_dataclass(kinds[key]):
            _refuse_unknown(kinds[key], value, f"{where}.{key}")
        elif isinstance(value, list) and (item := _item_kind(kinds[key])) is not None:
            for index, table in enumerate(value):
                if isinstance(table, dict):
                    _refuse_unknown(item, table, f"{where}.{key}[{index}]")


def _item_kind(kind: Any) -> Any:
    """The dataclass of which a field holds any number; None where it holds something else."""
    args = get_args(kind) if get_origin(kind) is tuple else ()
    many = len(args) == 2 and args[1] is Ellipsis and dataclasses.is_dataclass(args[0])
    return args[0] if many else None


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _decode(kind: type[Any], value: Any) -> Any:
    """What the files have no type for: paths are written as text. A ``TypeError`` becomes the
    decoder's own error, with the place in the configuration."""
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"Expected `{kind.__name__}`, got `{type(value).__name__}`")


def _from_file(section: str, file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            tables = tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"cannot read configuration {file}: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"configuration {file} is not TOML: {error}") from error
    table = tables.get(section, {})
    if not isinstance(table, dict):
        raise ConfigError(f"configuration {file}: [{section}] must be a table")
    return table


def _from_environment(section: str, environ: Mapping[str, str]) -> list[tuple[list[str], Any]]:
    prefix = f"{PREFIX}{section.upper()}__"
    return [
        (name[len(prefix) :].lower().split("__"), _read(text))
        for name, text in sorted(environ.items())
        if name.startswith(prefix)
    ]


def _read(text: str) -> Any:
    """Lists and tables are written as JSON; everything else stays text for the field to read."""
    if text[:1] in "[{":
        try:
            return json.loads(text)
        except ValueError as error:
            raise ConfigError(f"environment value is not JSON: {error}") from error
    return text


def _assign(values: dict[str, Any], path: list[str], value: Any) -> None:
    for key in path[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"configuration: {'.'.join(path)} goes below a value")
        values = inner
    values[path[-1]] = value
