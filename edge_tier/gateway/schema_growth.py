"""How many ways a schema leaves open at once, known before a grammar is made of it.

A grammar that does not know yet which alternative it is in follows all of them, and alternatives
that hold alternatives multiply: ``{"anyOf": [list of itself, list of itself]}`` is 150 bytes, and
after sixteen ``[`` llama.cpp (2026-10) follows 65,536 ways, comparing each with each, while all
its other requests wait. So the ways are counted here, on the schema, in time linear in it.

Alternatives that begin differently (``{``, ``[``, ``"``, a number, a word) are never open together,
so an optional or a recursive member costs nothing. What stands inside an object or a list is read
one after the other, so there the largest counts, not the sum.

A reference becomes a rule of its own, once; but what ``allOf`` names is copied into place. So
copies of copies are counted too, and a schema that would copy itself is refused: the 80 bytes of
``{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"allOf": [{"$ref": "#/$defs/a"}]}}}}}``
end the process of llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from edge_tier.gateway.components import components
from edge_tier.gateway.parse_errors import ParameterInvalidError
from edge_tier.gateway.schema_repeats import check_ranges, check_repeats

Schema: TypeAlias = dict[str, Any]
Way: TypeAlias = tuple[int, str]
"""A schema, by its identity, and how what it allows begins."""
Graph: TypeAlias = dict[Way, list[Way]]

_UNIONS = ("anyOf", "oneOf", "allOf")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_INSIDE = ("additionalProperties", "items", "prefixItems", "contains", "propertyNames")
_KINDS = ("object", "array", "string", "number", "boolean", "null")
_KIND_OF = {name: name for name in _KINDS} | {"integer": "number"}
_KIND_OF_TYPE = {
    dict: "object",
    list: "array",
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
}
_SIGNS = {
    "properties": "object",
    "additionalProperties": "object",
    "required": "object",
    "items": "array",
    "prefixItems": "array",
    "minItems": "array",
    "pattern": "string",
    "minLength": "string",
    "maxLength": "string",
    "format": "string",
}
"""What a schema without ``type`` is taken for."""
_OWN = frozenset({"type", "enum", "const", *_SIGNS})
_BOUNDED_NUMBER_WAYS = 20
"""The digits of a number between bounds are written out as alternatives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthConfig:
    """Bounds on the grammar that a schema becomes."""

    max_ways: int = 256
    """Alternatives that may be open at once."""
    max_alternatives: int = 512
    """Members of ``anyOf``, ``oneOf`` and ``allOf`` and references, all together."""
    max_copies: int = 4_096
    """Schemas, where each that ``allOf`` refers to counts as often as it is copied."""
    max_written_out: int = 100_000
    """Counted repeats (``minLength``, ``maxItems``, ``a{9}``), all together."""
    max_pattern_written_out: int = 256
    """Those of one pattern."""


def check_growth(schema: Schema, at: str, config: GrowthConfig | None = None) -> int:
    """Check a schema whose size and depth are bounded already; ``at`` is its path, for ``param``.

    Returns:
        The repeats that a grammar writes out, for a bound on several schemas together.

    Raises:
        ParameterInvalidError: a grammar made of it could grow beyond ``config``, or it holds what
            compilers hang at (see also ``schema_repeats``).
    """
    config = config or GrowthConfig()
    nodes = _reachable(schema, at, config)
    written = _check_repeats([node.schema for node in nodes.values()], at, config)
    if not any(node.beside for node in nodes.values()):
        return written
    _check_copies(nodes, at, config)
    _find_kinds(nodes, at)
    beside, inside = _graphs(nodes)
    for ways, multiplies in _counted(beside, inside, nodes):
        if multiplies:
            _refuse(at, "leads back to itself by several alternatives that begin alike")
        if ways > config.max_ways:
            _refuse(at, f"leaves more than {config.max_ways} alternatives open at once")
    return written


