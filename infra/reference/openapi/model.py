"""What an operation is, and how a list of them becomes an OpenAPI 3.1 document.

Bodies are types of the code (``msgspec`` draws their schemas), errors are classes of the error tree
(their status and code are what a client sees), and what an operation does is the first sentence of
its handler's docstring. Only what is nowhere in the code as a value is written here: which path
takes which parameter and may answer which error.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import msgspec

from wire.errors import HeadwaterError

Schema: TypeAlias = Mapping[str, Any] | type
"""A JSON Schema, or a type of the code that has one."""
ErrorShape: TypeAlias = Callable[[Sequence[str]], tuple[str, Mapping[str, Any]]]
"""Codes → media type and schema of an error's body."""
JSON = "application/json"
PROBLEM = "application/problem+json"
_TEMPLATE = "#/components/schemas/{name}"
_VARIABLE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One of the path, the query or the headers. Those of a path are always required."""

    name: str
    where: str = "path"
    about: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered when all is well."""

    about: str = "Done."
    content: Mapping[str, Schema] = field(default_factory=dict)
    """Media type → what the body is."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Name → what it says. All of them are always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    route: str = ""
    """As the router names it, where that is not ``path``."""
    handler: Callable[..., Any] | None = None
    """Whose docstring says what it does."""
    summary: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: Schema | None = None
    media_type: str = JSON
    body_optional: bool = False
    answers: Mapping[int, Answer]
    errors: tuple[type[HeadwaterError], ...] = ()
    shape: ErrorShape
    security: tuple[str, ...] = ()
    """Schemes, each of which opens it; empty: everybody may ask."""
    open_to_all: bool = False
    """A credential shows more, but none is needed."""
    also: Mapping[int, str] = field(default_factory=dict)
    """Status → media type of errors that somebody else's answers are, beside those of ``shape``."""
    head: bool = False
    """Whether HEAD is answered as well."""

    @property
    def key(self) -> tuple[str, str]:
        """Method and path, as the router has them."""
        return self.method, self.route or self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Operations that belong together, as a tag of the document."""

    name: str
    about: str
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """Everything one tier answers."""

    title: str
    about: str
    areas: tuple[Area, ...]
    schemes: Mapping[str, Mapping[str, Any]]

    def operations(self) -> tuple[Operation, ...]:
        """Of all areas."""
        return tuple(one for area in self.areas for one in area.operations)

    def document(self) -> dict[str, Any]:
        """The OpenAPI 3.1 document."""
        types = _Types(_all_types(self.operations()))
        paths: dict[str, dict[str, Any]] = {}
        for area in self.areas:
            for operation in area.operations:
                methods = paths.setdefault(operation.path, {})
                methods[operation.method.lower()] = _operation(operation, area.name, types)
                if operation.head:
                    methods["head"] = _head(methods["get"])
        return {
            "openapi": "3.1.0",
            "info": {"title": self.title, "version": "1", "description": self.about},
            "tags": [{"name": area.name, "description": area.about} for area in self.areas],
            "paths": paths,
            "components": {"schemas": types.components, "securitySchemes": dict(self.schemes)},
        }


class _Types:
    """The schemas of the code's types; a type is named once and referred to."""

    def __init__(self, types: Sequence[type]) -> None:
        schemas, components = msgspec.json.schema_components(types, ref_template=_TEMPLATE)
        self._schemas = dict(zip(map(repr, types), map(_portable, schemas), strict=True))
        self.components: dict[str, Any] = {
            name: _portable(components[name]) for name in sorted(components)
        }

    def of(self, schema: Schema) -> Any:
        return schema if isinstance(schema, Mapping) else self._schemas[repr(schema)]


def _all_types(operations: Iterable[Operation]) -> list[type]:
    found: dict[str, type] = {}
    for operation in operations:
        answered = [s for answer in operation.answers.values() for s in answer.content.values()]
        for schema in (operation.body, *answered):
            if schema is not None and not isinstance(schema, Mapping):
                found[repr(schema)] = schema
    return [found[name] for name in sorted(found)]


