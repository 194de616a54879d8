"""The origin's upkeep and its fleet: collect, verify, pin, prune; nodes and commands; reports."""

from __future__ import annotations

from infra.reference.openapi.model import JSON, Answer, Area, Operation, Parameter
from infra.reference.openapi.origin_admin import SIGNED, admin
from infra.reference.openapi.parts import ADMIN_WRITE, NAME, NAMED, problem_shape
from origin.consistency import Consistency
from origin.errors import StoreError
from origin.fleet import FleetFullError
from origin.fleet_routes import FleetRoutes
from origin.orders import CommandRequest, Order, TooManyOrdersError
from origin.upkeep.jobs import Job
from origin.upkeep.routes import (
    GC,
    VERIFY,
    GcRequest,
    PinRequest,
    PlanRequest,
    PruneRequest,
    UpkeepRoutes,
    VerifyRequest,
)
from wire.errors import ConflictError, ForbiddenError, NotFoundError
from wire.fleet import EdgeAnswer, EdgeReport
from wire.paths import EDGE_REPORT

_KIND = Parameter(name="kind", about="Which job.", schema={"type": "string", "enum": [GC, VERIFY]})
_NODE = Parameter(name="name", about="An edge's or worker's name.")
_ID = Parameter(name="id", about="The command's id.")
_QUERY = (
    Parameter(name="model", where="query", about="A model's name; needed.", schema=NAME),
    Parameter(name="channel", where="query", about="By default `stable`.", schema=NAME),
)


def upkeep_area() -> Area:
    """What keeps a store small and sound."""
    return Area(
        name="upkeep",
        about="Garbage collection, verification, pins and pruning. The admin token on all.",
        operations=(
            admin(
                "POST",
                "/gc",
                UpkeepRoutes.collect,
                body=GcRequest,
                answer=Job,
                errors=(ConflictError,),
            ),
            admin(
                "POST",
                "/verify",
                UpkeepRoutes.verify,
                body=VerifyRequest,
                answer=Job,
                errors=(ConflictError,),
            ),
            admin(
                "GET",
                "/jobs/{kind}",
                UpkeepRoutes.job,
                answer=Job,
                parameters=(_KIND,),
                errors=(NotFoundError,),
            ),
            admin(
                "DELETE",
                "/jobs/{kind}",
                UpkeepRoutes.cancel,
                answer=Job,
                parameters=(_KIND,),
                errors=(NotFoundError, ConflictError),
            ),
            admin("GET", "/pins", UpkeepRoutes.pins, errors=(StoreError,)),
            admin("POST", "/pins", UpkeepRoutes.pin, body=PinRequest, errors=SIGNED),
            admin("POST", "/prune/plan", UpkeepRoutes.plan, body=PlanRequest, errors=(StoreError,)),
            admin("POST", "/prune", UpkeepRoutes.prune, body=PruneRequest, errors=SIGNED),
        ),
    )


def fleet_area() -> Area:
    """Who is there, and what is wanted of them."""
    return Area(
        name="fleet",
        about="Edges, workers and commands to them.",
        operations=(
            admin("GET", "/fleet", FleetRoutes.show),
            admin(
                "GET",
                "/fleet/consistency",
                FleetRoutes.consistency,
                answer=Consistency,
                parameters=_QUERY,
                errors=NAMED,
            ),
            admin(
                "POST",
                "/fleet/commands",
                FleetRoutes.command,
                body=CommandRequest,
                answer=Order,
                errors=(NotFoundError, ConflictError, TooManyOrdersError),
            ),
            admin(
                "GET",
                "/fleet/commands/{id}",
                FleetRoutes.show_command,
                answer=Order,
                parameters=(_ID,),
                errors=(NotFoundError,),
            ),
            admin(
                "DELETE",
                "/fleet/nodes/{name}",
                FleetRoutes.forget,
                parameters=(_NODE,),
                errors=(NotFoundError,),
            ),
            Operation(
                method="POST",
                path=EDGE_REPORT,
                handler=FleetRoutes.report,
                body=EdgeReport,
                answers={200: Answer(content={JSON: EdgeAnswer})},
                errors=(*ADMIN_WRITE, ForbiddenError, FleetFullError),
                shape=problem_shape,
                security=("edgeToken",),
            ),
        ),
    )
