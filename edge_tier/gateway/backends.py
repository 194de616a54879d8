"""Backends: who generates tokens. A worker gets token ids; the cloud gets the OpenAI messages.

:class:`Backends` opens the steps of a plan in order until one answers, so a backend that is down,
full or broken before its first event costs the client nothing but time. A worker that keeps an
interactive request waiting longer than is usual is raced by a second one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from edge_tier.gateway.asked import ask
from edge_tier.gateway.asking import Asking
from edge_tier.gateway.bodies import by_text
from edge_tier.gateway.cloud import Cloud
from edge_tier.gateway.errors import NoBackendError, UpstreamRefusedError
from edge_tier.gateway.fleet import Fleet, Member
from edge_tier.gateway.hedge import HedgeConfig, Hedges
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.opened import Opened, StepFailedError, Wanted
from edge_tier.gateway.racing import race
from edge_tier.gateway.request import Step
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.sending import Pools
from edge_tier.gateway.tracing import in_log
from edge_tier.gateway.upstream import UpstreamConfig
from wire.errors import HeadwaterError

_log = structlog.get_logger("backends")


class _Picked(NamedTuple):
    """Who is asked for a step."""

    pick: Callable[..., Member | None]
    """How others are found that the caller may meet."""
    member: Member
    fell_back: bool
    """There was none with the revision that the caller should meet."""


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
        self._hedge = hedge or HedgeConfig()
        self._hedges: dict[str, Hedges] = {}
        self._pools = Pools(worker_token, upstream)
        self._asking = Asking(fleet, models, self._pools, self._counts)

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
                except StepFailedError as failure:
                    failures.append(failure.message)
                    avoid |= {failure.worker}
                    if not wanted.only:  # who looks for one revision asks often, and says the end
                        why, where = failure.message, in_log(wanted.trace)
                        _log.warning("backend failed", target=step.target, why=why, **where)
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
        await self._pools.aclose()
        if self._cloud.pool is not None:
            await self._cloud.pool.aclose()

    async def _try(self, step: Step, wanted: Wanted, avoid: frozenset[str]) -> Opened:
        if step.target == "cloud":
            return await self._open_cloud(step, wanted)
        picked = self._picked(step, wanted, avoid)
        hedges = self._hedges.get(step.model)
        if hedges is None:
            hedges = self._hedges[step.model] = Hedges(self._hedge)
        began, plan = time.monotonic(), wanted.plan
        may_hedge = plan.priority == "interactive" if plan.hedge is None else plan.hedge
        delay_s = hedges.delay_s() if may_hedge else None
        other = None
        if delay_s is not None:
            other = picked.pick(avoid=avoid | {picked.member.report.worker})
        if delay_s is None or other is None:
            opened = await self._asking.open(step, picked.member, wanted)
        else:
            second, open_step = other, partial(self._asking.open, step)
            opened = await race(
                partial(open_step, picked.member, wanted),
                partial(open_step, second, wanted),
                delay_s,
                lambda: second.load < 1 and hedges.spend(),
            )
        if not opened.hedged:
            hedges.observed(opened.at - began)
        if picked.fell_back:
            self._counts.fell_back()
        return opened

    def _picked(self, step: Step, wanted: Wanted, avoid: frozenset[str]) -> _Picked:
        """Raises ``StepFailedError``: there is no worker that the caller may meet."""
        only, never = self._asking.lane(step, wanted)
        pick = partial(
            self._fleet.pick, step.model, features=wanted.features, only=only, never=never
        )
        member = pick(avoid=avoid)
        fell_back = member is None and bool(only) and not wanted.only
        if fell_back:
            pick = partial(pick, only="", never=only)
            member = pick(avoid=avoid)
        if member is None:
            outside = " outside the canary" if never else ""
            raise StepFailedError(f"no worker for {step.model}{outside} is ready")
        return _Picked(pick, member, fell_back)

    async def _open_cloud(self, step: Step, wanted: Wanted) -> Opened:
        cloud = self._cloud
        if cloud.pool is None:
            raise StepFailedError("no cloud backend is configured")
        if not cloud.breaker.take():
            raise StepFailedError("the cloud is left alone after failures")
        try:
            text = await wanted.as_text()
            body = by_text(text, step.model, max_tokens=wanted.max_tokens)
            response, attempt = await ask(cloud.pool, step, wanted, body)
        except UpstreamRefusedError:
            cloud.breaker.succeeded()
            raise
        except HeadwaterError as error:
            cloud.breaker.failed()
            raise StepFailedError(f"cloud: {error.message}") from error
        except asyncio.CancelledError:
            cloud.breaker.cancelled()
            raise
        cloud.breaker.succeeded()
        digest = response.headers.get("x-model-digest", "")
        return Opened(step, response, None, digest, "", time.monotonic(), attempt=attempt)
