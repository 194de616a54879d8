"""Backends: who generates tokens. A worker gets token ids; the cloud gets the OpenAI messages.

:class:`Backends` opens the steps of a plan in order until one answers, so a backend that is down,
full or broken before its first event costs the client nothing but time. A worker that keeps an
interactive request waiting longer than is usual is raced by a second one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog

from edge_tier.gateway.bodies import (
    BOTH,
    CHOICES,
    FORMAT,
    LOGPROBS,
    TOKEN_IDS,
    TOOLS,
    by_ids,
    by_text,
)
from edge_tier.gateway.breaker import Breaker, BreakerConfig
from edge_tier.gateway.canary import Lane
from edge_tier.gateway.errors import NoBackendError, UpstreamError, UpstreamRefusedError
from edge_tier.gateway.fleet import Fleet, Member
from edge_tier.gateway.hedge import HedgeConfig, Hedges
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.request import Plan, Prompt, Step, Tokens
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool, UpstreamResponse
from wire.errors import HeadwaterError
from wire.journal import JournalWanted
from wire.workers import MESSAGES_ONLY

_log = structlog.get_logger("backends")
_MAX_REFUSAL_BYTES = 64 * 1024
_MAX_COMMENT_BYTES = 64 * 1024
"""Keep-alive comments before the first event; what sends more is taken for an answer."""
_MAX_POOLS = 8_192
_SERVER_FAULT = 500
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """An OpenAI-compatible backend. Empty ``url``: there is none."""

    url: str = ""
    """``https://host[:port][/prefix]``; requests go to ``<url>/v1/...``."""
    token_file: str = ""
    models: tuple[str, ...] = ("cloud-large",)
    """Models it serves, by the names it knows."""
    region: str = ""
    """Where it is, for rules of residency; empty: not known."""
    approved_for: tuple[str, ...] = ()
    """Regulations of policies under which prompts may go there, such as ``gdpr``."""
    price_per_million_input: float = 0.0
    """Of prompts' tokens, in any currency; decision tables compare it."""
    price_per_million_output: float = 0.0
    features: tuple[str, ...] = (TOOLS, FORMAT, BOTH, CHOICES, LOGPROBS)
    """What it can do beyond plain chat; ``embeddings`` and ``dimensions`` may be added."""
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    """When it is left alone after failures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a backend."""

    plan: Plan
    prompt: Prompt
    as_text: Callable[[], Awaitable[Prompt]]
    """Gives the same for backends that render the template themselves."""
    tokens: Tokens
    max_tokens: int
    features: frozenset[str] = _NOTHING
    """What a worker's engine must be able to do."""
    logprobs_first: int = 0
    """Tokens whose log-probabilities a worker shall tell, for the confidence gate."""
    journal: JournalWanted | None = None
    """Asked of a worker that can go on with an answer, or have another one go on with its own."""
    caller: str = ""
    """The id of the caller's key: while a canary is tried on callers, it decides what they meet."""
    only: str = ""
    """The revision that a worker must serve; empty: any that the caller may meet."""
    avoid: frozenset[str] = _NOTHING
    """Workers that are not asked."""


@dataclass(slots=True)
class Opened:
    """A backend that has begun to answer. Close it, whatever happens."""

    step: Step
    response: UpstreamResponse
    member: Member | None
    revision: str
    worker: str
    at: float
    """When it began, by ``time.monotonic``."""
    fallbacks: int = 0
    hedged: bool = False
    prompt_ids: tuple[int, ...] = ()
    """The prompt as it was sent; empty: it was sent as text."""
    journaled: bool = False
    """Whether the events are to begin with the ids of their tokens."""
    broke: bool = False
    """It broke off, or said in its answer that it had failed."""
    counts: RevisionCounts | None = None
    _closed: bool = False

    def close(self, output_tokens: int = 0) -> None:
        """Stop the generation where it still runs; may be called twice.

        Args:
            output_tokens: what the backend gave, if it gave all it had to.
        """
        if self.member is not None and not self._closed:
            self.member.in_flight -= 1
            if output_tokens:
                self.member.measured(output_tokens, time.monotonic() - self.at)
            self._count()
        self.response.close()
        self._closed = True

    def _count(self) -> None:
        """How it ended; one that the client left, or that was not needed, for neither side."""
        if self.counts is None:
            return
        if self.broke or self.response.failed:
            self.counts.failed(self.step.model, self.revision)
        elif self.response.ended:
            self.counts.answered(self.step.model, self.revision)


