"""Adds to a tier's application what its configuration asks for of telemetry.

What is off costs nothing, not even an import: a worker counts the milliseconds of its start.
"""

from __future__ import annotations

import asyncio
import os
import socket

from aiohttp import web
from prometheus_client import CollectorRegistry

from wire.errors import ConfigError
from wire.telemetry.config import TelemetryConfig, TracesConfig, check_url
from wire.telemetry.spans import Traces


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


def add_traces(
    app: web.Application, config: TracesConfig, *, tier: str, trust: bool
) -> Traces | None:
    """Traces, sent as long as the application lives; None where there are none.

    Args:
        trust: go on with the traces of whoever asks.

    Raises:
        ConfigError: the URL cannot be used, or the extra is not installed.
    """
    if not config.endpoint:
        return None
    check_url(config.endpoint, f"[{tier}.telemetry.traces] endpoint")
    try:
        from wire.telemetry.otel import OtelSink  # see above
    except ImportError as error:
        raise ConfigError(
            f"[{tier}.telemetry.traces] needs OpenTelemetry: pip install 'headwater[otel]' "
            f"({error.name} is missing)"
        ) from error
    resource = {
        "service.name": config.service_name or f"headwater-{tier}",
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    sink = OtelSink(config, resource)

    async def close(_app: web.Application) -> None:
        await asyncio.to_thread(sink.close)

    app.on_cleanup.append(close)
    return Traces(sink, ratio=config.sample_ratio, trust=trust)
