from __future__ import annotations

from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from wire.telemetry.config import TelemetryConfig
from wire.telemetry.http_telemetry import add_telemetry


async def test_what_is_off_does_nothing(tmp_path: Path) -> None:
    app, registry = web.Application(), CollectorRegistry()
    config = TelemetryConfig(spool_dir=tmp_path)
    add_telemetry(app, registry, config, tier="edge", port=7401)
    async with TestServer(app):
        assert len(app.cleanup_ctx) == 0
    assert not (tmp_path / "edge").exists()
    assert list(registry.collect()) == []


async def test_what_is_on_runs_with_the_application(tmp_path: Path) -> None:
    app, registry = web.Application(), CollectorRegistry()
    config = TelemetryConfig(
        remote_write_url="http://127.0.0.1:1/write", spool_dir=tmp_path, backoff_s=0.01
    )
    add_telemetry(app, registry, config, tier="edge", port=7401)
    async with TestServer(app):
        assert (tmp_path / "edge" / "0" / "lock").exists()
        assert registry.get_sample_value("headwater_telemetry_spool_degraded") == 0
