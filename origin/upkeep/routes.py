"""The administrative API of the upkeep: collect, verify, pin, prune. Bearer token on all.

Work that may take long runs as a job; whoever asked polls it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import msgspec
import structlog
from aiohttp import web

from origin.announce import Publisher
from origin.upkeep.gc import Collector, collect
from origin.upkeep.jobs import Jobs, Progress, Work
from origin.upkeep.pace import Pacer
from origin.upkeep.policy import GcConfig, expendable, reasons
from origin.upkeep.verify import Scrub
from wire.errors import ConflictError, NotFoundError
from wire.http_bodies import read_json
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, model_name, revision_id

_log = structlog.get_logger("upkeep")
T = TypeVar("T")
GC, VERIFY = "gc", "verify"


class GcRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``dry_run``: only say what would be removed."""

    dry_run: bool = False


class VerifyRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``bytes_per_s``: the most that is read; 0 is unlimited."""

    bytes_per_s: Annotated[int, msgspec.Meta(ge=0)] = 0


class PinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keep a revision, or no longer."""

    model: str
    revision: str
    remove: bool = False


class PlanRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a prune should keep; the origin's own configuration where nothing is said."""

    keep_recent: Annotated[int, msgspec.Meta(ge=0)] | None = None
    keep_younger_s: Annotated[float, msgspec.Meta(ge=0)] | None = None


class PruneRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The publisher's newly signed list, with revisions removed, as the text that was signed."""

    revisions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepRoutes:
    """The upkeep's part of ``/admin``."""

    publisher: Publisher
    jobs: Jobs
    config: GcConfig
    token: str
    max_body_bytes: int
    clock: Callable[[], float] = time.time

    def add_to(self, app: web.Application) -> None:
        """Register the routes, and end the jobs when the application stops."""
        router = app.router
        router.add_post(f"{ADMIN}/gc", self.collect)
        router.add_post(f"{ADMIN}/verify", self.verify)
        router.add_get(f"{ADMIN}/jobs/{{kind}}", self.job)
        router.add_delete(f"{ADMIN}/jobs/{{kind}}", self.cancel)
        router.add_get(f"{ADMIN}/pins", self.pins)
        router.add_post(f"{ADMIN}/pins", self.pin)
        router.add_post(f"{ADMIN}/prune/plan", self.plan)
        router.add_post(f"{ADMIN}/prune", self.prune)
        app.on_shutdown.append(self._stop)

    async def collect(self, request: web.Request) -> web.Response:
        """Start a garbage collection."""
        wanted = await self._read(request, GcRequest)
        collector = Collector(self.publisher, self.config, wanted.dry_run, self.clock)

        async def work(progress: Progress) -> Any:
            return await collect(collector, progress)

        return json_answer(self.jobs.start(GC, work))

    async def verify(self, request: web.Request) -> web.Response:
        """Start a scrub."""
        wanted = await self._read(request, VerifyRequest)
        return json_answer(self.jobs.start(VERIFY, self._scrub(wanted.bytes_per_s)))

    async def job(self, request: web.Request) -> web.Response:
        """The newest job of a kind."""
        require_token(request, self.token)
        return json_answer(self.jobs.last(_kind(request)))

    async def cancel(self, request: web.Request) -> web.Response:
        """End a job."""
        require_token(request, self.token)
        return json_answer(await self.jobs.cancel(_kind(request)))

    async def pins(self, request: web.Request) -> web.Response:
        """All pins."""
        require_token(request, self.token)
        return json_answer(await self._pins())

    async def pin(self, request: web.Request) -> web.Response:
        """Pin a revision, or remove its pin; all pins."""
        wanted = await self._read(request, PinRequest)
        model, revision = model_name(wanted.model), revision_id(wanted.revision)
        await self.publisher.pin(model, revision, keep=not wanted.remove)
        return json_answer(await self._pins())

    async def plan(self, request: web.Request) -> web.Response:
        """Which signed revisions a prune may remove, and why the others stay."""
        wanted = await self._read(request, PlanRequest)
        given = {
            name: value for name, value in msgspec.to_builtins(wanted).items() if value is not None
        }
        config = replace(self.config, **given)
        view, store = self.publisher.repository.view, self.publisher.store
        facts = (view, await store.pins(), await store.manifests(), config, self.clock())
        kept = reasons(*facts)
        return json_answer(
            {
                "remove": [{"model": m, "revision": r} for m, r in expendable(*facts)],
                "keep": [
                    {"model": m, "revision": r, "reason": kept[m, r]} for m, r in sorted(kept)
                ],
            }
        )

    async def prune(self, request: web.Request) -> web.Response:
        """Accept a signed list with revisions removed."""
        wanted = await self._read(request, PruneRequest)
        before = self.publisher.repository.view.revisions.keys()
        await self.publisher.prune(wanted.revisions.encode())
        removed = sorted(before - self.publisher.repository.view.revisions.keys())
        return json_answer({"removed": [{"model": m, "revision": r} for m, r in removed]})

    async def scrub_for_ever(self, interval_s: float, bytes_per_s: int) -> None:
        """A scrub now and then in the background; where another job runs, the next time."""
        while True:
            await asyncio.sleep(interval_s)
            try:
                self.jobs.start(VERIFY, self._scrub(bytes_per_s))
            except ConflictError as error:
                _log.info("no scrub this time", reason=error.message)
            else:
                await self.jobs.wait()

    def _scrub(self, bytes_per_s: int) -> Work:
        async def work(progress: Progress) -> Any:
            return await Scrub(self.publisher, Pacer(bytes_per_s), progress).run()

        return work

    async def _pins(self) -> dict[str, Any]:
        found = sorted(await self.publisher.store.pins())
        return {"pins": [{"model": model, "revision": revision} for model, revision in found]}

    async def _stop(self, _app: web.Application) -> None:
        await self.jobs.aclose()

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        require_token(request, self.token)
        return await read_json(request, kind, self.max_body_bytes)


def _kind(request: web.Request) -> str:
    kind = request.match_info["kind"]
    if kind not in {GC, VERIFY}:
        raise NotFoundError(f"jobs are {GC} and {VERIFY}")
    return kind
