"""The edge's other doors: keys, the audit log, warm-ups, status; heartbeats of workers."""

from __future__ import annotations

from typing import Any

from edge_tier.gateway.admin import GatewayAdmin, KeyRequest, RotateRequest
from edge_tier.gateway.audit import AuditError
from edge_tier.gateway.credentials import InvalidKeyError
from edge_tier.gateway.jwt_tokens import AuthBusyError
from edge_tier.middlewares import LengthRequiredError
from edge_tier.warm import Job, WarmRequest
from edge_tier.warm_routes import WarmRoutes
from infra.reference.openapi.model import JSON, Answer, Area, Operation, Parameter, Schema
from infra.reference.openapi.origin_admin import admin
from infra.reference.openapi.parts import (
    ADMIN_WRITE,
    CHANNEL,
    MODEL,
    NAMED,
    problem_shape,
)
from wire.errors import (
    ConfigError,
    ForbiddenError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
    TrustError,
    TrustExpiredError,
)
from wire.paths import EDGE_REPORT, HEARTBEAT
from wire.workers import HeartbeatAnswer, WorkerReport

_KEYS: tuple[type[HeadwaterError], ...] = (
    NameInvalidError,
    InvalidKeyError,
    ForbiddenError,
    AuthBusyError,
    AuditError,
)
_ID = Parameter(name="id", about="The job's id.")
_KEY = Parameter(name="key_id", about="The public id of a key.")
_LIMIT = Parameter(
    name="limit",
    where="query",
    about="The most records; never more than 1000.",
    schema={"type": "integer"},
)


def edge_admin_area() -> Area:
    """What an operator does at an edge."""
    write: tuple[type[HeadwaterError], ...] = (LengthRequiredError, *_KEYS, ConfigError)
    return Area(
        name="admin",
        about="Keys, audit, warm-ups and status. The admin token, or a key with scope `admin`.",
        operations=(
            admin("GET", "/status", None, summary="Cache, upstreams, trust, models and workers."),
            admin("GET", "/keys", GatewayAdmin.list_keys, errors=_KEYS),
            admin("POST", "/keys", GatewayAdmin.create_key, body=KeyRequest, errors=write),
            _of_key("GET", "", GatewayAdmin.show_key),
            _of_key("DELETE", "", GatewayAdmin.revoke_key),
            _of_key("POST", "/rotate", GatewayAdmin.rotate_key, RotateRequest),
            admin(
                "GET",
                "/audit",
                GatewayAdmin.show_audit,
                parameters=(_LIMIT,),
                errors=(*_KEYS, *ADMIN_WRITE),
            ),
            *_warm(),
        ),
    )


def _of_key(method: str, tail: str, handler: Any, body: Schema | None = None) -> Operation:
    more = (LengthRequiredError, ConfigError) if body is not None else ()
    return admin(
        method,
        f"/keys/{{key_id}}{tail}",
        handler,
        parameters=(_KEY,),
        body=body,
        errors=(NotFoundError, *_KEYS, *more),
    )


def _warm() -> tuple[Operation, ...]:
    missing = (NotFoundError,)
    return (
        admin(
            "POST",
            "/warm",
            WarmRoutes.start,
            body=WarmRequest,
            answer=Job,
            errors=(
                LengthRequiredError,
                NameInvalidError,
                NotFoundError,
                TrustError,
                TrustExpiredError,
            ),
        ),
        admin("GET", "/warm", WarmRoutes.list_jobs),
        admin("GET", "/warm/{id}", WarmRoutes.show, answer=Job, parameters=(_ID,), errors=missing),
        admin(
            "DELETE",
            "/warm/{id}",
            WarmRoutes.cancel,
            answer=Job,
            parameters=(_ID,),
            errors=missing,
        ),
        admin(
            "DELETE",
            "/pins/{model}/{channel}",
            WarmRoutes.unpin,
            parameters=(MODEL, CHANNEL),
            errors=NAMED,
        ),
    )


def internal_area() -> Area:
    """What workers and edges say to an edge."""
    one_or_many: Any = WorkerReport | tuple[WorkerReport, ...]
    return Area(
        name="internal",
        about="Between the tiers.",
        operations=(
            Operation(
                method="POST",
                path=HEARTBEAT,
                handler=GatewayAdmin.heartbeat,
                body=one_or_many,
                answers={200: Answer(content={JSON: HeartbeatAnswer})},
                errors=(*ADMIN_WRITE, LengthRequiredError),
                shape=problem_shape,
                security=("workerToken",),
            ),
            Operation(
                method="POST",
                path=EDGE_REPORT,
                summary="Refused: an edge behind an edge reports to the origin.",
                answers={},
                errors=(ForbiddenError,),
                shape=problem_shape,
            ),
        ),
    )