class Cloud:
    """The cloud backend, if one is configured, and whether it may be asked now."""

    def __init__(
        self,
        config: CloudConfig,
        token: str | None,
        upstream: UpstreamConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.breaker = Breaker(config.breaker, clock)
        self.pool = UpstreamPool(config.url, token=token, config=upstream) if config.url else None
        self.offered = frozenset(config.models) if self.pool is not None else _NOTHING
        """Models it is configured for."""
        self.features = frozenset(config.features)
        """What it can do beyond plain chat and completion."""

    @property
    def ready(self) -> frozenset[str]:
        """Models it may be asked for now: none while its breaker is open."""
        return self.offered if self.breaker.passable else _NOTHING


class Backends:
    """Opens plans.

    Args:
        worker_token: what workers ask of an edge.
    """

    def __init__(
        self,
        fleet: Fleet,
        cloud: Cloud,
        models: ModelDirectory,
        *,
        worker_token: str,
        upstream: UpstreamConfig | None = None,
        hedge: HedgeConfig | None = None,
        counts: RevisionCounts | None = None,
    ) -> None:
        self._fleet = fleet
        self._counts = counts or RevisionCounts()
        self._cloud = cloud
        self._models = models
        self._worker_token = worker_token
        self._upstream = upstream
        self._hedge = hedge or HedgeConfig()
        self._hedges: dict[str, Hedges] = {}
        self._pools: dict[str, UpstreamPool] = {}

    async def open(self, wanted: Wanted, steps: tuple[Step, ...] | None = None) -> Opened:
        """Send the request to the first step that takes it; its first event has arrived.

        Args:
            steps: in place of the plan's.

        Raises:
            UpstreamRefusedError: a backend says that the request itself is at fault.
            NoBackendError: every step failed; says how.
        """
        failures: list[str] = []
        for step in steps or wanted.plan.steps:
            tries = 2 if step.target == "worker" else 1
            avoid = wanted.avoid
            for _ in range(tries):
                try:
                    opened = await self._try(step, wanted, avoid)
                except _StepFailedError as failure:
                    failures.append(failure.message)
                    avoid |= {failure.worker}
                    _log.warning("backend failed", target=step.target, why=failure.message)
                    continue
                opened.fallbacks = len(failures)
                return opened
        raise NoBackendError(
            f"no backend could answer: {'; '.join(failures)}", headers={"Retry-After": "1"}
        )

    def broke(self, opened: Opened) -> None:
        """It broke off in the middle of its answer, so others are preferred for a moment."""
        opened.broke = True
        if opened.member is not None:
            self._fleet.penalize(opened.member)

    def anybody(self, wanted: Wanted) -> bool:
        """Whether there is a worker for the first step at all, be it busy."""
        pick, model = self._fleet.pick, wanted.plan.steps[0].model
        only, avoid = wanted.only, wanted.avoid
        return pick(model, avoid=avoid, features=wanted.features, only=only) is not None

    async def encoder(self, model: str, revision: str) -> Callable[[str], list[int]]:
        """Gives the ids of plain text.

        Raises:
            HeadwaterError: the revision's tokenizer is not to be had now.
        """
        return (await self._models.model(model, revision)).tokenizer.encode_text

    async def aclose(self) -> None:
        """Close all idle connections."""
        for pool in (*self._pools.values(), *([self._cloud.pool] if self._cloud.pool else [])):
            await pool.aclose()

    async def _try(self, step: Step, wanted: Wanted, avoid: frozenset[str]) -> Opened:
        if step.target == "cloud":
            return await self._open_cloud(step, wanted)
        pick, member = self._picked(step, wanted, avoid)
        hedges = self._hedges.get(step.model)
        if hedges is None:
            hedges = self._hedges[step.model] = Hedges(self._hedge)
        began = time.monotonic()
        plan = wanted.plan
        may_hedge = plan.priority == "interactive" if plan.hedge is None else plan.hedge
        delay_s = hedges.delay_s() if may_hedge else None
        other = None
        if delay_s is not None:
            other = pick(avoid=avoid | {member.report.worker})
        if delay_s is None or other is None:
            opened = await self._counted(step, member, wanted)
        else:
            opened = await self._raced(step, (member, other), wanted, delay_s, hedges)
        if not opened.hedged:
            hedges.observed(opened.at - began)
        return opened

    def _picked(
        self, step: Step, wanted: Wanted, avoid: frozenset[str]
    ) -> tuple[Callable[..., Member | None], Member]:
        """How a worker is found for the request, and the one that is.

        Raises:
            _StepFailedError: there is none that the caller may meet.
        """
        lane = Lane(only=wanted.only) if wanted.only else self._lane(step, wanted)
        pick = partial(
            self._fleet.pick,
            step.model,
            features=wanted.features,
            only=lane.only,
            never=lane.never,
        )
        member = pick(avoid=avoid)
        if member is None and lane.only and not wanted.only:
            pick = partial(pick, only="", never=lane.only)
            member = pick(avoid=avoid)
            if member is not None:
                self._counts.fell_back()
        if member is None:
            outside = " outside the canary" if lane.never else ""
            raise _StepFailedError(f"no worker for {step.model}{outside} is ready")
        return pick, member

    def _lane(self, step: Step, wanted: Wanted) -> Lane:
        return self._models.lane(step.model, wanted.caller)

    def _may_meet(self, step: Step, wanted: Wanted, revision: str) -> bool:
        if wanted.only:
            return revision == wanted.only
        return revision != self._lane(step, wanted).never or not revision

    async def _raced(
        self,
        step: Step,
        members: tuple[Member, Member],
        wanted: Wanted,
        delay_s: float,
        hedges: Hedges,
    ) -> Opened:
        """Ask the first worker, and the second one too where the first keeps us waiting."""
        running = {asyncio.create_task(self._counted(step, members[0], wanted), name="backend")}
        opened: Opened | None = None
        try:
            done, _ = await asyncio.wait(running, timeout=delay_s)
            if not done and members[1].load < 1 and hedges.spend():
                second = self._counted(step, members[1], wanted)
                running.add(asyncio.create_task(second, name="hedge"))
            while True:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                task = done.pop()
                running.discard(task)
                if task.exception() is not None and (running or done):
                    running |= done
                    continue
                running |= done
                opened = task.result()
                opened.hedged = task.get_name() == "hedge"
                return opened
        finally:
            try:
                await _abandon(running)
            except asyncio.CancelledError:
                if opened is not None:
                    opened.close()  # the client left just now
                raise

    async def _counted(self, step: Step, member: Member, wanted: Wanted) -> Opened:
        if not member.breaker.take():
            raise _StepFailedError(
                f"worker {member.report.worker} is left alone after failures", member.report.worker
            )
        member.in_flight += 1
        try:
            return await self._open_worker(step, member, wanted)
        except asyncio.CancelledError:
            member.breaker.cancelled()
            member.in_flight -= 1
            raise
        except BaseException:
            member.in_flight -= 1
            raise

    async def _open_worker(self, step: Step, member: Member, wanted: Wanted) -> Opened:
        """Ask a worker; once more where it has rolled to another revision in the meantime."""
        report = member.report
        revision, began = report.revision, time.monotonic()
        for _ in range(2):
            try:
                body = await self._for_worker(step.model, revision, wanted, report.features)
            except HeadwaterError as error:
                if error.status < _SERVER_FAULT:
                    raise
                member.breaker.cancelled()  # it is this edge that cannot load the revision
                why = f"worker {report.worker}: {error.message}"
                raise _StepFailedError(why, report.worker) from error
            try:
                response = await self._send(self._pool(report.url), wanted.prompt, body)
            except _OtherRevisionError as error:
                if not self._may_meet(step, wanted, error.revision):
                    member.breaker.cancelled()
                    break
                revision = error.revision
                continue
            except UpstreamRefusedError:
                member.breaker.succeeded()
                raise
            except HeadwaterError as error:
                self._fleet.penalize(member)
                self._counts.failed(step.model, revision)
                raise _StepFailedError(
                    f"worker {report.worker}: {error.message}", report.worker
                ) from error
            now = time.monotonic()
            member.answered(now - began)
            served = response.headers.get("x-model-digest", revision)
            if not self._may_meet(step, wanted, served):
                response.close()  # it went as text, which every revision takes
                break
            self._counts.began(step.model, served, now - began)
            ids: tuple[int, ...] = body.get("prompt_token_ids") or body.get("prompt") or ()
            return Opened(
                step,
                response,
                member,
                served,
                report.worker,
                now,
                prompt_ids=ids if isinstance(ids, tuple) else (),
                journaled="journal" in body,
                counts=self._counts,
            )
        raise _StepFailedError(f"worker {report.worker} keeps changing revision", report.worker)

    async def _for_worker(
        self, model: str, revision: str, wanted: Wanted, features: frozenset[str]
    ) -> dict[str, Any]:
        """The body for a worker: ids, which mean nothing but to the revision they were made for,
        unless its engine takes none."""
        tokens, prompt = wanted.tokens, wanted.prompt
        if prompt.engine_renders or prompt.kind == "embedding" or MESSAGES_ONLY in features:
            return by_text(await wanted.as_text(), model, max_tokens=wanted.max_tokens)
        if tokens.revision != revision:
            tokens = await (await self._models.model(model, revision)).tokenize(prompt)
        if not tokens.ids:
            return by_text(await wanted.as_text(), model, max_tokens=wanted.max_tokens)
        return by_ids(
            prompt,
            model,
            tokens.ids,
            max_tokens=wanted.max_tokens,
            revision=revision,
            logprobs_first=wanted.logprobs_first,
            journal=wanted.journal if TOKEN_IDS in features else None,
        )

    async def _open_cloud(self, step: Step, wanted: Wanted) -> Opened:
        cloud = self._cloud
        if cloud.pool is None:
            raise _StepFailedError("no cloud backend is configured")
        if not cloud.breaker.take():
            raise _StepFailedError("the cloud is left alone after failures")
        try:
            text = await wanted.as_text()
            body = by_text(text, step.model, max_tokens=wanted.max_tokens)
            response = await self._send(cloud.pool, wanted.prompt, body)
        except UpstreamRefusedError:
            cloud.breaker.succeeded()
            raise
        except HeadwaterError as error:
            cloud.breaker.failed()
            raise _StepFailedError(f"cloud: {error.message}") from error
        except asyncio.CancelledError:
            cloud.breaker.cancelled()
            raise
        cloud.breaker.succeeded()
        digest = response.headers.get("x-model-digest", "")
        return Opened(step, response, None, digest, "", time.monotonic())

    async def _send(
        self, pool: UpstreamPool, prompt: Prompt, body: dict[str, Any]
    ) -> UpstreamResponse:
        """POST and wait for the first event, or the first bytes, of a good answer.

        Raises:
            UpstreamRefusedError: 400, 413 or 422: another backend would say the same.
            _OtherRevisionError: the ids are not for the revision that the worker serves now.
            UpstreamError: anything else that is no answer.
        """
        response = await pool.post(_PATHS[prompt.kind], msgspec.json.encode(body))
        timer = pool.deadline(response)
        try:
            if response.status == 200:
                await _begun(response, stream=prompt.stream)
                return response
            said = _reason(await response.read(_MAX_REFUSAL_BYTES))
            if response.status == 409 and (now := response.headers.get("x-model-digest")):
                raise _OtherRevisionError(now)
            if response.status in {400, 413, 422}:
                raise UpstreamRefusedError(said)
            if response.status in {401, 403}:
                said = "the backend does not take our token"  # its own words may show a part of it
            raise UpstreamError(f"status {response.status}: {said}")
        except BaseException:
            response.close()
            raise
        finally:
            timer.cancel()

    def _pool(self, url: str) -> UpstreamPool:
        pool = self._pools.get(url)
        if pool is None:
            if len(self._pools) >= _MAX_POOLS:
                # Workers come and go; the oldest address is the likeliest to be nobody's.
                self._pools.pop(next(iter(self._pools))).retire()
            pool = UpstreamPool(url, token=self._worker_token, config=self._upstream)
            self._pools[url] = pool
        return pool


_PATHS = {
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "embedding": "/v1/embeddings",
}


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


async def _abandon(running: set[asyncio.Task[Opened]]) -> None:
    """Whoever lost a race is stopped, and what it opened is closed."""
    for task in running:
        task.cancel()
    for result in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(result, Opened):
            result.close()


class _StepFailedError(Exception):
    def __init__(self, message: str, worker: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.worker = worker


class _OtherRevisionError(Exception):
    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


class _ErrorDetail(msgspec.Struct, frozen=True):
    message: str = ""


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorDetail = _ErrorDetail()


def _reason(body: bytes) -> str:
    try:
        text = msgspec.json.decode(body, type=_ErrorBody).error.message
    except msgspec.DecodeError:
        text = ""
    return "".join(c for c in text[:300] if c.isprintable()) or "no reason given"
