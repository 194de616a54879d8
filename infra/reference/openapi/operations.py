"""Health, readiness and metrics: the same on every tier."""

from __future__ import annotations

from infra.reference.openapi.model import JSON, Answer, Area, Operation
from infra.reference.openapi.parts import problem_shape
from wire.http_server import NotReadyError
from wire.paths import HEALTHZ, METRICS, READYZ

_HEALTH = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
_READY = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["ready", "degraded"]},
        "degraded": {"type": "string", "description": "What does not work."},
    },
}


def operations_area() -> Area:
    """What probes and Prometheus ask."""
    return Area(
        name="operations",
        about="Probes and metrics. Nothing here needs a credential; keep it off the internet.",
        operations=(
            Operation(
                method="GET",
                path=HEALTHZ,
                summary="Whether the process lives.",
                answers={200: Answer(about="It lives.", content={JSON: _HEALTH})},
                shape=problem_shape,
                head=True,
            ),
            Operation(
                method="GET",
                path=READYZ,
                summary="Whether the process may get traffic.",
                answers={200: Answer(about="It may.", content={JSON: _READY})},
                errors=(NotReadyError,),
                shape=problem_shape,
                head=True,
            ),
            Operation(
                method="GET",
                path=METRICS,
                summary="Metrics in Prometheus's text format.",
                answers={200: Answer(about="All.", content={"text/plain": {"type": "string"}})},
                shape=problem_shape,
                head=True,
            ),
        ),
    )
