"""The administrative API of warm-ups and pins. Bearer token on all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from edge_tier.cache.pins import Pins
from edge_tier.warm import Warmer, WarmRequest
from wire.http_bodies import read_json
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, channel_name, model_name, variant_name
from wire.trust import TrustView

_MAX_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmRoutes:
    """Warm-ups and pins for an administrator."""

    warmer: Warmer
    pins: Pins
    view: Callable[[], TrustView | None]
    token: str

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        router.add_post(f"{ADMIN}/warm", self.start)
        router.add_get(f"{ADMIN}/warm", self.list_jobs)
        router.add_get(f"{ADMIN}/warm/{{id}}", self.show)
        router.add_delete(f"{ADMIN}/warm/{{id}}", self.cancel)
        router.add_delete(f"{ADMIN}/pins/{{model}}/{{channel}}", self.unpin)

    async def start(self, request: web.Request) -> web.Response:
        """Begin a warm-up; answers with the job at once."""
        require_token(request, self.token)
        wanted = await _read(request)
        return json_answer(await self.warmer.start(wanted))

    async def list_jobs(self, request: web.Request) -> web.Response:
        """The jobs, and what an operator told this edge to keep."""
        require_token(request, self.token)
        return json_answer({"jobs": self.warmer.jobs(), "kept": self.pins.kept()})

    async def show(self, request: web.Request) -> web.Response:
        """One job as it stands now."""
        require_token(request, self.token)
        return json_answer(self.warmer.job(request.match_info["id"]))

    async def cancel(self, request: web.Request) -> web.Response:
        """Stop a job."""
        require_token(request, self.token)
        return json_answer(await self.warmer.cancel(request.match_info["id"]))

    async def unpin(self, request: web.Request) -> web.Response:
        """Keep a channel no longer."""
        require_token(request, self.token)
        model = model_name(request.match_info["model"])
        channel = channel_name(request.match_info["channel"])
        was_kept = await self.pins.release(model, channel)
        view = self.view()
        if view is not None:
            await self.pins.update(view)
        return json_answer({"model": model, "channel": channel, "was_kept": was_kept})


async def _read(request: web.Request) -> WarmRequest:
    wanted = await read_json(request, WarmRequest, _MAX_BODY_BYTES)
    model_name(wanted.model)
    channel_name(wanted.channel)
    if wanted.variant:
        variant_name(wanted.variant)
    return wanted
