"""Sends a request to one backend, and waits until its answer has really begun."""

from __future__ import annotations

from typing import Any

import msgspec

from edge_tier.gateway.errors import UpstreamBusyError, UpstreamError, UpstreamRefusedError
from edge_tier.gateway.request import Prompt
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool
from edge_tier.gateway.upstream_response import UpstreamResponse

_MAX_REFUSAL_BYTES = 64 * 1024
_MAX_COMMENT_BYTES = 64 * 1024
"""Keep-alive comments before the first event; what sends more is taken for an answer."""
_MAX_POOLS = 8_192
_MAX_REASON_CHARS = 300
_BUSY = frozenset({"queue_full", "not_serving"})
"""Codes of a worker that is well and cannot take this request now."""
_PATHS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
}


class OtherRevisionError(Exception):
    """The token ids are not for the revision that a worker serves now."""

    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


class Pools:
    """The connections to all workers, by their addresses.

    Args:
        token: what workers ask of an edge.
    """

    def __init__(self, token: str, config: UpstreamConfig | None) -> None:
        self._token = token
        self._config = config
        self._pools: dict[str, UpstreamPool] = {}

    def pool(self, url: str) -> UpstreamPool:
        """That of one worker."""
        pool = self._pools.get(url)
        if pool is None:
            if len(self._pools) >= _MAX_POOLS:
                # Workers come and go; the oldest address is the likeliest to be nobody's.
                self._pools.pop(next(iter(self._pools))).retire()
            pool = UpstreamPool(url, token=self._token, config=self._config)
            self._pools[url] = pool
        return pool

    async def aclose(self) -> None:
        """Close all idle connections."""
        for pool in self._pools.values():
            await pool.aclose()


async def send(
    pool: UpstreamPool, prompt: Prompt, body: dict[str, Any], headers: bytes = b""
) -> UpstreamResponse:
    """POST and wait for the first event, or the first bytes, of a good answer.

    Args:
        headers: further lines, each ending in CRLF.

    Raises:
        UpstreamRefusedError: 400, 413 or 422: the request itself is at fault.
        OtherRevisionError: the ids are not for the revision that the worker serves now.
        UpstreamBusyError: well, but it cannot take one more now.
        UpstreamError: anything else that is no answer.
    """
    response = await pool.post(_PATHS[prompt.kind], msgspec.json.encode(body), headers=headers)
    timer = pool.deadline(response)
    try:
        if response.status == 200:
            await _begun(response, stream=prompt.stream)
            return response
        said = _said(await response.read(_MAX_REFUSAL_BYTES))
        if response.status == 409 and (now := response.headers.get("x-model-digest")):
            raise OtherRevisionError(now)
        raise _failure(response.status, said)
    except BaseException:
        response.close()
        raise
    finally:
        timer.cancel()


def _failure(status: int, said: _ErrorDetail) -> UpstreamError | UpstreamRefusedError:
    reason = _printable(said.message)
    if status in {400, 413, 422}:
        return UpstreamRefusedError(reason, why=str(said.code or ""))
    if status in {401, 403}:
        reason = "the backend does not take our token"  # its own words may show a part of it
    kind = UpstreamBusyError if status == 503 and said.code in _BUSY else UpstreamError
    return kind(f"status {status}: {reason}")


async def _begun(response: UpstreamResponse, *, stream: bool) -> None:
    """Until the answer has really begun: comments, which only keep a connection alive, are none."""
    held = await response.first()
    while stream and b"data:" not in held and len(held) < _MAX_COMMENT_BYTES:
        if not await response.more():
            break
        held = response.held()
    if not held:
        raise UpstreamError("the answer is empty")
    if stream and response.ended and b"data:" not in held:
        raise UpstreamError("the answer is no stream of events")


class _ErrorDetail(msgspec.Struct, frozen=True):
    message: str = ""
    code: str | int | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorDetail = _ErrorDetail()


def _said(body: bytes) -> _ErrorDetail:
    try:
        return msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return _ErrorDetail()


def _printable(message: str) -> str:
    return "".join(c for c in message[:_MAX_REASON_CHARS] if c.isprintable()) or "no reason given"
