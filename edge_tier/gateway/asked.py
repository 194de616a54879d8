"""Sends a request to a backend, as an attempt of a trace where there is one."""

from __future__ import annotations

import asyncio
from typing import Any

from edge_tier.gateway.opened import Wanted
from edge_tier.gateway.request import Step
from edge_tier.gateway.sending import OtherRevisionError, send
from edge_tier.gateway.tracing import Attempt
from edge_tier.gateway.upstream import UpstreamPool
from edge_tier.gateway.upstream_response import UpstreamResponse
from wire.errors import HeadwaterError


async def ask(
    pool: UpstreamPool, step: Step, wanted: Wanted, body: dict[str, Any], worker: str = ""
) -> tuple[UpstreamResponse, Attempt | None]:
    """The answer, which has begun, and the attempt that is to be ended with it.

    Raises:
        OtherRevisionError, UpstreamError, UpstreamRefusedError: as ``sending.send``.
    """
    if wanted.trace is None:
        return await send(pool, wanted.prompt, body), None
    attempt = wanted.trace.attempt(step.target, step.model, worker)
    try:
        return await send(pool, wanted.prompt, body, attempt.header()), attempt
    except BaseException as error:
        attempt.end(_code(error))
        raise


def _code(error: BaseException) -> str:
    """What ended an attempt, in a word."""
    if isinstance(error, HeadwaterError):
        return error.code
    if isinstance(error, OtherRevisionError):
        return "revision_changed"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
