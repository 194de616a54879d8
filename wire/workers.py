"""What a worker tells its edge about itself: the heartbeat both sides must agree on."""

from __future__ import annotations

from typing import Literal

import msgspec

WorkerState = Literal["booting", "ready", "draining", "failed"]


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat. The edge forgets a worker whose heartbeats stop (``ttl_s``)."""

    worker: str
    """Stable name of the worker process."""
    url: str
    """Where the edge reaches it: ``http://host:port``, no path."""
    model: str
    channel: str
    revision: str
    """The revision that serves now; empty while booting."""
    state: WorkerState
    slots: int
    """Requests the engine runs at once."""
    busy: int
    queue: int
    """Requests waiting for a slot."""
    ttl_s: float
    reason: str = ""
    """Why a load or roll failed; empty when all is well."""
    features: frozenset[str] = frozenset({"logprobs"})
    """What its engine can do beyond plain chat and completion: ``logprobs``, ``tools``,
    ``json_schema``, ``tools_with_json_schema``, ``n``, ``embeddings``, ``dimensions``. A worker
    that does not say has logprobs: all had them before there were features."""
    boot: dict[str, float] = {}
    """The boot waterfall: step → milliseconds."""


def decode_report(body: bytes) -> WorkerReport:
    """Read a heartbeat body. Raises ``msgspec.ValidationError`` on a wrong shape."""
    return msgspec.json.decode(body, type=WorkerReport)
