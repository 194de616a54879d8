"""``/admin/rollouts``: begin, watch, promote, abort, roll back. Bearer token on all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import msgspec
from aiohttp import web

from origin.rollout_state import RolloutRequest
from origin.rollouts import Rollouts
from wire.http_bodies import read_json
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, DEFAULT_CHANNEL, channel_name, model_name, revision_id

T = TypeVar("T")
_PATH = f"{ADMIN}/rollouts"
_ONE = f"{_PATH}/{{model}}/{{channel}}"
_Who = Annotated[str, msgspec.Meta(max_length=128)]
_Why = Annotated[str, msgspec.Meta(max_length=300)]
_Percent = Annotated[int, msgspec.Meta(ge=0, le=99)]


class StartRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rollout; ``percent`` 0 is one without a canary."""

    model: str
    channel: str = DEFAULT_CHANNEL
    revision: str
    percent: _Percent = 0
    by: Literal["workers", "callers"] = "workers"
    preheat: bool = True
    abort_on_failure: bool = True
    force: bool = False
    who: _Who = ""
    why: _Why = ""


class RollbackRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A way back; without a ``revision``, to the one before."""

    revision: str = ""
    percent: _Percent = 0
    by: Literal["workers", "callers"] = "workers"
    who: _Who = ""
    why: _Why = ""


class AbortRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and who says so."""

    who: _Who = ""
    why: _Why = ""


class PromoteRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who says so."""

    who: _Who = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRoutes:
    """The rollouts' part of ``/admin``."""

    rollouts: Rollouts
    token: str
    max_body_bytes: int = 64 * 1024

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        router.add_get(_PATH, self.all)
        router.add_post(_PATH, self.start)
        router.add_get(_ONE, self.one)
        router.add_post(f"{_ONE}/abort", self.abort)
        router.add_post(f"{_ONE}/promote", self.promote)
        router.add_post(f"{_ONE}/rollback", self.rollback)

    async def all(self, request: web.Request) -> web.Response:
        """Every channel's record."""
        require_token(request, self.token)
        return json_answer({"channels": self.rollouts.records()})

    async def one(self, request: web.Request) -> web.Response:
        """A channel's record, and how its rollout stands."""
        require_token(request, self.token)
        return json_answer(self.rollouts.describe(*_named(request)))

    async def start(self, request: web.Request) -> web.Response:
        """Begin a rollout; answered when its first steps are taken."""
        wanted = await self._read(request, StartRequest)
        rollout = await self.rollouts.start(
            RolloutRequest(
                model=model_name(wanted.model),
                channel=channel_name(wanted.channel),
                revision=revision_id(wanted.revision),
                percent=wanted.percent,
                by=wanted.by,
                preheat=wanted.preheat,
                abort_on_failure=wanted.abort_on_failure,
                force=wanted.force,
                who=wanted.who,
                why=wanted.why,
            )
        )
        return json_answer(rollout)

    async def rollback(self, request: web.Request) -> web.Response:
        """Go back at once."""
        wanted = await self._read(request, RollbackRequest)
        model, channel = _named(request)
        rollout = await self.rollouts.rollback(
            RolloutRequest(
                model=model,
                channel=channel,
                revision=revision_id(wanted.revision) if wanted.revision else "",
                percent=wanted.percent,
                by=wanted.by,
                preheat=False,
                who=wanted.who,
                why=wanted.why,
            )
        )
        return json_answer(rollout)

    async def abort(self, request: web.Request) -> web.Response:
        """Give up the rollout that runs."""
        wanted = await self._read(request, AbortRequest)
        told = f"aborted by {wanted.who or 'an operator'}"
        reason = f"{told}: {wanted.why}" if wanted.why else told
        return json_answer(await self.rollouts.abort(*_named(request), reason))

    async def promote(self, request: web.Request) -> web.Response:
        """Have it go on to all workers."""
        wanted = await self._read(request, PromoteRequest)
        return json_answer(await self.rollouts.promote(*_named(request), wanted.who))

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        require_token(request, self.token)
        return await read_json(request, kind, self.max_body_bytes)


def _named(request: web.Request) -> tuple[str, str]:
    return model_name(request.match_info["model"]), channel_name(request.match_info["channel"])
