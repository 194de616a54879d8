"""What the console shows, over HTTP: behind a login, but for the login itself.

``origin.console.state`` says what is asked for and answered. A cookie alone never changes anything:
a POST needs a header of ours, which no form and no other site can send; under the token itself it
does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import msgspec
import structlog
from aiohttp import web

from origin.boots import BootDesk
from origin.console.access import Logins, Tries
from origin.console.config import ConsoleConfig
from origin.console.live import Live
from origin.console.playground import Relay
from origin.console.state import Boot, BootSpan
from wire.errors import ForbiddenError, UnauthorizedError
from wire.fleet import WorkerBoot
from wire.http_bodies import read_json
from wire.http_server import json_answer
from wire.paths import CONSOLE

API = f"{CONSOLE}/api"
OWN_HEADER = "X-Headwater-Console"
_MAX_LOGIN_BYTES = 4_096
_STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",
}
_log = structlog.get_logger("console")
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The administrator's token."""

    token: Annotated[str, msgspec.Meta(max_length=1_024)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleRoutes:
    """Everything below ``/console/api``."""

    config: ConsoleConfig
    logins: Logins
    tries: Tries
    live: Live
    boots: BootDesk
    clock: Callable[[], float]
    """Seconds since 1970."""
    relay: Callable[[], Relay]

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        router.add_get(f"{API}/session", self.session)
        router.add_post(f"{API}/login", self.login)
        router.add_post(f"{API}/logout", self._guarded(self.logout))
        router.add_get(f"{API}/live", self.stream, allow_head=False)
        router.add_get(f"{API}/boots/{{worker}}", self._guarded(self.boot))
        router.add_get(f"{API}/playground", self._guarded(self.playground))
        router.add_post(f"{API}/chat", self._guarded(self.chat))
        app.on_shutdown.append(self._end)

    # Open

    async def session(self, request: web.Request) -> web.Response:
        """Whether whoever asks is logged in."""
        try:
            until = self._until(request)
        except UnauthorizedError:
            return json_answer({"logged_in": False})
        return json_answer(_session(until))

    async def login(self, request: web.Request) -> web.Response:
        """A cookie for the administrator's token."""
        _require_own_header(request)
        wanted = await read_json(request, LoginRequest, _MAX_LOGIN_BYTES)
        if not self.logins.opens(wanted.token.strip()):
            self.tries.failed()
            _log.warning("login refused", peer=request.remote)
            raise UnauthorizedError("this is not the administrator's token of this origin")
        cookie, until = self.logins.make()
        answer = json_answer(_session(until))
        self._set_cookie(request, answer, cookie, max_age=int(until - self.clock()))
        _log.info("login", peer=request.remote)
        return answer

    # Behind a login

    async def logout(self, request: web.Request) -> web.Response:
        """Have the browser forget its cookie."""
        answer = json_answer({"logged_in": False})
        self._set_cookie(request, answer, "", max_age=0)
        return answer

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The live stream."""
        until = self._until(request)

        def lasts() -> bool:
            return until is None or self.clock() < until

        async with aclosing(self.live.stream(lasts=lasts)) as events:
            first = await anext(events)
            response = web.StreamResponse(headers=_STREAM)
            await response.prepare(request)
            try:
                await response.write(first)
                async for event in events:
                    async with asyncio.timeout(self.config.write_timeout_s):
                        await response.write(event)
            except (ConnectionError, TimeoutError):
                response.force_close()
                if request.transport is not None:
                    request.transport.abort()
        return response

    async def boot(self, request: web.Request) -> web.Response:
        """How a worker's boot went."""
        boots = await self.boots.of(request.match_info["worker"])
        return json_answer([_boot(boot) for boot in boots])

    async def playground(self, request: web.Request) -> web.Response:
        """Which edges can be asked, and for what."""
        return json_answer(await self.relay().edges(request))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """A prompt to one of them."""
        return await self.relay().chat(request)

    # Inside

    def _guarded(self, handler: _Handler) -> _Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            by_token = self._until(request) is None
            if request.method == "POST" and not by_token:
                _require_own_header(request)
            return await handler(request)

        return guarded

    def _until(self, request: web.Request) -> float | None:
        """Until when the request's login holds; None where it has the token itself.

        Raises:
            UnauthorizedError: it has neither.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.logins.opens(token):
            return None
        until = self.logins.until(request.cookies.get(self.logins.cookie, ""))
        if until is None:
            raise UnauthorizedError("log in with the administrator's token first")
        return until

    def _set_cookie(
        self, request: web.Request, answer: web.Response, value: str, *, max_age: int
    ) -> None:
        # Of several proxies the first is the one that the browser sees.
        scheme = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
        https = request.secure or scheme == "https"
        answer.set_cookie(
            self.logins.cookie,
            value,
            max_age=max_age,
            path=CONSOLE,
            httponly=True,
            samesite="Strict",
            secure=https or self.config.secure_cookie,
        )

    async def _end(self, _app: web.Application) -> None:
        await self.live.end()


def _require_own_header(request: web.Request) -> None:
    """Raises ``ForbiddenError`` without it."""
    if OWN_HEADER not in request.headers:
        raise ForbiddenError(f"a POST without the token as bearer needs the header {OWN_HEADER}: 1")


def _session(until: float | None) -> dict[str, object]:
    return {"logged_in": True, **({"expires": until} if until is not None else {})}


def _boot(boot: WorkerBoot) -> Boot:
    spans = tuple(
        BootSpan(name=s.name, start_ms=s.start_ms, length_ms=s.length_ms) for s in boot.spans
    )
    return Boot(
        model=boot.model,
        revision=boot.revision,
        spans=spans,
        total_ms=round(max((s.start_ms + s.length_ms for s in spans), default=0.0), 1),
    )
