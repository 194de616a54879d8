"""What a worker tells its edge about itself, and what the edge answers: the heartbeat.

Everything in it is bounded where it is read, by the types: a heartbeat comes from a process that
may have been taken over.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

WorkerState = Literal["booting", "ready", "asleep", "draining", "failed"]
"""``asleep``: not in memory, but on disk; the first request wakes it and waits for it."""
MESSAGES_ONLY = "messages_only"
"""A feature that takes away: text and messages, no token ids."""
Fault = Literal["", "crashed", "hung", "out_of_memory", "bad_file", "probe_failed"]
"""What ended an engine, by name; empty where nothing did."""
Phase = Literal["", "choose", "pull", "check", "make_room", "load", "probe", "drain"]
"""What a boot or a roll is doing just now; empty while none runs."""
NodeAction = Literal["drain", "resume", "restart", "repull"]

MAX_REPORTS = 64
"""Reports (models) in one heartbeat."""
MAX_BOOT_SPANS = 48
"""Of one boot."""
NodeName = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}\Z")]
"""The name of a worker or an edge: letters, digits, and ``._:@-``; at most 128."""
Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,95}\Z")]
"""A model's or a channel's name, as ``wire.paths`` checks it."""
RevisionText = Annotated[str, Meta(max_length=64)]
Word = Annotated[str, Meta(max_length=64)]
Url = Annotated[str, Meta(max_length=256)]
_Step = Annotated[str, Meta(max_length=96)]
_Milliseconds = Annotated[float, Meta(ge=0, le=1e9)]
Reason = Annotated[str, Meta(max_length=500)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Size = Annotated[int, Meta(ge=0, le=2**53)]
"""Bytes, or what is counted for a long time: what JSON carries without loss."""
Moment = Annotated[float, Meta(ge=0, le=2**53 - 1)]
"""Seconds since 1970. Any larger integer is a float of 2**53 or more, so none is rounded into the
bound."""
Seconds = Annotated[float, Meta(ge=0, le=3_600)]
CommandId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9-]{1,64}\Z")]


class BootSpan(msgspec.Struct, frozen=True, array_like=True):
    """One step of a boot, in milliseconds from its beginning; ``outer: inner`` is a part of
    ``outer``. An array in JSON: a boot of fifteen steps takes about 400 B of every heartbeat."""

    name: _Step
    start_ms: _Milliseconds
    length_ms: _Milliseconds


BootSpans = Annotated[tuple[BootSpan, ...], Meta(max_length=MAX_BOOT_SPANS)]


RollOutcome = Literal["running", "serves", "failed"]
"""``serves``: the old engine may still drain. ``failed``: what served before goes on, if anything
did."""


class WorkerRoll(msgspec.Struct, frozen=True, kw_only=True):
    """The latest roll of one model at one worker, from its beginning on; a restart is one too."""

    revision: RevisionText
    previous: RevisionText = ""
    """What served when it began."""
    began: Moment
    """By the worker's clock, seconds since 1970."""
    outcome: RollOutcome
    step: Word = ""
    """What is under way; its span goes as far as it has come."""
    reason: Reason = ""
    """Why it failed."""
    spans: BootSpans = ()


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator wants of one node. It travels down in the answers to reports and
    heartbeats, may arrive more than once, and is done once."""

    id: CommandId
    node: NodeName
    """The worker's (or edge's) name."""
    action: NodeAction
    """``drain``: take nothing new, until ``resume``. ``restart``: the engine, by draining it first.
    ``repull``: forget what is on disk of the revision and bring it again."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command; ``problem`` is empty where it was done."""

    id: CommandId
    problem: Reason = ""


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """One heartbeat of one model. A worker with several models sends one for each. The edge forgets
    a worker whose heartbeats stop (``ttl_s``)."""

    worker: NodeName
    """Stable name of the worker process."""
    url: Url
    """Where the edge reaches it: ``http://host:port``, no path."""
    model: Name
    channel: Name
    revision: RevisionText
    """The revision that serves now; empty while booting."""
    state: WorkerState
    slots: Count
    """Requests the engine runs at once."""
    busy: Count
    queue: Count
    """Requests waiting for a slot."""
    ttl_s: Seconds
    reason: Reason = ""
    """Why a load or roll failed; empty when all is well."""
    features: Annotated[frozenset[Word], Meta(max_length=32)] = frozenset({"logprobs"})
    """What its engine can do beyond plain chat and completion: ``logprobs``, ``tools``,
    ``json_schema``, ``tools_with_json_schema``, ``n``, ``embeddings``, ``dimensions``,
    ``token_ids`` (it tells the ids of an answer's tokens, and goes on with an answer that another
    one began); and what it cannot: ``messages_only``, no token ids. A worker that does not say has
    logprobs: all had them before there were features."""
    boot: Annotated[dict[_Step, float], Meta(max_length=128)] = {}
    """The boot waterfall: step → milliseconds."""
    boot_spans: BootSpans = ()
    """The same with when each step began."""
    roll: WorkerRoll | None = None
    """None: there was none since the worker began."""
    variant: Annotated[str, Meta(max_length=96)] = ""
    """Which variant of the weights serves; empty where the revision has none."""
    target: RevisionText = ""
    """The revision that a boot or roll is bringing; empty while none is."""
    phase: Phase = ""
    missing_bytes: Size = 0
    """Of the target: what has not arrived yet."""
    fault: Fault = ""
    """What ended the engine last, or the last revision that would not load."""
    refused: RevisionText = ""
    """The revision that would not load or failed its probe; what served before goes on."""
    canary: bool = False
    """Whether this worker belongs to the share that tries a canary first."""
    draining: bool = False
    """An operator's command, or a shutdown: no new requests, whatever the state."""
    trust: Word = "fresh"
    """How far the trust metadata that it works from can be relied on (``wire.trust``)."""
    done: Annotated[tuple[Done, ...], Meta(max_length=64)] = ()
    """The last commands that were carried out."""


class HeartbeatAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge answers to a heartbeat."""

    commands: tuple[Command, ...] = ()


_Reports = Annotated[tuple[WorkerReport, ...], Meta(min_length=1, max_length=MAX_REPORTS)]
_decode_reports = msgspec.json.Decoder(WorkerReport | _Reports).decode


def decode_report(body: bytes) -> WorkerReport:
    """Read one report. Raises ``msgspec.DecodeError`` (``ValidationError`` on a wrong shape, or
    where something is out of bounds)."""
    return msgspec.json.decode(body, type=WorkerReport)


def decode_heartbeat(body: bytes) -> tuple[WorkerReport, ...]:
    """Read a heartbeat: the report of a worker's only model, or an array of one for each.

    Raises:
        msgspec.DecodeError: as :func:`decode_report`, or the reports are of several workers.
    """
    found = _decode_reports(body)
    reports = (found,) if isinstance(found, WorkerReport) else found
    if len({report.worker for report in reports}) > 1:
        raise msgspec.ValidationError("the reports of one heartbeat are of one worker")
    return reports