class _Node:
    """A schema and where it leads: to what stands in its place, and to what stands inside."""

    __slots__ = ("beside", "inside", "kinds", "schema")

    def __init__(self, schema: Schema, beside: list[int], inside: list[int]) -> None:
        self.schema = schema
        self.beside = beside
        self.inside = inside
        self.kinds: frozenset[str] = frozenset()

    @property
    def is_leaf(self) -> bool:
        """It leads nowhere, so it is one way however it begins."""
        return not self.beside and not self.inside

    def way(self, kind: str) -> str:
        """What stands for ``kind`` in a :data:`Way`."""
        return "" if self.is_leaf else kind

    def ways(self, key: int) -> list[Way]:
        return [(key, "")] if self.is_leaf else [(key, kind) for kind in self.kinds]


def _check_repeats(schemas: Iterable[Schema], at: str, config: GrowthConfig) -> int:
    written = 0
    for schema in schemas:
        types = schema.get("type")
        if isinstance(types, list) and len({str(name) for name in types}) < len(types):
            _refuse(at, "names a type twice")
        written += check_ranges(schema, at)
        if isinstance(pattern := schema.get("pattern"), str):
            repeats = check_repeats(pattern, at)
            if repeats > config.max_pattern_written_out:
                _refuse(
                    at, f"holds a pattern of more than {config.max_pattern_written_out} repeats"
                )
            written += repeats
        if written > config.max_written_out:
            _refuse(at, f"counts more than {config.max_written_out} repeats")
    return written


def _reachable(root: Schema, at: str, config: GrowthConfig) -> dict[int, _Node]:
    """All schemas that the root leads to, by identity."""
    nodes: dict[int, _Node] = {}
    waiting, alternatives = [root], 0
    while waiting:
        schema = waiting.pop()
        if id(schema) in nodes:
            continue
        others, members = _alternatives(schema, root, at), list(_members(schema))
        alternatives += len(others)
        if alternatives > config.max_alternatives:
            _refuse(at, f"holds more than {config.max_alternatives} alternatives and references")
        nodes[id(schema)] = _Node(schema, [*map(id, others)], [*map(id, members)])
        waiting += others
        waiting += members
    return nodes


def _alternatives(schema: Schema, root: Schema, at: str) -> list[Schema]:
    """Schemas that stand at the same place as this one."""
    found = [each for name in _UNIONS if name in schema for each in _dicts(schema[name])]
    if "$ref" in schema:
        target = _target(root, schema["$ref"])
        if target is None:
            _refuse(at, "holds a $ref that leads nowhere in it")
        found.append(target)
    return found


def _members(schema: Schema) -> Iterator[Schema]:
    """Schemas of what stands inside this one: members of an object, entries of a list."""
    for name in _MAPS:
        found = schema.get(name)
        if isinstance(found, dict):
            yield from _dicts(list(found.values()))
    for name in _INSIDE:
        if name in schema:
            yield from _dicts(schema[name])


def _dicts(value: Any) -> list[Schema]:
    values = value if isinstance(value, list) else [value]
    return [each for each in values if isinstance(each, dict)]


def _target(root: Schema, ref: Any) -> Schema | None:
    """What a JSON pointer (RFC 6901) into the root leads to. Escapes in it lead nowhere."""
    if not isinstance(ref, str) or not (ref == "#" or ref.startswith("#/")):
        return None
    found: Any = root
    for name in ref.split("/")[1:]:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _check_copies(nodes: dict[int, _Node], at: str, config: GrowthConfig) -> None:
    """Count the schemas with all that ``allOf`` copies."""
    merged = {id(each) for node in nodes.values() for each in _dicts(node.schema.get("allOf"))}
    if not merged:
        return
    waiting = list(merged)
    while waiting:
        more = set(nodes[waiting.pop()].beside) - merged
        merged |= more
        waiting += more
    copied: Graph = {}
    for key, node in nodes.items():
        # The reference is the last of what stands beside.
        rules = len(node.beside) - ("$ref" in node.schema and key not in merged)
        copied[key, ""] = [(other, "") for other in (*node.beside[:rules], *node.inside)]
    copies: dict[Way, int] = {}
    for component in components(copied):
        way = component[0]
        if len(component) > 1 or way in copied[way]:
            _refuse(at, "copies itself by allOf")
        copies[way] = 1 + sum(copies[other] for other in copied[way])
        if copies[way] > config.max_copies:
            _refuse(at, f"becomes more than {config.max_copies} schemas by allOf")


