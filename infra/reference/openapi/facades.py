"""The paths for stock clients: the Hugging Face Hub's, and those of an OCI registry (Ollama)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from infra.reference.openapi.artifacts import PATH
from infra.reference.openapi.model import (
    JSON,
    PROBLEM,
    Answer,
    Area,
    ErrorShape,
    Operation,
    Parameter,
)
from infra.reference.openapi.parts import (
    BYTES,
    IF_NONE_MATCH,
    NOT_MODIFIED,
    OBJECT,
    RANGE,
    hub_shape,
    registry_shape,
)
from wire.catalog import CatalogMissingError, ModelUnknownError, RevisionUnknownError
from wire.errors import (
    ForbiddenError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    RequestInvalidError,
    UnauthorizedError,
)
from wire.http_files import OCTETS
from wire.http_hub import HubRoutes
from wire.http_range import RangeNotSatisfiableError
from wire.http_registry import REGISTRY, RegistryRoutes
from wire.hub import EntryUnknownError
from wire.registry import BlobUnknownError, DigestInvalidError, ManifestUnknownError

_READ: tuple[type[HeadwaterError], ...] = (
    UnauthorizedError,
    ForbiddenError,
    NotFoundError,
    ModelUnknownError,
    RevisionUnknownError,
    NameInvalidError,
    RequestInvalidError,
    GoneError,
    CatalogMissingError,
)
_HUB = (*_READ, EntryUnknownError)
_REGISTRY = (*_READ, ManifestUnknownError, BlobUnknownError, DigestInvalidError)
_REPOSITORY = Parameter(name="repository", about="`MODEL` or `NAMESPACE/MODEL`.")
_NAME = Parameter(name="name", about="A channel (`main` is `stable`), a commit or a revision.")
_NAMESPACED = Parameter(name="name", about="`MODEL` or `NAMESPACE/MODEL`.")
_REFERENCE = Parameter(name="reference", about="A tag, or `sha256:` and the digest.")
_DIGEST = Parameter(name="digest", about="`sha256:` and 64 hexadecimal digits.")
_LINK = Answer(about="Its address for ever.", headers={"Location": "The commit's own address."})


def facades_area(behind: tuple[type[HeadwaterError], ...]) -> Area:
    """What stock clients ask. ``behind`` as for the artifacts."""
    return Area(
        name="facades",
        about="The same files for stock clients: `hf download`, llama.cpp, `ollama pull`, ORAS.",
        operations=(*_hub(behind), *_registry(behind)),
    )


def _hub(behind: tuple[type[HeadwaterError], ...]) -> tuple[Operation, ...]:
    rest = Parameter(
        name="rest",
        about="`REPOSITORY`, with `/refs`, `/revision/NAME` or `/tree/NAME[/FOLDER]`.",
        schema={"type": "string", "minLength": 1},
    )
    flags = tuple(
        Parameter(name=name, where="query", about=about)
        for name, about in (
            ("blobs", "`true`: with sizes and digests."),
            ("recursive", "`true`: of all folders below too."),
        )
    )
    numbers = tuple(
        Parameter(
            name=name,
            where="query",
            about=about,
            schema={"type": "integer", "minimum": 0, "maximum": 9_999_999},
        )
        for name, about in (("limit", "Entries of a page."), ("cursor", "Where a page begins."))
    )
    anything: Mapping[str, Any] = {"type": ["object", "array"]}
    return (
        _get(
            "/api/whoami-v2",
            HubRoutes.whoami,
            (),
            {200: Answer(content={JSON: OBJECT})},
            (UnauthorizedError,),
            hub_shape,
        ),
        _get(
            "/api/models/{rest}",
            HubRoutes.api,
            (rest, *flags, *numbers),
            {200: Answer(content={JSON: anything})},
            (*_HUB, *behind),
            hub_shape,
        ),
        _get(
            "/{repository}/resolve/{name}/{path}",
            HubRoutes.resolve,
            (_REPOSITORY, _NAME, PATH, IF_NONE_MATCH, RANGE),
            {
                200: Answer(about="The file.", content={OCTETS: BYTES}),
                206: Answer(about="The range.", content={OCTETS: BYTES}),
                304: NOT_MODIFIED,
                307: _LINK,
            },
            (*_HUB, RangeNotSatisfiableError, *behind),
            hub_shape,
        ),
    )


def _registry(behind: tuple[type[HeadwaterError], ...]) -> tuple[Operation, ...]:
    errors = (*_REGISTRY, *behind)
    image = {
        200: Answer(
            about="An image manifest.",
            content={
                "application/vnd.oci.image.manifest.v1+json": OBJECT,
                "application/vnd.docker.distribution.manifest.v2+json": OBJECT,
            },
        ),
        304: NOT_MODIFIED,
    }
    blob = {
        200: Answer(about="The blob.", content={OCTETS: BYTES}),
        206: Answer(about="The range.", content={OCTETS: BYTES}),
        304: NOT_MODIFIED,
        307: Answer(about="An address that opens it.", headers={"Location": "For some hours."}),
    }
    told = {200: Answer(content={JSON: OBJECT})}
    page = (
        Parameter(
            name="n",
            where="query",
            about="Tags of a page.",
            schema={"type": "integer", "minimum": 0, "maximum": 9_999_999},
        ),
        Parameter(name="last", where="query", about="The last tag of the page before."),
    )
    conditional = (IF_NONE_MATCH, RANGE)
    reads = (
        ("/", RegistryRoutes.ping, (), told, errors),
        ("/token", RegistryRoutes.token, (), told, errors),
        (
            "/{name}/manifests/{reference}",
            RegistryRoutes.manifest,
            (_NAMESPACED, _REFERENCE, IF_NONE_MATCH),
            image,
            errors,
        ),
        (
            "/{name}/blobs/{digest}",
            RegistryRoutes.blob,
            (_NAMESPACED, _DIGEST, *conditional),
            blob,
            (*errors, RangeNotSatisfiableError),
        ),
        ("/{name}/tags/list", RegistryRoutes.tags, (_NAMESPACED, *page), told, errors),
    )
    return tuple(
        _get(f"{REGISTRY}{path}", handler, parameters, answers, failures, registry_shape)
        for path, handler, parameters, answers, failures in reads
    )


def _get(
    path: str,
    handler: Callable[..., Any],
    parameters: tuple[Parameter, ...],
    answers: Mapping[int, Answer],
    errors: tuple[type[HeadwaterError], ...],
    shape: ErrorShape,
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        handler=handler,
        parameters=parameters,
        answers=answers,
        errors=errors,
        shape=shape,
        security=("pullToken", "adminToken"),
        open_to_all=True,
        # A line feed in such a path is no path of the handler's: the router says so.
        also={404: PROBLEM} if shape is hub_shape and parameters else {},
        head=True,
    )
