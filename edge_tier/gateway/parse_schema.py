"""JSON Schemas from outside, checked before a grammar compiler sees them.

An engine turns a schema into a grammar, in time and memory that a small schema can make large:
llama.cpp of 2026-10 takes 0.2 s for an ``enum`` of 1,000 strings and hangs at 20,000, because each
new alternative is compared with all before it. So everything is counted here first, in one walk
without recursion. A schema beyond a bound is refused; nothing in one is ever repaired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from edge_tier.gateway.parse_errors import ParameterInvalidError, ParameterUnsupportedError
from edge_tier.gateway.schema_paths import Paths

_REF = re.compile(r"#/(\$defs|definitions)/([A-Za-z0-9_.-]{1,128})")
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})
_REPEATS = ("minLength", "minItems", "maxItems", "minProperties", "maxProperties")
"""Keywords that a grammar writes out that many times."""
_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
"""Keywords whose members are schemas under names of the client's."""
_DATA = ("enum", "const", "default", "examples", "example")
"""Keywords that hold values, not schemas."""
_PATTERN_TOKEN = re.compile(
    r"""\\.                               # an escape
    | \[(?:\\.|[^\]\\])*\]?              # a character class
    | \((?:\?[:=!])?                     # a group begins; what stands behind ( says its kind
    | (?P<quantifier>[*+?]|\{[0-9]*,?[0-9]*\})
    | .""",
    re.VERBOSE | re.DOTALL,
)
_NUMBER = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaConfig:
    """Bounds on one JSON Schema."""

    max_bytes: int = 32_768
    """Of the schema as compact JSON; a larger one is refused (413), what is beyond the other bounds
    with 400."""
    max_depth: int = 32
    """Values nested in values, the schema itself being the first."""
    max_values: int = 2_048
    """Objects, lists and scalars together."""
    max_properties: int = 256
    """Of all objects of the schema together."""
    max_enum_values: int = 256
    """Of all ``enum`` lists together."""
    max_repeats: int = 1_000
    """The largest ``minItems``, ``minLength`` and the like."""
    max_paths: int = 64
    """Alternatives of one type that may fit a text at once, one within another (``schema_paths``).
    """
    max_pattern_chars: int = 256
    """Of one ``pattern``."""
    max_pattern_quantifiers: int = 8
    """``*``, ``+``, ``?`` and ``{}`` in one ``pattern``."""
    max_pattern_cost: int = 256
    """Of all patterns together: the repeats that a grammar writes out, those of groups eightfold,
    and one for every 16 characters."""


class _Counts:
    """What one walk has met so far."""

    __slots__ = ("enum_values", "pattern_cost", "properties", "refs", "values")

    def __init__(self) -> None:
        self.values = 0
        self.properties = 0
        self.enum_values = 0
        self.pattern_cost = 0
        self.refs: list[tuple[str, str]] = []


def check_schema(schema: Any, at: str, config: SchemaConfig) -> int:
    """Check a decoded schema; ``at`` is its path in the request, for the error's ``param``.

    Returns:
        What its patterns cost (``max_pattern_cost``).

    Raises:
        ParameterInvalidError: not an object, beyond a bound, or it says nothing sensible.
        ParameterUnsupportedError: something that no engine's grammar can hold to.
    """
    if not isinstance(schema, dict):
        raise ParameterInvalidError(f"{at} must be a JSON Schema, an object", at)
    counts = _Counts()
    # What is still to be looked at: a value, how deep it is, and what it is read as.
    waiting: list[tuple[Any, int, str]] = [(schema, 1, "schema")]
    while waiting:
        value, depth, kind = waiting.pop()
        counts.values += 1
        if counts.values + len(waiting) > config.max_values:
            _refuse(at, f"holds more than {config.max_values} values")
        if depth > config.max_depth:
            _refuse(at, f"is nested more than {config.max_depth} deep")
        if isinstance(value, dict):
            if kind == "schema":
                _keywords(value, at, config, counts)
                _texts(value, at, config, counts)
            waiting += [(v, depth + 1, _inside(kind, k)) for k, v in value.items()]
        elif isinstance(value, list):
            waiting += [(v, depth + 1, kind) for v in value]
    _check_refs(schema, counts.refs, at, config)
    return counts.pattern_cost


