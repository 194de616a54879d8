"""Adds to a tier's application what its configuration asks for of telemetry.

What is off costs nothing, not even an import: a worker counts the milliseconds of its start.
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry

from wire.telemetry.config import TelemetryConfig


def add_telemetry(
    app: web.Application,
    registry: CollectorRegistry,
    config: TelemetryConfig,
    *,
    tier: str,
    port: int,
    shares_port: bool = False,
) -> None:
    """Metrics by remote write.

    Args:
        registry: of the application, with everything in it by the time it starts.
        port: of the configuration.
        shares_port: whether other processes listen on it too.

    Raises:
        ConfigError: something that is configured cannot be used.
    """
    if config.remote_write_url:
        from wire.telemetry.http_remote_write import add_remote_write  # see above

        add_remote_write(app, registry, config, tier=tier, port=port, shares_port=shares_port)
