"""What the console shows, as its page gets it: the contract between the origin and the page.

``GET /console/api/live`` is an event stream. Its first event, ``state``, carries a whole
:class:`ConsoleState` as JSON; every later one, ``patch``, a JSON merge patch (RFC 7396) of it: only
what changed, with ``null`` for what is gone. So every table here is an object whose keys are stable
names, never an array. A viewer that cannot keep up gets a new ``state`` instead of a backlog. A
patch comes with every look at the fleet, for ``at`` changes with each. Where there is no value the
field is absent, in ``state`` as after a patch: null in a patch means gone, so no value is null.

The page and its files are at ``/console`` and ``/console/NAME``, open to everybody. Below
``/console/api``, all JSON; refusals are problem details (RFC 9457), whose ``detail`` says why:

* ``GET session`` answers 200 to everybody: ``{"logged_in": true, "expires": 1790000000}`` or
  ``{"logged_in": false}``.
* ``POST login`` with ``{"token": "..."}``: 200 as ``session``, and a cookie; 401 where it is not
  the administrator's token, 429 with ``Retry-After`` after too many tries. ``POST logout`` ends
  the login at every origin under this token: 200. Where the store does not answer, either says in
  ``problem`` who does not know of it yet.
* ``GET logins``: a list of :class:`LoginRow`, the oldest first. ``DELETE logins/ID`` ends one, 404
  where there is none; ``DELETE logins`` ends all but one's own. Both answer :class:`LoginsEnded`.
* ``GET live``: the stream, until the login ends. 401 without one, 503 where too many watch.
* ``GET boots/{worker}``: a list of :class:`Boot`, with the latest roll of each model; takes up to a
  few seconds, for an edge is asked. 404 where no edge that is here knows the worker.
* ``GET playground``: a :class:`Playground`; with the header ``X-Headwater-Api-Key`` also which
  models each edge offers to that key. 404 where ``origin.console.edges`` is not set.
* ``POST chat``: a streaming request as OpenAI's API has it, with ``X-Headwater-Api-Key`` and
  ``X-Headwater-Edge`` (a URL of ``playground``; the first one where it is absent). The answer is
  the edge's, errors included (OpenAI's envelope), with its ``x-headwater-route``,
  ``x-headwater-worker``, ``x-model-digest``, ``x-headwater-tokens``, ``x-headwater-plan`` (why it
  went there) and ``Server-Timing``. Hints such as ``x-headwater-prefer`` are passed on.

Every POST and DELETE has the header ``X-Headwater-Console: 1``. All but ``session`` and ``login``
take the cookie or the administrator's token as bearer token.

All counters are totals since the process that counts began; ``*_per_s`` are computed at the origin
over its last seconds. Sizes are bytes, times milliseconds, moments seconds since 1970.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class EdgeRow(msgspec.Struct, frozen=True, kw_only=True):
    """An edge process."""

    region: str
    state: str
    """``ready``, ``not_ready``, ``draining``, ``unheard``, ``left`` or ``missing``."""
    reason: str = ""
    workers: int = 0
    requests_per_s: float = 0.0
    streams: int = 0
    """Answers that are being relayed now."""
    hit_ratio: float | UnsetType = UNSET
    """Of chunk requests in the last minute; absent where there were none."""
    cache_used: int = 0
    cache_capacity: int = 0
    origin_bytes: int = 0
    """What the cache brought from above."""
    trust: str = "fresh"
    behind: dict[str, int] = {}
    """``MODEL@CHANNEL`` → how many sequences its pointer is behind the signed one: its skew."""


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """One model at one worker; its key is ``WORKER/MODEL``."""

    region: str
    state: str
    model: str
    channel: str
    revision: str
    target: str = ""
    phase: str = ""
    missing_bytes: int = 0
    slots: int = 0
    busy: int = 0
    queue: int = 0
    variant: str = ""
    canary: bool = False
    apart: str = ""
    """Why it does not serve what its channel names; empty where it does."""
    reason: str = ""
    fault: str = ""


class ChannelRow(msgspec.Struct, frozen=True, kw_only=True):
    """A channel; its key is ``MODEL@CHANNEL``."""

    revision: str
    sequence: int
    canary_revision: str = ""
    canary_percent: int = 0
    consistent: bool = True
    serving: dict[str, int] = {}
    """Revision → workers that serve it."""


class RollRow(msgspec.Struct, frozen=True, kw_only=True):
    """A channel's latest rollout, running or ended; its key is ``MODEL@CHANNEL``."""

    stage: str
    running: bool
    revision: str
    previous: str = ""
    percent: int = 0
    since: float = 0.0
    """When the stage began."""
    reason: str = ""
    """Why it stands where it stands, in words."""
    taken: int = 0
    """Workers that serve the new revision."""
    total: int = 0
    failed_ratio: float | UnsetType = UNSET
    first_token_p95_ms: float | UnsetType = UNSET


