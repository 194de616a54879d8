"""Asks one worker: with token ids for the revision that it serves, and only for a revision that the
caller may meet (``canary``). Whatever comes of it is told to the worker's breaker and counted."""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any

from edge_tier.gateway.asked import ask
from edge_tier.gateway.bodies import TOKEN_IDS, by_ids, by_text
from edge_tier.gateway.canary import Lane
from edge_tier.gateway.errors import UpstreamBusyError, UpstreamRefusedError
from edge_tier.gateway.fleet import Fleet, Member
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.opened import Opened, StepFailedError, Wanted
from edge_tier.gateway.request import Step
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.sending import OtherRevisionError, Pools
from edge_tier.gateway.upstream_response import UpstreamResponse
from wire.errors import HeadwaterError, RequestInvalidError, TooLargeError
from wire.workers import MESSAGES_ONLY

_DIGEST = re.compile(r"[0-9a-f]{64}")


class Asking:
    """Args:
    counts: of requests by revision.
    """

    def __init__(
        self, fleet: Fleet, models: ModelDirectory, pools: Pools, counts: RevisionCounts
    ) -> None:
        self._fleet = fleet
        self._models = models
        self._pools = pools
        self._counts = counts

    def lane(self, step: Step, wanted: Wanted) -> Lane:
        """The revisions that this request may meet."""
        return Lane(wanted.only) if wanted.only else self._models.lane(step.model, wanted.caller)

    async def open(self, step: Step, member: Member, wanted: Wanted) -> Opened:
        """The worker's answer, which has begun.

        Raises:
            StepFailedError: it gave none.
            UpstreamRefusedError: it says that the request itself is at fault.
        """
        name = member.report.worker
        if not member.breaker.take():
            raise StepFailedError(f"worker {name} is left alone after failures", name)
        member.in_flight += 1
        try:
            return await self._open(step, member, wanted)
        except asyncio.CancelledError:
            member.breaker.cancelled()
            member.in_flight -= 1
            raise
        except BaseException:
            member.in_flight -= 1
            raise

    def _may_meet(self, step: Step, wanted: Wanted, revision: str) -> bool:
        if wanted.only:
            return revision == wanted.only
        return revision != self.lane(step, wanted).never or not revision

    async def _open(self, step: Step, member: Member, wanted: Wanted) -> Opened:
        """Ask; once more where it has rolled to another revision in the meantime."""
        report = member.report
        revision, began = report.revision, time.monotonic()
        for _ in range(2):
            body = await self._body(step.model, member, revision, wanted)
            try:
                pool = self._pools.pool(report.url)
                response, attempt = await ask(pool, step, wanted, body, report.worker)
            except OtherRevisionError as error:
                if not self._may_meet(step, wanted, error.revision):
                    member.breaker.cancelled()
                    break
                revision = error.revision
                continue
            except UpstreamRefusedError as error:
                member.breaker.succeeded()
                error.worker = report.worker
                raise
            except HeadwaterError as error:
                self._failed(step, member, revision, error)
                raise StepFailedError(
                    f"worker {report.worker}: {error.message}", report.worker
                ) from error
            served = self._served(step, member, revision, response, by_ids="revision" in body)
            now = time.monotonic()
            member.answered(now - began)
            if not self._may_meet(step, wanted, served):
                response.close()  # it went as text, which every revision takes
                if attempt is not None:
                    attempt.end("revision_changed")
                break
            self._counts.began(step.model, served, now - began)
            if attempt is not None:
                attempt.revision = served
            ids = body.get("prompt_token_ids") or body.get("prompt") or ()
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
                attempt=attempt,
            )
        raise StepFailedError(f"worker {report.worker} keeps changing revision", report.worker)

    def _failed(self, step: Step, member: Member, revision: str, error: HeadwaterError) -> None:
        """It gave no answer. That it has enough to do is no fault, and others are preferred."""
        if isinstance(error, UpstreamBusyError):
            member.breaker.cancelled()
            self._fleet.prefer_others(member)
        else:
            self._fleet.penalize(member)
            self._counts.failed(step.model, revision)

    def _served(
        self, step: Step, member: Member, revision: str, response: UpstreamResponse, *, by_ids: bool
    ) -> str:
        """The revision that answers. What is no digest is not believed.

        Raises:
            StepFailedError: token ids of one revision are answered by another.
        """
        served = response.headers.get("x-model-digest", revision)
        if served == revision or _DIGEST.fullmatch(served) is None:
            return revision
        if by_ids:
            response.close()
            self._fleet.penalize(member)
            self._counts.failed(step.model, revision)
            name = member.report.worker
            raise StepFailedError(f"worker {name} answers ids of another revision", name)
        return served

    async def _body(
        self, model: str, member: Member, revision: str, wanted: Wanted
    ) -> dict[str, Any]:
        """Raises ``StepFailedError`` where this edge cannot make it for the worker's revision."""
        report = member.report
        try:
            return await self._written(model, revision, wanted, report.features)
        except (RequestInvalidError, TooLargeError):
            member.breaker.cancelled()
            raise  # the prompt does not fit the model
        except HeadwaterError as error:
            member.breaker.cancelled()  # it is this edge that cannot load the revision
            why = f"worker {report.worker}: {error.message}"
            raise StepFailedError(why, report.worker) from error

    async def _written(
        self, model: str, revision: str, wanted: Wanted, features: frozenset[str]
    ) -> dict[str, Any]:
        """Ids, which mean nothing but to the revision they were made for, unless the worker's
        engine takes none."""
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
