"""``python -m edge_tier --config headwater.toml``: one edge, until SIGTERM."""

from __future__ import annotations

import os

import structlog
import uvloop

from edge_tier.app import REPORTER, build_app
from edge_tier.config import EdgeConfig
from wire.http_server import serve
from wire.process import run_tier

_log = structlog.get_logger("edge")
_OWN_PORT_HINT = (
    "workers and Prometheus reach any one of the processes that share a port; give each an "
    "edge.own_port and name those in worker.heartbeat_to"
)


async def run(config: EdgeConfig) -> None:
    """Serve an edge until it is told to stop."""
    app = await build_app(config)
    if config.is_shared:
        _log.warning("one port for all", port=config.port, hint=_OWN_PORT_HINT)
    await serve(
        app,
        host=config.host,
        port=config.port,
        ready_file=config.ready_file,
        drain_s=config.drain_s,
        drain_delay_s=config.drain_delay_s,
        reuse_port=config.reuse_port,
        own_port=config.own_port,
        on_bound=app[REPORTER].bound,
    )


def main(argv: list[str] | None = None) -> int:
    """Exit status 0 after a clean stop, 2 for a configuration that cannot be used."""
    # Prompts are encoded one at a time; the library's threads only cost time at their barriers.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return run_tier("edge", EdgeConfig, run, argv, uvloop.new_event_loop)


if __name__ == "__main__":
    raise SystemExit(main())