class RegionRow(msgspec.Struct, frozen=True, kw_only=True):
    """A region, summed up."""

    edges: int = 0
    edges_ready: int = 0
    workers: int = 0
    workers_ready: int = 0
    slots: int = 0
    busy: int = 0
    queue: int = 0
    requests_per_s: float = 0.0
    hit_ratio: float | UnsetType = UNSET
    origin_bytes_per_s: float = 0.0


class StageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of the gateway, over all edges."""

    order: int
    count: int
    """Requests since the edges began; the times are of the last minute's, or where it had none of
    all."""
    mean_ms: float
    p50_ms: float
    p99_ms: float


class RouteRow(msgspec.Struct, frozen=True, kw_only=True):
    """Where requests went and why, over all edges; its key is ``TARGET: REASON``."""

    target: str
    """``worker``, ``cloud``, or ``none`` where nobody answered."""
    reason: str
    """``named``, ``complexity``, ``preferred``, ``row NAME`` (of a decision table), ``must stay
    local``, ``not ready``, ``saturated``, ``failed over`` or ``other``."""
    count: int
    share: float


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The first thing that anybody looks at."""

    healthy: bool = True
    problems: tuple[str, ...] = ()
    """What is not well, in words, at most 20."""
    requests_per_s: float = 0.0
    failed_per_s: float = 0.0
    streams: int = 0
    hit_ratio: float | UnsetType = UNSET
    origin_bytes_per_s: float = 0.0
    """What leaves this origin."""
    first_token_p50_ms: float | UnsetType = UNSET
    first_token_p95_ms: float | UnsetType = UNSET
    trust: str = "fresh"


class ConsoleState(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page but boot waterfalls, which are asked for one by one."""

    at: float
    version: str
    totals: Totals
    regions: dict[str, RegionRow] = {}
    edges: dict[str, EdgeRow] = {}
    workers: dict[str, WorkerRow] = {}
    channels: dict[str, ChannelRow] = {}
    rolls: dict[str, RollRow] = {}
    stages: dict[str, StageRow] = {}
    routes: dict[str, RouteRow] = {}


class LoginRow(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /console/api/logins``: a list of these. Moments in seconds since 1970."""

    id: str
    made: float
    seen: float
    """When it was used last, to about a minute."""
    until: float
    browser: str = ""
    """In a few words: ``Firefox on Linux``."""
    address: str = ""
    """The network that it came from; empty where nobody knows."""
    mine: bool = False
    """Whether it is the one that asks."""


class LoginsEnded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a ``DELETE``."""

    ended: int
    problem: str | UnsetType = UNSET
    """Who does not know of it yet, and why."""


class BootSpan(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a boot or roll; ``outer: inner`` is a part of ``outer``."""

    name: str
    start_ms: float
    length_ms: float


class WorkerRollRow(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker went from one revision to another, or again to the same: a restart."""

    revision: str
    previous: str = ""
    began: float = 0.0
    """By the worker's clock, seconds since 1970."""
    outcome: str
    """``running``, ``serves`` (the old engine may still drain) or ``failed``."""
    step: str = ""
    """What is under way."""
    reason: str = ""
    """Why it failed."""
    spans: tuple[BootSpan, ...]
    total_ms: float


class Boot(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /console/api/boots/{worker}``: a list of these, one for each of its models."""

    model: str
    revision: str = ""
    """What serves now; the boot may have been another's."""
    spans: tuple[BootSpan, ...]
    total_ms: float
    roll: WorkerRollRow | UnsetType = UNSET
    """Its latest roll since it booted; absent where there was none."""


class PlaygroundEdge(msgspec.Struct, frozen=True, kw_only=True):
    """An edge that prompts can be sent to."""

    url: str
    models: tuple[str, ...] = ()
    """What it offers to the key; empty without one."""
    problem: str = ""
    """Why it did not say."""


class Playground(msgspec.Struct, frozen=True, kw_only=True):
    """``GET /console/api/playground``."""

    edges: tuple[PlaygroundEdge, ...]
