"""What an edge tells the origin about itself and its workers, and what the origin answers.

Reports are whole, never differences: the origin's view of the fleet is what the last report of each
edge says, so an origin that starts again knows everything within one interval.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from wire.workers import (
    BootSpans,
    Command,
    Done,
    Name,
    NodeName,
    Reason,
    RevisionText,
    Seconds,
    Size,
    Url,
    Word,
    WorkerReport,
    WorkerRoll,
)

MAX_REPORT_BYTES = 4 * 1024 * 1024
"""The largest report of an edge: all its workers, with a reason each."""
MAX_EDGE_WORKERS = 4_096
MAX_CHANNELS = 1_024
MAX_FIGURES = 128
MAX_PREHEATS = 64

FIRST_TOKEN_BOUNDS_MS = (
    5,
    10,
    20,
    35,
    50,
    75,
    100,
    150,
    200,
    350,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
)
"""Upper bounds of the buckets of ``RevisionFigures.first_token``; one more is for what is over."""
STAGE_BOUNDS_MS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 50, 250)
"""Upper bounds of the buckets of ``StageFigures.counts``; one more is for what is over."""
ANSWER_BOUNDS_MS = (
    1,
    5,
    10,
    20,
    40,
    60,
    80,
    100,
    250,
    500,
    750,
    1_000,
    2_500,
    5_000,
    7_500,
    10_000,
)
"""The same of ``PromptFigures.first_token``: from a request to the first token of its answer."""
MAX_STAGES = 32
MAX_ROUTES = 64
MAX_BOOTS_WANTED = 16
"""Workers whose boots an origin asks an edge for at once."""
MAX_BOOTS = 128
"""Boots in one report: of each worker's models one."""
_Milliseconds = Annotated[float, Meta(ge=0, le=2**53 - 1)]
_Channel = Annotated[str, Meta(max_length=193)]


class RevisionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the requests that one revision answered went at one edge, since that edge started."""

    model: Name
    revision: RevisionText
    answered: Size = 0
    failed: Size = 0
    """Errors of workers with this revision: no answer, or one that broke off."""
    first_token: Annotated[tuple[Size, ...], Meta(max_length=len(FIRST_TOKEN_BOUNDS_MS) + 1)] = ()
    """How many answers had their first token within each of ``FIRST_TOKEN_BOUNDS_MS``."""


class WorkerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as this edge knows it."""

    report: WorkerReport
    age_s: Seconds
    """Since its last heartbeat."""


class CacheFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An edge's cache. Sizes in bytes."""

    used_bytes: Size = 0
    capacity_bytes: Size = 0
    chunks: Size = 0
    hits: Size = 0
    misses: Size = 0
    fetched_bytes: Size = 0
    """Brought from above."""
    degraded: Reason = ""


class StageFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How long requests were in one stage of the gateway."""

    name: Word
    counts: Annotated[tuple[Size, ...], Meta(max_length=len(STAGE_BOUNDS_MS) + 1)] = ()
    """How many were through within each of ``STAGE_BOUNDS_MS``, and not within the one before."""
    total_ms: _Milliseconds = 0.0


class RouteFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that went to one target for one reason."""

    target: Word
    reason: Annotated[str, Meta(max_length=128)]
    count: Size = 0


class PromptFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge's gateway did. Requests, unless named otherwise."""

    answered: Size = 0
    failed: Size = 0
    """Admitted, and not answered or not to the end."""
    gone: Size = 0
    """Given up by their clients."""
    refused: Size = 0
    streams: Size = 0
    """Admitted and not over, now."""
    first_token: Annotated[tuple[Size, ...], Meta(max_length=len(ANSWER_BOUNDS_MS) + 1)] = ()
    """How many answers began within each of ``ANSWER_BOUNDS_MS``, and not the one before."""
    stages: Annotated[tuple[StageFigures, ...], Meta(max_length=MAX_STAGES)] = ()
    """In the order in which a request passes them."""
    routes: Annotated[tuple[RouteFigures, ...], Meta(max_length=MAX_ROUTES)] = ()


class WorkerBoot(msgspec.Struct, frozen=True, kw_only=True):
    """How the boot and the latest roll of a model at a worker went, for an origin that asked."""

    worker: NodeName
    model: Name
    revision: RevisionText = ""
    """What serves now."""
    spans: BootSpans = ()
    roll: WorkerRoll | None = None
    """Its latest roll, if it had any."""


class Preheated(msgspec.Struct, frozen=True, kw_only=True):
    """How far an edge is with bringing a revision into its cache ahead of a roll."""

    model: Name
    revision: RevisionText
    state: Literal["running", "done", "failed"]
    done_bytes: Size = 0
    bytes: Size = 0
    reason: Reason = ""


class EdgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge tells the origin every second. Counters count from ``started``."""

    edge: NodeName
    """Stable name of the edge process."""
    url: Url
    started: float
    """When this life of the edge began, seconds since 1970."""
    ttl_s: Seconds
    region: Word = ""
    ready: bool = True
    reason: Reason = ""
    leaving: bool = False
    """The last report of this life: it stops in good order, and is not missed."""
    draining: bool = False
    """An operator's command: not ready, whatever else holds."""
    trust: Word = "fresh"
    channels: Annotated[dict[_Channel, Size], Meta(max_length=MAX_CHANNELS)] = {}
    """``MODEL@CHANNEL`` → the sequence of the pointer that this edge knows: its skew."""
    cache: CacheFigures = CacheFigures()
    workers: Annotated[tuple[WorkerSeen, ...], Meta(max_length=MAX_EDGE_WORKERS)] = ()
    figures: Annotated[tuple[RevisionFigures, ...], Meta(max_length=MAX_FIGURES)] = ()
    preheated: Annotated[tuple[Preheated, ...], Meta(max_length=MAX_PREHEATS)] = ()
    prompts: PromptFigures = PromptFigures()
    boots: Annotated[tuple[WorkerBoot, ...], Meta(max_length=MAX_BOOTS)] = ()
    """Of the workers that an origin named in its last answer."""
    done: Annotated[tuple[Done, ...], Meta(max_length=64)] = ()


class Preheat(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge shall bring into its cache now. It does so only for what is signed."""

    model: Name
    revision: RevisionText


class EdgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the origin answers."""

    commands: tuple[Command, ...] = ()
    preheat: tuple[Preheat, ...] = ()
    boots: tuple[NodeName, ...] = ()
    """Workers whose boots somebody looks at: they are in the next report, and only then, for those
    of thousands of workers would fill every report."""


_decode_report = msgspec.json.Decoder(EdgeReport).decode


def decode_edge_report(body: bytes) -> EdgeReport:
    """Read a report. Raises ``msgspec.DecodeError`` (``ValidationError`` on a wrong shape)."""
    return _decode_report(body)