def _inside(kind: str, keyword: str) -> str:
    """What the value under ``keyword`` is read as."""
    if kind == "data" or (kind == "schema" and keyword in _DATA):
        return "data"
    return "map" if kind == "schema" and keyword in _MAPS else "schema"


def _keywords(schema: dict[str, Any], at: str, config: SchemaConfig, counts: _Counts) -> None:
    properties = schema.get("properties")
    if isinstance(properties, dict):
        counts.properties += len(properties)
        if counts.properties > config.max_properties:
            _refuse(at, f"holds more than {config.max_properties} properties")
    values = schema.get("enum")
    if isinstance(values, list):
        counts.enum_values += len(values)
        if counts.enum_values > config.max_enum_values:
            _refuse(at, f"holds more than {config.max_enum_values} values of enum")
    for keyword in _REPEATS:
        number = schema.get(keyword, 0)
        if not isinstance(number, int) or not 0 <= number <= config.max_repeats:
            _refuse(at, f"{keyword} must be between 0 and {config.max_repeats}")
    types = schema.get("type", "object")
    for name in types if isinstance(types, list) else [types]:
        if not isinstance(name, str) or name not in _TYPES:
            _refuse(at, "holds a type that JSON Schema does not know")


def _texts(schema: dict[str, Any], at: str, config: SchemaConfig, counts: _Counts) -> None:
    """Patterns and references."""
    if "pattern" in schema:
        counts.pattern_cost += check_pattern(schema["pattern"], at, config)
        if counts.pattern_cost > config.max_pattern_cost:
            _refuse(at, f"patterns cost more than {config.max_pattern_cost}")
    if "patternProperties" in schema:
        raise ParameterUnsupportedError(f"{at}: patternProperties is not supported", at)
    if "$ref" in schema:
        counts.refs.append(_ref(schema["$ref"], at))


def _ref(ref: Any, at: str) -> tuple[str, str]:
    match = _REF.fullmatch(ref) if isinstance(ref, str) else None
    if match is None:
        raise ParameterUnsupportedError(
            f"{at}: a $ref names a schema of its own $defs, as #/$defs/name", at
        )
    return match[1], match[2]


def _check_refs(
    schema: dict[str, Any], refs: list[tuple[str, str]], at: str, config: SchemaConfig
) -> None:
    """Every reference leads to a schema, and alternatives do not multiply without bound."""
    definitions: dict[str, Any] = {}
    for group, name in refs:
        found = schema.get(group)
        target = found.get(name) if isinstance(found, dict) else None
        if not isinstance(target, dict):
            _refuse(at, "holds a $ref to a schema that is not there")
        definitions[f"#/{group}/{name}"] = target
    Paths(definitions, config.max_paths, partial(_refusal, at)).count(schema)


def check_pattern(pattern: Any, at: str, config: SchemaConfig) -> int:
    """Refuse what makes a matcher try many ways: many quantifiers, or one within another.

    Returns:
        What it costs (``max_pattern_cost``).

    Raises:
        ParameterInvalidError: see above; or not a pattern at all.
    """
    if not isinstance(pattern, str) or len(pattern) > config.max_pattern_chars:
        _refuse(at, f"a pattern has at most {config.max_pattern_chars} characters")
    quantifiers, cost, repeats, closed, group = 0, len(pattern) // 16, [False], False, False
    for match in _PATTERN_TOKEN.finditer(pattern):
        part = match[0]
        if part[0] == "(":
            repeats.append(False)
        elif part == ")" and len(repeats) > 1:
            closed = repeats.pop()
            repeats[-1] |= closed
            group = True
            continue
        elif match["quantifier"]:
            quantifiers += 1
            cost += max(map(int, _NUMBER.findall(part)), default=1) * (8 if group else 1)
            if closed:
                _refuse(at, "a pattern repeats a group that itself repeats something")
            repeats[-1] = True
        closed = group = False
    if quantifiers > config.max_pattern_quantifiers:
        _refuse(at, f"a pattern has more than {config.max_pattern_quantifiers} quantifiers")
    return cost


def _refusal(at: str, why: str) -> ParameterInvalidError:
    return ParameterInvalidError(f"{at}: {why}", at)


def _refuse(at: str, why: str) -> NoReturn:
    raise _refusal(at, why)
