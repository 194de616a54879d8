"""Sends bodies of remote write over HTTP, and adds remote write to an application. Thin."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import aiohttp
from aiohttp import web
from prometheus_client import CollectorRegistry

from wire.errors import SourceUnavailableError
from wire.http_server import guard, read_token
from wire.telemetry.buffer import Buffer
from wire.telemetry.config import TelemetryConfig, check_url
from wire.telemetry.pipeline import Answer, RemoteWrite
from wire.telemetry.remote_write import HEADERS
from wire.telemetry.samples import Sampler
from wire.telemetry.self_metrics import TelemetryCollector
from wire.telemetry.shipper import retry_after_s
from wire.telemetry.spool import Spool, open_slot

_MAX_REASON_BYTES = 300


class HttpReceiver:
    """A receiver (``pipeline.Receiver``).

    Args:
        token: sent as bearer token; never logged.
        shown: the URL for messages.
    """

    def __init__(
        self, url: str, shown: str, *, token: str | None = None, timeout_s: float = 10.0
    ) -> None:
        self._url = url
        self._shown = shown
        self._headers = dict(HEADERS)
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: bytes) -> Answer:
        """Raises ``SourceUnavailableError``: there was no answer in time."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                timeout=self._timeout,
                skip_auto_headers=("Accept-Encoding",),
                auto_decompress=False,  # nothing compressed was asked for, and nothing is unpacked
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        try:
            async with self._session.post(self._url, data=body, allow_redirects=False) as answer:
                if 200 <= answer.status < 300:
                    # Taken. What else is said, or never said to its end, cannot undo that; the
                    # batch would be sent again and again.
                    return Answer(answer.status)
                said = await answer.content.read(_MAX_REASON_BYTES)
                after = answer.headers.get("Retry-After")
                reason = "".join(c for c in said.decode("utf-8", "replace") if c.isprintable())
                return Answer(answer.status, retry_after_s(after, time.time()), reason)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise SourceUnavailableError(f"{self._shown}: {why}") from error

    async def aclose(self) -> None:
        """Close its connection."""
        if self._session is not None:
            await self._session.close()


def add_remote_write(
    app: web.Application,
    registry: CollectorRegistry,
    config: TelemetryConfig,
    *,
    tier: str,
    port: int,
    shares_port: bool,
) -> None:
    """Send the registry's metrics as long as the application lives.

    Raises:
        ConfigError: the URL or the token file cannot be used.
    """
    shown = check_url(config.remote_write_url, f"[{tier}.telemetry] remote_write_url")
    token = read_token(config.bearer_token_file) if config.bearer_token_file else None
    slot = 0

    def open_spool() -> Spool:
        nonlocal slot
        slot, spool = open_slot(
            config.spool_dir / tier,
            most_bytes=config.spool_bytes,
            segment_bytes=config.segment_bytes,
            fsync=config.fsync,
        )
        return spool

    async def context(_app: web.Application) -> Any:
        buffer = await asyncio.to_thread(Buffer, open_spool, config.memory_bytes)
        labels = {**_labels(tier, port, slot if shares_port else None), **config.labels}
        sampler = Sampler(registry, labels, max_series=config.max_series)
        receiver = HttpReceiver(
            config.remote_write_url, shown, token=token, timeout_s=config.timeout_s
        )
        remote = RemoteWrite(config, sampler, buffer, receiver)
        registry.register(TelemetryCollector(remote, buffer))
        task = asyncio.create_task(guard("remote-write", remote.run()), name="remote-write")
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await remote.aclose()

    app.cleanup_ctx.append(context)


def _labels(tier: str, port: int, slot: int | None) -> dict[str, str]:
    """Those that a scrape would give, and that stay the same over restarts. Several processes on
    one port are told apart by the number of their spool."""
    instance = f"{socket.gethostname()}:{port}" + (f"/{slot}" if slot is not None else "")
    return {"job": f"headwater-{tier}", "tier": tier, "instance": instance}
