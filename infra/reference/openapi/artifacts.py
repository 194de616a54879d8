"""``/artifacts``: what origins and edges serve to each other, to workers and to caches between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.reference.openapi.model import JSON, Answer, Area, Operation, Parameter
from infra.reference.openapi.parts import (
    BYTES,
    CHANNEL,
    CHUNK,
    COUNT,
    EVENT,
    IF_NONE_MATCH,
    MODEL,
    NAMED,
    NOT_MODIFIED,
    OBJECT,
    RANGE,
    REVISION,
    SERVED,
    problem_shape,
)
from wire.errors import HeadwaterError, NameInvalidError, NotFoundError, SourceUnavailableError
from wire.http_files import OCTETS
from wire.http_range import RangeNotSatisfiableError
from wire.http_routes import ARTIFACTS, ArtifactRoutes
from wire.manifest import Manifest
from wire.paths import CHANNELS, CHUNKS, EVENTS, FILES, MANIFESTS, TAKEDOWNS, TRUST, TRUST_BUNDLE

_ETAG = {"ETag": "Names these very bytes."}
_TAGGED = {
    **_ETAG,
    "Cache-Control": "What caches may do.",
    "Surrogate-Key": "What a purge names it by.",
}
PATH = Parameter(
    name="path",
    about="A file's path inside the revision; it may hold slashes.",
    schema={"type": "string", "minLength": 1, "maxLength": 512},
)
_DOCUMENT = Parameter(
    name="document",
    about="`timestamp.json` or `VERSION.ROLE.json` (the TUF specification).",
    schema={
        "type": "string",
        "pattern": "^(timestamp|[1-9][0-9]{0,8}[.](root|snapshot|targets|revisions|channels))"
        "[.]json$",
    },
)
_TAKEN_DOWN = {
    "type": "object",
    "required": ["keys"],
    "properties": {
        "keys": {"type": "array", "items": {"type": "string"}},
        "count": {"type": "integer", "description": "How many there are in all; of origins."},
    },
}
_ROOT = Parameter(
    name="root", where="query", about="The version of the root that the client has.", schema=COUNT
)
_SINCE = Parameter(
    name="since", where="query", about="How many keys the client knows.", schema=COUNT
)
_LAST = Parameter(
    name="Last-Event-ID", where="header", about="The last event that the client has seen."
)


def artifacts_area(behind: tuple[type[HeadwaterError], ...], *, counts: bool) -> Area:
    """The paths of artifacts.

    Args:
        behind: what can go wrong behind this tier: at its store, or at its upstreams.
        counts: whether takedowns are counted, and asked for by count.
    """
    return Area(
        name="artifacts",
        about="Signed and content-addressed: chunks, manifests, files, channels, trust, events.",
        operations=(
            _chunk(behind),
            _manifest(behind),
            _file(behind),
            _channel(behind),
            _bundle(behind),
            _role(behind),
            _events(),
            _takedowns(counts=counts),
            _unknown(),
        ),
    )


def _chunk(behind: tuple[type[HeadwaterError], ...]) -> Operation:
    return _get(
        f"{CHUNKS}/{{id}}",
        ArtifactRoutes.chunk,
        (CHUNK, IF_NONE_MATCH, RANGE),
        {
            200: Answer(about="The chunk.", content={OCTETS: BYTES}, headers=_TAGGED),
            206: Answer(about="The range.", content={OCTETS: BYTES}, headers=_ranged()),
            304: NOT_MODIFIED,
        },
        (*SERVED, RangeNotSatisfiableError, *behind),
    )


def _manifest(behind: tuple[type[HeadwaterError], ...]) -> Operation:
    return _get(
        f"{MANIFESTS}/{{revision}}",
        ArtifactRoutes.manifest,
        (REVISION, IF_NONE_MATCH),
        {
            200: Answer(about="Canonical JSON.", content={JSON: Manifest}, headers=_TAGGED),
            304: NOT_MODIFIED,
        },
        (*SERVED, *behind),
        security=("pullToken", "adminToken"),
    )


def _file(behind: tuple[type[HeadwaterError], ...]) -> Operation:
    return _get(
        f"{FILES}/{{revision}}/{{path}}",
        ArtifactRoutes.file,
        (REVISION, PATH, IF_NONE_MATCH, RANGE),
        {
            200: Answer(about="The file.", content={OCTETS: BYTES}, headers=_TAGGED),
            206: Answer(about="The range.", content={OCTETS: BYTES}, headers=_ranged()),
            304: NOT_MODIFIED,
        },
        (*SERVED, RangeNotSatisfiableError, *behind),
        security=("pullToken", "adminToken"),
    )


def _channel(behind: tuple[type[HeadwaterError], ...]) -> Operation:
    return _get(
        f"{CHANNELS}/{{model}}/{{channel}}",
        ArtifactRoutes.channel,
        (MODEL, CHANNEL, IF_NONE_MATCH),
        {
            200: Answer(about="The pointer.", content={JSON: OBJECT}, headers=_TAGGED),
            304: NOT_MODIFIED,
        },
        (*NAMED, *behind),
    )


def _bundle(behind: tuple[type[HeadwaterError], ...]) -> Operation:
    return _get(
        TRUST_BUNDLE,
        ArtifactRoutes.bundle,
        (_ROOT, IF_NONE_MATCH),
        {
            200: Answer(about="The bundle.", content={JSON: OBJECT}, headers=_TAGGED),
            304: NOT_MODIFIED,
        },
        (NameInvalidError, *behind),
    )


def _role(behind: tuple[type[HeadwaterError], ...]) -> Operation:
    return _get(
        f"{TRUST}/{{document}}",
        ArtifactRoutes.role,
        (_DOCUMENT, IF_NONE_MATCH),
        {
            200: Answer(about="The document.", content={JSON: OBJECT}, headers=_TAGGED),
            304: NOT_MODIFIED,
        },
        (*NAMED, *behind),
    )


def _events() -> Operation:
    return Operation(
        method="GET",
        path=EVENTS,
        summary="What changes, as server-sent events: channels, purges and resets.",
        parameters=(_LAST,),
        answers={
            200: Answer(about="A stream without an end.", content={"text/event-stream": EVENT})
        },
        errors=(SourceUnavailableError,),
        shape=problem_shape,
    )


def _takedowns(*, counts: bool) -> Operation:
    return _get(
        TAKEDOWNS,
        None,
        (_SINCE, IF_NONE_MATCH) if counts else (IF_NONE_MATCH,),
        {
            200: Answer(about="The list.", content={JSON: _TAKEN_DOWN}, headers=_ETAG),
            304: NOT_MODIFIED,
        },
        (NameInvalidError,) if counts else (),
        summary="The surrogate keys of all that was taken down.",
    )


def _unknown() -> Operation:
    rest = Parameter(name="rest", about="Anything else.", schema={"type": "string"})
    return _get(
        f"{ARTIFACTS}/{{rest}}",
        ArtifactRoutes.unknown,
        (rest,),
        {},
        (NameInvalidError, NotFoundError),
    )


def _get(
    path: str,
    handler: Callable[..., Any] | None,
    parameters: tuple[Parameter, ...],
    answers: dict[int, Answer],
    errors: tuple[type[HeadwaterError], ...],
    *,
    security: tuple[str, ...] = (),
    summary: str = "",
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        handler=handler,
        summary=summary,
        parameters=parameters,
        answers=answers,
        errors=errors,
        shape=problem_shape,
        security=security,
        open_to_all=bool(security),
        head=True,
    )


def _ranged() -> dict[str, str]:
    return {"ETag": "Of the whole.", "Content-Range": "Which bytes these are."}
