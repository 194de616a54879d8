"""What an edge tells the origin about itself and its workers, and what the origin answers.

Reports are whole, never differences: the origin's view of the fleet is what the last report of each
edge says, so an origin that starts again knows everything within one interval.
"""

from __future__ import annotations

import msgspec

from wire.workers import Command, Done, WorkerReport

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


class RevisionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the requests that one revision answered went at one edge, since that edge started."""

    model: str
    revision: str
    answered: int = 0
    failed: int = 0
    """Errors of workers with this revision: no answer, or one that broke off."""
    first_token: tuple[int, ...] = ()
    """How many answers had their first token within each of ``FIRST_TOKEN_BOUNDS_MS``."""


class WorkerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as this edge knows it."""

    report: WorkerReport
    age_s: float
    """Since its last heartbeat."""


class CacheFigures(msgspec.Struct, frozen=True, kw_only=True):
    """An edge's cache. Sizes in bytes."""

    used_bytes: int = 0
    capacity_bytes: int = 0
    chunks: int = 0
    hits: int = 0
    misses: int = 0
    degraded: str = ""


class Preheated(msgspec.Struct, frozen=True, kw_only=True):
    """How far an edge is with bringing a revision into its cache ahead of a roll."""

    model: str
    revision: str
    state: str
    """``running``, ``done`` or ``failed``."""
    done_bytes: int = 0
    bytes: int = 0
    reason: str = ""


class EdgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge tells the origin every second. Counters count from ``started``."""

    edge: str
    """Stable name of the edge process."""
    url: str
    started: float
    """When this life of the edge began, seconds since 1970."""
    ttl_s: float
    region: str = ""
    ready: bool = True
    reason: str = ""
    trust: str = "fresh"
    channels: dict[str, int] = {}
    """``MODEL@CHANNEL`` → the sequence of the pointer that this edge knows: its skew."""
    cache: CacheFigures = CacheFigures()
    workers: tuple[WorkerSeen, ...] = ()
    figures: tuple[RevisionFigures, ...] = ()
    preheated: tuple[Preheated, ...] = ()
    done: tuple[Done, ...] = ()


class Preheat(msgspec.Struct, frozen=True, kw_only=True):
    """What an edge shall bring into its cache now. It does so only for what is signed."""

    model: str
    revision: str


class EdgeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the origin answers."""

    commands: tuple[Command, ...] = ()
    preheat: tuple[Preheat, ...] = ()


_decode_report = msgspec.json.Decoder(EdgeReport).decode


def decode_edge_report(body: bytes) -> EdgeReport:
    """Read a report. Raises ``msgspec.DecodeError`` (``ValidationError`` on a wrong shape)."""
    return _decode_report(body)
