"""The origin's ``/admin``: upload, publish, roll, purge, trust, rollouts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from infra.reference.openapi.model import JSON, Answer, Area, Operation, Parameter, Schema
from infra.reference.openapi.parts import (
    ADMIN_READ,
    ADMIN_WRITE,
    BYTES,
    CHANNEL,
    CHUNK,
    MODEL,
    NAMED,
    OBJECT,
    REVISION,
    problem_shape,
)
from origin.admin import AdminRoutes, MissingQuery, PublishRequest, PurgeRequest, RollRequest
from origin.errors import StoreError
from origin.rollout_routes import (
    AbortRequest,
    PromoteRequest,
    RollbackRequest,
    RolloutRoutes,
    StartRequest,
)
from origin.rollout_state import Rollout
from origin.trust_routes import TrustRequest, TrustRoutes
from wire.errors import (
    ConfigError,
    ConflictError,
    ForbiddenError,
    GoneError,
    HeadwaterError,
    ManifestInvalidError,
    NameInvalidError,
    NotFoundError,
    TrustError,
    TrustExpiredError,
)
from wire.http_files import OCTETS
from wire.paths import ADMIN

SIGNED: tuple[type[HeadwaterError], ...] = (
    NameInvalidError,
    NotFoundError,
    GoneError,
    ConflictError,
    ForbiddenError,
    TrustError,
    TrustExpiredError,
    ManifestInvalidError,
    StoreError,
)
"""How a change of what is signed can fail."""


def admin(
    method: str,
    path: str,
    handler: Callable[..., Any] | None,
    *,
    body: Schema | None = None,
    answer: Schema = OBJECT,
    parameters: tuple[Parameter, ...] = (),
    errors: tuple[type[HeadwaterError], ...] = (),
    summary: str = "",
) -> Operation:
    """An operation below ``/admin`` that answers JSON."""
    return Operation(
        method=method,
        path=f"{ADMIN}{path}",
        handler=handler,
        summary=summary,
        parameters=parameters,
        body=body,
        answers={200: Answer(content={JSON: answer})},
        errors=(*(ADMIN_WRITE if body is not None else ADMIN_READ), *errors),
        shape=problem_shape,
        security=("adminToken",),
        head=method == "GET",
    )


def admin_area() -> Area:
    """What a publisher and an operator do at an origin."""
    return Area(
        name="admin",
        about="Upload, publish, roll, purge. The admin token on all.",
        operations=(
            admin("GET", "/status", AdminRoutes.status, errors=(StoreError,)),
            admin(
                "POST",
                "/chunks/missing",
                AdminRoutes.missing,
                body=MissingQuery,
                errors=(NameInvalidError, GoneError, StoreError),
            ),
            _put("/chunks/{id}", AdminRoutes.put_chunk, CHUNK, OCTETS, BYTES),
            _put("/manifests/{revision}", AdminRoutes.put_manifest, REVISION, JSON, {}),
            admin("POST", "/publish", AdminRoutes.publish, body=PublishRequest, errors=SIGNED),
            admin("POST", "/roll", AdminRoutes.roll, body=RollRequest, errors=SIGNED),
            admin(
                "POST",
                "/purge",
                AdminRoutes.purge,
                body=PurgeRequest,
                errors=(NameInvalidError, StoreError),
            ),
            admin(
                "POST",
                "/trust",
                TrustRoutes.accept,
                body=TrustRequest,
                errors=(*SIGNED, ConfigError),
            ),
        ),
    )


def rollouts_area() -> Area:
    """Rolls that the origin drives."""
    one = "/rollouts/{model}/{channel}"
    named = (MODEL, CHANNEL)
    return Area(
        name="rollouts",
        about="Begin, watch, promote, abort and roll back. The admin token on all.",
        operations=(
            admin("GET", "/rollouts", RolloutRoutes.all),
            admin(
                "POST",
                "/rollouts",
                RolloutRoutes.start,
                body=StartRequest,
                answer=Rollout,
                errors=SIGNED,
            ),
            admin("GET", one, RolloutRoutes.one, parameters=named, errors=NAMED),
            *(
                admin(
                    "POST",
                    f"{one}/{verb}",
                    handler,
                    parameters=named,
                    body=body,
                    answer=Rollout,
                    errors=SIGNED,
                )
                for verb, handler, body in (
                    ("abort", RolloutRoutes.abort, AbortRequest),
                    ("promote", RolloutRoutes.promote, PromoteRequest),
                    ("rollback", RolloutRoutes.rollback, RollbackRequest),
                )
            ),
        ),
    )


def _put(
    path: str, handler: Callable[..., Any], name: Parameter, media_type: str, body: Schema
) -> Operation:
    return Operation(
        method="PUT",
        path=f"{ADMIN}{path}",
        handler=handler,
        parameters=(name,),
        body=body,
        media_type=media_type,
        answers={204: Answer(about="Stored.")},
        errors=(*ADMIN_WRITE, *SIGNED),
        shape=problem_shape,
        security=("adminToken",),
    )
