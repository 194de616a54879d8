"""``python -m origin --config headwater.toml``: one origin, until SIGTERM."""

from __future__ import annotations

import asyncio

from origin.app import build_app
from origin.config import OriginConfig
from wire.http_server import serve
from wire.process import run_tier


async def run(config: OriginConfig) -> None:
    """Serve an origin until it is told to stop."""
    app = await build_app(config)
    await serve(
        app,
        host=config.host,
        port=config.port,
        ready_file=config.ready_file,
        drain_s=config.drain_s,
        drain_delay_s=config.drain_delay_s,
    )


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 after a clean stop, 2 for a configuration that cannot be used."""
    return run_tier("origin", OriginConfig, run, argv, asyncio.new_event_loop)


if __name__ == "__main__":
    raise SystemExit(main())
