"""How a tier's program starts: arguments, configuration, logging, event loop, exit status."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from wire.errors import ConfigError
from wire.settings import load

LIFELINE = "HEADWATER_LIFELINE"
"""Environment variable with the number of an inherited file descriptor."""
C = TypeVar("C")


def run_tier(
    section: str,
    kind: type[C],
    run: Callable[[C], Coroutine[Any, Any, None]],
    argv: list[str] | None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop],
) -> int:
    """Parse ``--config`` and ``--port``, load the configuration and run the tier.

    Returns:
        The exit status: 0 after a clean stop, 2 for a configuration that cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {section}", description=f"Headwater {section}"
    )
    parser.add_argument("--config", type=Path, help="headwater.toml")
    parser.add_argument("--port", type=int, help="port to listen on; 0: any free one")
    given = parser.parse_args(argv)
    configure_logging()
    _watch_lifeline(os.environ)
    try:
        config = load(
            section, kind, file=given.config, environ=os.environ, overrides={"port": given.port}
        )
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(run(config))
    except ConfigError as error:
        print(f"{section}: {error.message}", file=sys.stderr)  # noqa: T201 - before any log
        return 2
    return 0


def _watch_lifeline(environ: Mapping[str, str]) -> None:
    """Stop when whoever started us is gone, however it went.

    A launcher passes the reading end of a pipe whose other end it holds for life; the end of file
    is then the launcher's death, and no process is left behind.
    """
    number = environ.get(LIFELINE)
    if number is None:
        return
    descriptor = int(number)

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _as_json(event: Any, **_: Any) -> bytes:
    """A log line; what JSON does not know is shown as text. There is one per request."""
    return msgspec.json.encode(event, enc_hook=str)


def configure_logging(level: int = logging.INFO) -> None:
    """JSON lines on stderr, with level and UTC time."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