def _find_kinds(nodes: dict[int, _Node], at: str) -> None:
    """How what each schema allows may begin."""
    beside = {(key, ""): [(other, "") for other in node.beside] for key, node in nodes.items()}
    # Components come after what they lead to, and a circle here is one without any text in it.
    for component in components(beside):
        way = component[0]
        if len(component) > 1 or way in beside[way]:
            _refuse(at, "leads back to itself with nothing in between")
        node = nodes[way[0]]
        kinds = frozenset[str]().union(*(nodes[other].kinds for other in node.beside))
        node.kinds = kinds | _own_kinds(node.schema) if _has_own(node.schema, kinds) else kinds


def _has_own(schema: Schema, others: frozenset[str]) -> bool:
    return not others or not _OWN.isdisjoint(schema)


def _own_kinds(schema: Schema) -> frozenset[str]:
    types = schema.get("type")
    names = types if isinstance(types, list) else [types] if types else []
    kinds = {_KIND_OF[name] for name in names if isinstance(name, str) and name in _KIND_OF}
    if not kinds:
        values = schema.get("enum")
        values = values if isinstance(values, list) else []
        kinds = {_kind_of_value(each) for each in values}
        kinds |= {_kind_of_value(schema["const"])} if "const" in schema else set()
        kinds |= {kind for sign, kind in _SIGNS.items() if sign in schema}
    return frozenset(kinds or _KINDS)


def _kind_of_value(value: Any) -> str:
    return _KIND_OF_TYPE.get(type(value), "null")


def _graphs(nodes: dict[int, _Node]) -> tuple[Graph, Graph]:
    """From each way to those open together with it, and to those that come inside it."""
    beside: Graph = {}
    inside: Graph = {}
    for key, node in nodes.items():
        within = [way for member in node.inside for way in nodes[member].ways(member)]
        for way in node.ways(key):
            others = [(o, nodes[o]) for o in node.beside]
            beside[way] = [(o, each.way(way[1])) for o, each in others if way[1] in each.kinds]
            inside[way] = within if way[1] in {"object", "array"} else []
    return beside, inside


def _counted(beside: Graph, inside: Graph, nodes: dict[int, _Node]) -> Iterator[tuple[int, bool]]:
    """For each circle of ways: how many are open at once, and whether going round multiplies."""
    ways: dict[Way, int] = {}
    for component in components({way: [*beside[way], *inside[way]] for way in beside}):
        circle = set(component)
        multiplies, total = False, 0
        for way in component:
            back = sum(other in circle for other in beside[way])
            back += any(other in circle for other in inside[way])
            multiplies |= len(component) > 1 and back > 1
            multiplies |= way in beside[way]
            open_here = sum(ways.get(other, 0) for other in beside[way])
            own = 0 if beside[way] else _own_ways(nodes[way[0]].schema)
            total += max(open_here + own, max((ways.get(o, 0) for o in inside[way]), default=0))
        ways.update(dict.fromkeys(component, total))
        yield total, multiplies


def _own_ways(schema: Schema) -> int:
    """Alternatives within one schema without others beside it."""
    ways = 1
    if isinstance(values := schema.get("enum"), list):
        ways = max(ways, len(values))
    if any(isinstance(schema.get(name), int) for name in ("minimum", "maximum")):
        ways = max(ways, _BOUNDED_NUMBER_WAYS)
    if isinstance(pattern := schema.get("pattern"), str):
        ways = max(ways, (1 + pattern.count("|")) * (1 + sum(map(pattern.count, "*+?{"))))
    return ways


def _refuse(at: str, why: str) -> NoReturn:
    raise ParameterInvalidError(f"{at} {why}", at)
