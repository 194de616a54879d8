"""``configuration.md``: every key of every tier, with its default and what it means."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from infra.reference.docstrings import field_texts, summary
from origin.config import OriginConfig
from wire.settings import PREFIX

_TIERS: Mapping[str, type[Any]] = {
    "origin": OriginConfig,
    "edge": EdgeConfig,
    "worker": WorkerConfig,
}
_HEAD = """# Configuration

Every key that a tier knows, drawn from the code. All may stand in one `headwater.toml`; each tier
reads its own table. A variable of the environment goes over the file, an option of the command
line over both: `edge.cache.read_ahead_chunks` is `HEADWATER_EDGE__CACHE__READ_AHEAD_CHUNKS`. Lists
and tables are JSON there. An unknown key is an error that names it. `headwater config show
[--changed]` prints what is in force and where each value came from.

Times end in `_s` (seconds) or `_ms`, sizes in `_bytes`; relative paths are relative to the working
directory.
"""


def draw_configuration() -> str:
    """The whole page."""
    parts = [_HEAD]
    for tier, kind in _TIERS.items():
        parts += _tables(tier, kind)
    return "\n".join(parts)


def _tables(name: str, kind: type[Any], many: bool = False) -> Iterator[str]:
    """The table of a configuration, then those inside it."""
    inner: list[tuple[str, type[Any], bool]] = []
    rows = []
    hints, texts = get_type_hints(kind), field_texts(kind)
    for key, default in _defaults(kind):
        hint = hints[key]
        table, several = _table_kind(hint)
        if table is not None:
            inner.append((f"{name}.{key}", table, several))
            continue
        shown = _default(default)
        rows.append(f"| `{key}` | {_type(hint)} | {shown} | {_cell(texts.get(key, ''))} |")
    yield f"## `{f'[[{name}]]' if many else f'[{name}]'}`\n"
    yield f"{_cell(summary(kind))}\n"
    if not many:
        yield f"Environment: `{PREFIX}{name.upper().replace('.', '__')}__…`\n"
    if rows:
        yield "| key | type | default | |\n|---|---|---|---|"
        yield "\n".join(rows) + "\n"
    for one in inner:
        yield from _tables(*one)


def _defaults(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """Every field and its default; a dataclass or a struct."""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            if field.default_factory is not dataclasses.MISSING:
                yield field.name, field.default_factory()
            else:
                yield field.name, field.default
        return
    for one in msgspec.structs.fields(kind):
        made = one.default_factory
        yield one.name, one.default if made is msgspec.NODEFAULT else made()


def _table_kind(hint: Any) -> tuple[type[Any] | None, bool]:
    """The configuration that a field holds, and whether it holds any number of them."""
    if _is_config(hint):
        return hint, False
    args = get_args(hint)
    if get_origin(hint) is tuple and len(args) == 2 and args[1] is Ellipsis and _is_config(args[0]):
        return args[0], True
    return None, False


def _is_config(hint: Any) -> bool:
    is_struct = isinstance(hint, type) and issubclass(hint, msgspec.Struct)
    return is_struct or dataclasses.is_dataclass(hint)


def _type(hint: Any) -> str:
    """As somebody who writes TOML calls it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in {Union, types.UnionType}:
        return " or ".join(_type(one) for one in args if one is not type(None))
    if origin is Literal:
        return " ".join(f"`{one}`" for one in args)
    if origin in {tuple, list, frozenset, set}:
        return f"list of {_type(args[0])}"
    if origin is not None and issubclass(origin, Mapping):
        return f"table of {_type(args[1])}"
    if hasattr(hint, "__metadata__"):
        return _type(hint.__origin__)
    if _is_config(hint):
        return "table"
    names = {str: "text", int: "integer", float: "number", bool: "boolean", Path: "path"}
    return names.get(hint, getattr(hint, "__name__", str(hint)).lower())


def _default(value: Any) -> str:
    if value is dataclasses.MISSING or value is msgspec.NODEFAULT:
        return "needed"
    if value is None:
        return "none"
    return f"`{msgspec.json.encode(_plain(value)).decode().replace('|', chr(92) + '|')}`"


def _plain(value: Any) -> Any:
    """What JSON can say, in an order that stays."""
    if isinstance(value, frozenset | set):
        return sorted(map(_plain, value))
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return msgspec.to_builtins(value, enc_hook=str)


def _cell(text: str) -> str:
    """A text in a cell; what the code's markup calls a literal is Markdown's."""
    return text.replace("``", "`").replace("|", "\\|")
