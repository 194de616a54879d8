"""How far a tier's trusted metadata can be relied on, for its status and its metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from wire.trust import TrustState, TrustView

STATES: tuple[TrustState, ...] = ("fresh", "expired_within_grace", "beyond_grace")
"""By the number that the metric gives."""


def trust_status(view: TrustView | None) -> dict[str, object]:
    """What ``/admin/status`` says of a trusted view; ``state`` is ``none`` before the first."""
    if view is None:
        return {"versions": {}, "expired": None, "state": "none", "grace_until": None}
    return {
        "versions": dict(view.versions),
        "expired": view.expired,
        "state": view.state,
        "expires_at": view.expires_at,
        "grace_until": view.grace_until,
    }


class TrustMetrics(Collector):
    """Gauges over a trusted view, read when they are asked for.

    Args:
        view: what is trusted now; None before the first bundle.
    """

    def __init__(self, registry: CollectorRegistry, view: Callable[[], TrustView | None]) -> None:
        self._view = view
        state = Gauge(
            "headwater_trust_state",
            "Trust metadata: 0 fresh, 1 expired within the offline grace, 2 beyond it, -1 none.",
            registry=registry,
        )
        expires = Gauge(
            "headwater_trust_expires_timestamp_seconds",
            "When the first role of the trusted metadata expires, seconds since 1970.",
            registry=registry,
        )
        state.set_function(self._state)
        expires.set_function(self._expires)
        registry.register(self)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """By role: those of offline keys expire months apart from those that are renewed."""
        view = self._view()
        roles = GaugeMetricFamily(
            "headwater_trust_role_expires_timestamp_seconds",
            "When a role of the trusted metadata expires, seconds since 1970.",
            labels=["role"],
        )
        for role, expires in view.expires.items() if view else ():
            roles.add_metric([role], expires)
        yield roles

    def _state(self) -> float:
        view = self._view()
        return STATES.index(view.state) if view else -1

    def _expires(self) -> float:
        view = self._view()
        return view.expires_at if view else math.nan
