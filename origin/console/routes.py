"""What the console shows, over HTTP: behind a login, but for the login itself.

``origin.console.state`` says what is asked for and answered. A cookie alone never changes anything:
whatever is no GET needs a header of ours, which no form and no other site can send; under the token
itself it does not. A login that is ended ends its streams of the fleet with the next look; an
answer of the playground that is under way goes on to its end.
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
from msgspec import UNSET

from origin.boots import BootDesk
from origin.console.access import Logins, Pass, Tries
from origin.console.config import ConsoleConfig
from origin.console.ledger import Ledger
from origin.console.live import Live
from origin.console.logins import Login, address_words, browser_words
from origin.console.playground import Relay
from origin.console.state import Boot, BootSpan, LoginRow, LoginsEnded, WorkerRollRow
from wire.errors import ForbiddenError, NotFoundError, UnauthorizedError
from wire.fleet import WorkerBoot
from wire.http_bodies import read_json
from wire.http_server import json_answer
from wire.paths import CONSOLE
from wire.workers import BootSpans, WorkerRoll

API = f"{CONSOLE}/api"
OWN_HEADER = "X-Headwater-Console"
_MAX_LOGIN_BYTES = 4_096
_READS = frozenset({"GET", "HEAD"})
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
    ledger: Ledger
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
        router.add_get(f"{API}/logins", self._guarded(self.list_logins))
        router.add_delete(f"{API}/logins", self._guarded(self.end_others))
        router.add_delete(f"{API}/logins/{{id}}", self._guarded(self.end_login))
        router.add_get(f"{API}/live", self.stream, allow_head=False)
        router.add_get(f"{API}/boots/{{worker}}", self._guarded(self.boot))
        router.add_get(f"{API}/playground", self._guarded(self.playground))
        router.add_post(f"{API}/chat", self._guarded(self.chat))
        app.on_shutdown.append(self._end)

    # Open

    async def session(self, request: web.Request) -> web.Response:
        """Whether whoever asks is logged in."""
        try:
            login = await self._login(request)
        except UnauthorizedError:
            return json_answer({"logged_in": False})
        return json_answer(_session(login.until if login is not None else None))

    async def login(self, request: web.Request) -> web.Response:
        """A cookie for the administrator's token."""
        _require_own_header(request)
        wanted = await read_json(request, LoginRequest, _MAX_LOGIN_BYTES)
        if not self.logins.opens(wanted.token.strip()):
            self.tries.failed()
            _log.warning("login refused", peer=request.remote)
            raise UnauthorizedError("this is not the administrator's token of this origin")
        cookie, made = self.logins.make()
        problem = await self.ledger.add(self._entry(request, made))
        answer = json_answer(_session(made.until, problem))
        self._set_cookie(request, answer, cookie, max_age=int(made.until - self.clock()))
        _log.info("login", peer=request.remote)
        return answer

    # Behind a login

    async def logout(self, request: web.Request) -> web.Response:
        """End the login, and have the browser forget its cookie."""
        login = await self._login(request)
        problem = await self.ledger.end([login.id]) if login is not None else ""
        answer = json_answer({"logged_in": False, **({"problem": problem} if problem else {})})
        self._set_cookie(request, answer, "", max_age=0)
        return answer

    async def list_logins(self, request: web.Request) -> web.Response:
        """The logins that hold."""
        mine = await self._login(request)
        await self.ledger.fresh()
        rows = [_row(one, mine=mine is not None and one.id == mine.id) for one in self.ledger.all()]
        return json_answer(rows)

    async def end_login(self, request: web.Request) -> web.Response:
        """End one of them, which may be one's own."""
        wanted = request.match_info["id"]
        await self.ledger.fresh()
        if not any(one.id == wanted for one in self.ledger.all()):
            raise NotFoundError("there is no such login; it may have been ended already")
        return await self._ended([wanted])

    async def end_others(self, request: web.Request) -> web.Response:
        """End all but one's own; with the token as bearer, all."""
        mine = await self._login(request)
        await self.ledger.fresh()
        ids = [one.id for one in self.ledger.all() if mine is None or one.id != mine.id]
        return await self._ended(ids)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        """The live stream."""
        login = await self._login(request)

        def lasts() -> bool:
            return login is None or self.ledger.holds(login.id)

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
            by_token = await self._login(request) is None
            if request.method not in _READS and not by_token:
                _require_own_header(request)
            return await handler(request)

        return guarded

    async def _login(self, request: web.Request) -> Pass | None:
        """The request's login; None where it has the token itself.

        Raises:
            UnauthorizedError: it has neither.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.logins.opens(token):
            return None
        login = self.logins.read(request.cookies.get(self.logins.cookie, ""))
        if login is None or not await self.ledger.check(login.id):
            raise UnauthorizedError("log in with the administrator's token first")
        return login

    def _entry(self, request: web.Request, made: Pass) -> Login:
        now = self.clock()
        forwarded = request.headers.get("X-Forwarded-For", "")
        return Login(
            id=made.id,
            made=now,
            until=made.until,
            seen=now,
            browser=browser_words(request.headers.get("User-Agent", "")),
            address=address_words(request.remote, forwarded),
        )

    async def _ended(self, ids: list[str]) -> web.Response:
        problem = await self.ledger.end(ids)
        _log.info("logins ended", count=len(ids))
        return json_answer(LoginsEnded(ended=len(ids), problem=problem or UNSET))

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
        raise ForbiddenError(
            f"a {request.method} without the token as bearer needs the header {OWN_HEADER}: 1"
        )


def _session(until: float | None, problem: str = "") -> dict[str, object]:
    told = {"expires": until, "problem": problem or None}
    return {"logged_in": True, **{name: value for name, value in told.items() if value is not None}}


def _row(login: Login, *, mine: bool) -> LoginRow:
    return LoginRow(
        id=login.id,
        made=round(login.made),
        seen=round(login.seen),
        until=round(login.until),
        browser=login.browser,
        address=login.address,
        mine=mine,
    )


def _boot(boot: WorkerBoot) -> Boot:
    return Boot(
        model=boot.model,
        revision=boot.revision,
        spans=_spans(boot.spans),
        total_ms=_total_ms(boot.spans),
        roll=_roll(boot.roll) if boot.roll is not None else UNSET,
    )


def _roll(roll: WorkerRoll) -> WorkerRollRow:
    return WorkerRollRow(
        revision=roll.revision,
        previous=roll.previous,
        began=round(roll.began, 3),
        outcome=roll.outcome,
        step=roll.step,
        reason=roll.reason,
        spans=_spans(roll.spans),
        total_ms=_total_ms(roll.spans),
    )


def _spans(spans: BootSpans) -> tuple[BootSpan, ...]:
    return tuple(BootSpan(name=s.name, start_ms=s.start_ms, length_ms=s.length_ms) for s in spans)


def _total_ms(spans: BootSpans) -> float:
    return round(max((s.start_ms + s.length_ms for s in spans), default=0.0), 1)
