"""What a worker tells its edge about itself, and what the edge answers: the heartbeat."""

from __future__ import annotations

from typing import Literal

import msgspec

WorkerState = Literal["booting", "ready", "asleep", "draining", "failed"]
"""``asleep``: not in memory, but on disk; the first request wakes it and waits for it."""
MESSAGES_ONLY = "messages_only"
"""A feature that takes away: text and messages, no token ids."""
Fault = Literal["", "crashed", "hung", "out_of_memory", "bad_file", "probe_failed"]
"""What ended an engine, by name; empty where nothing did."""
Phase = Literal["", "choose", "pull", "check", "make_room", "load", "probe", "drain"]
"""What a boot or a roll is doing just now; empty while none runs."""
NodeAction = Literal["drain", "resume", "restart", "repull"]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wants of one node. It travels down in the answers to reports and
    heartbeats, may arrive more than once, and is done once."""

    id: str
    node: str
    """The worker's (or edge's) name."""
    action: NodeAction
    """``drain``: take nothing new, until ``resume``. ``restart``: the engine, by draining it first.
    ``repull``: forget what is on disk of the revision and bring it again."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command; ``problem`` is empty where it was done."""

    id: str
    problem: str = ""


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat of one model. A worker with several models sends one for each. The edge forgets
    a worker whose heartbeats stop (``ttl_s``)."""

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
    ``json_schema``, ``tools_with_json_schema``, ``n``, ``embeddings``, ``dimensions``,
    ``token_ids`` (it tells the ids of an answer's tokens, and goes on with an answer that another
    one began); and what it cannot: ``messages_only``, no token ids. A worker that does not say has
    logprobs: all had them before there were features."""
    boot: dict[str, float] = {}
    """The boot waterfall: step → milliseconds."""
    variant: str = ""
    """Which variant of the weights serves; empty where the revision has none."""
    target: str = ""
    """The revision that a boot or roll is bringing; empty while none is."""
    phase: Phase = ""
    missing_bytes: int = 0
    """Of the target: what has not arrived yet."""
    fault: Fault = ""
    """What ended the engine last, or the last revision that would not load."""
    refused: str = ""
    """The revision that would not load or failed its probe; what served before goes on."""
    canary: bool = False
    """Whether this worker belongs to the share that tries a canary first."""
    draining: bool = False
    """An operator's command, or a shutdown: no new requests, whatever the state."""
    trust: str = "fresh"
    """How far the trust metadata that it works from can be relied on (``wire.trust``)."""
    done: tuple[Done, ...] = ()
    """The last commands that were carried out."""


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge answers to a heartbeat."""

    commands: tuple[Command, ...] = ()


def decode_report(body: bytes) -> WorkerReport:
    """Read a heartbeat body. Raises ``msgspec.ValidationError`` on a wrong shape."""
    return msgspec.json.decode(body, type=WorkerReport)