def _portable(value: Any) -> Any:
    """Patterns as ECMA 262 has them (no ``\\A`` and ``\\Z``), docstrings as plain text; a set may
    be sent with one thing twice."""
    if isinstance(value, dict):
        kept = {name: inner for name, inner in value.items() if name != "uniqueItems"}
        return {name: _text(name, _portable(inner)) for name, inner in kept.items()}
    return [_portable(inner) for inner in value] if isinstance(value, list) else value


def _text(name: str, value: Any) -> Any:
    if name == "pattern" and isinstance(value, str):
        return value.replace(r"\A", "^").replace(r"\Z", "$")
    if name == "description" and isinstance(value, str):
        return " ".join(value.replace("``", "`").split())
    return value


def _operation(operation: Operation, tag: str, types: _Types) -> dict[str, Any]:
    made: dict[str, Any] = {
        "tags": [tag],
        "operationId": _identifier(operation),
        "summary": operation.summary or sentence(operation.handler),
        "parameters": [_parameter(one) for one in operation.parameters],
        "responses": _responses(operation, types),
    }
    if operation.body is not None:
        made["requestBody"] = {
            "required": not operation.body_optional,
            "content": {operation.media_type: {"schema": types.of(operation.body)}},
        }
    if operation.security:
        opened: list[dict[str, list[str]]] = [{name: []} for name in operation.security]
        made["security"] = [{}, *opened] if operation.open_to_all else opened
    named = set(_VARIABLE.findall(operation.path))
    declared = {one.name for one in operation.parameters if one.where == "path"}
    if named != declared:
        raise ValueError(f"{operation.path}: parameters {sorted(named ^ declared)} do not fit")
    return made


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.where,
        "required": one.where == "path",
        "description": one.about,
        "schema": dict(one.schema),
    }


def _responses(operation: Operation, types: _Types) -> dict[str, Any]:
    made = {str(status): _answer(one, types) for status, one in operation.answers.items()}
    by_status: dict[int, dict[str, str]] = {}
    for error in operation.errors:
        by_status.setdefault(error.status, {})[error.code] = sentence(error)
    for status, codes in by_status.items():
        media_type, schema = operation.shape(sorted(codes))
        about = " ".join(f"`{code}`: {codes[code]}" for code in sorted(codes))
        made[str(status)] = {"description": about, "content": {media_type: {"schema": schema}}}
    for status, media_type in operation.also.items():
        answer = made.setdefault(str(status), {"description": "As it was relayed."})
        answer.setdefault("content", {})[media_type] = {"schema": {"type": "object"}}
    return {status: made[status] for status in sorted(made)}


def _answer(answer: Answer, types: _Types) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.about}
    if answer.headers:
        made["headers"] = {
            name: {"description": about, "required": True, "schema": {"type": "string"}}
            for name, about in answer.headers.items()
        }
    if answer.content:
        made["content"] = {
            media_type: {"schema": types.of(schema)}
            for media_type, schema in answer.content.items()
        }
    return made


def _head(get: Mapping[str, Any]) -> dict[str, Any]:
    """The same without bodies (RFC 9110 section 9.3.2)."""
    responses = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in get["responses"].items()
    }
    identifier = f"head{get['operationId'].removeprefix('get')}"
    summary = f"The headers of: {get['summary']}"
    return {**get, "operationId": identifier, "summary": summary, "responses": responses}


def _identifier(operation: Operation) -> str:
    words = re.findall(r"\w+", operation.path)
    if operation.path.endswith("/"):
        words.append("root")
    return "_".join([operation.method.lower(), *words])


def sentence(thing: object) -> str:
    """The first sentence of a docstring, as plain text."""
    text = inspect.getdoc(thing) or ""
    first = " ".join(text.split("\n\n", 1)[0].split()).replace("``", "`")
    match = re.match(r"(.+?[.;])(?:\s|$)", first)
    return (match[1] if match else first).rstrip(";.") + "."
