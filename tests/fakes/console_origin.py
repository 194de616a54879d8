"""An origin that has nothing but a console, with a made-up fleet behind it and the page's real
files and headers before it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
from aiohttp import web
from msgspec import UnsetType

from origin.console.assets import ALWAYS, read_assets
from origin.console.state import LoginRow, WorkerRollRow
from tests.fakes.console_fleet import SyntheticFleet, boots

TOKEN = "an administrator's token"
API_KEY = "hw-a-key-of-a-fake"
COOKIE = "headwater_console"
API = "/console/api"
EDGES = ("http://edge-1:7401", "http://edge-2:7401")
ANSWER = ("Paris", " is", " the", " capital", " of", " France", ".")
ELSEWHERE = {
    "phone": ("Safari on iPhone", "198.51.100.0/24 by way of 10.0.4.0/24"),
    "desk": ("Firefox on Windows", "2001:db8:7::/48"),
}
AT = time.time()
_HEADERS = {
    "x-headwater-route": "worker; model=chat-small",
    "x-headwater-worker": "gpu-7",
    "x-headwater-plan": "complexity 0.12 is below 0.50; weighed length -0.40, words +0.06",
    "x-model-digest": "1f0c9a77b2d4" * 5,
    "Server-Timing": "auth;dur=0.021, parse;dur=0.034, sanitize;dur=0.112, tokenize;dur=0.190, "
    "classify;dur=0.050, route;dur=0.025, reserve;dur=0.030, backend;dur=1.84",
}


class ConsoleOrigin:
    """Serves the page and its API. ``send`` is what happens in the fleet."""

    def __init__(self, fleet: SyntheticFleet) -> None:
        self.fleet = fleet
        self.state = fleet.state()
        self.viewers: list[asyncio.Queue[tuple[str, Any] | None]] = []
        self.logged_in: set[str] = set()
        self.elsewhere = dict(ELSEWHERE)
        """Other logins: id → browser and network."""
        self.roll: WorkerRollRow | UnsetType | None = None
        """Of every worker; None: one that still drains."""
        self.untold = ""
        """Who does not know yet that a login was ended."""
        self.answer: tuple[str, ...] = ANSWER
        self.asked: list[dict[str, Any]] = []
        self.pause_s = 0.0
        """Between two tokens."""
        self._assets = read_assets()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/console", self._page),
                web.get("/console/", self._page),
                web.post(f"{API}/login", self._login),
                web.post(f"{API}/logout", self._logout),
                web.get(f"{API}/session", self._session),
                web.get(f"{API}/logins", self._logins),
                web.delete(f"{API}/logins", self._end_others),
                web.delete(f"{API}/logins/{{id}}", self._end_login),
                web.get(f"{API}/live", self._live),
                web.get(f"{API}/boots/{{worker}}", self._boots),
                web.get(f"{API}/playground", self._playground),
                web.post(f"{API}/chat", self._chat),
                web.get("/console/{name}", self._file),
            ]
        )
        return app

    def send(self, patch: Any, event: str = "patch") -> None:
        """An event for all viewers."""
        for viewer in self.viewers:
            viewer.put_nowait((event, patch))

    def become(self, fleet: SyntheticFleet) -> None:
        """Another fleet from now on, for whoever watches as well."""
        self.fleet = fleet
        self.state = fleet.state()
        self.answer, self.pause_s = ANSWER, 0.0
        self.elsewhere, self.untold, self.roll = dict(ELSEWHERE), "", None
        self.send(self.state, "state")

    def hang_up(self) -> None:
        """Every stream ends."""
        for viewer in self.viewers:
            viewer.put_nowait(None)

    def let_in(self) -> str:
        """The cookie of somebody who is logged in."""
        cookie = f"login-{len(self.logged_in)}"
        self.logged_in.add(cookie)
        return cookie

    async def go_on(self, every_s: float, changes: int) -> None:
        """Until cancelled: so many nodes change every so often."""
        while True:
            self.send(self.fleet.step(changes))
            await asyncio.sleep(every_s)

    async def _page(self, request: web.Request) -> web.Response:
        return self._asset("index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return self._asset(request.match_info["name"])

    def _asset(self, name: str) -> web.Response:
        asset = self._assets.get(name)
        if asset is None:
            raise web.HTTPNotFound
        return web.Response(body=asset.body, headers={**ALWAYS, **asset.headers})

    async def _login(self, request: web.Request) -> web.Response:
        if (await request.json())["token"] != TOKEN:
            raise web.HTTPUnauthorized
        response = web.json_response({"logged_in": True})
        response.set_cookie(
            COOKIE, self.let_in(), httponly=True, samesite="Strict", path="/console"
        )
        return response

    async def _logout(self, request: web.Request) -> web.Response:
        self.logged_in.discard(request.cookies.get(COOKIE, ""))
        return web.json_response({"logged_in": False, "problem": self.untold})

    async def _logins(self, request: web.Request) -> web.Response:
        self._check(request)
        mine = LoginRow(
            id="mine",
            made=AT - 600,
            seen=AT,
            until=AT + 42_600,
            mine=True,
            browser="Chrome on Linux",
            address="192.0.2.0/24",
        )
        others = [
            LoginRow(
                id=id,
                made=AT - 3_600 * (number + 2),
                seen=AT - 40 - 2_000 * number,
                until=AT + 3_600 * (9 - number),
                browser=browser,
                address=address,
            )
            for number, (id, (browser, address)) in enumerate(self.elsewhere.items())  # noqa: A001
        ]
        return web.json_response(msgspec.to_builtins([*others, mine]))

    async def _end_login(self, request: web.Request) -> web.Response:
        self._check(request)
        if (wanted := request.match_info["id"]) == "mine":
            self.logged_in.discard(request.cookies.get(COOKIE, ""))
        elif self.elsewhere.pop(wanted, None) is None:
            return web.json_response({"detail": "there is no such login"}, status=404)
        return web.json_response({"ended": 1, "problem": self.untold})

    async def _end_others(self, request: web.Request) -> web.Response:
        self._check(request)
        ended = len(self.elsewhere)
        self.elsewhere.clear()
        return web.json_response({"ended": ended, "problem": self.untold})

    def _knows(self, request: web.Request) -> bool:
        return request.cookies.get(COOKIE) in self.logged_in

    def _check(self, request: web.Request) -> None:
        if not self._knows(request):
            raise web.HTTPUnauthorized
        if request.method != "GET" and request.headers.get("X-Headwater-Console") != "1":
            raise web.HTTPForbidden

    async def _session(self, request: web.Request) -> web.Response:
        return web.json_response({"logged_in": self._knows(request)})

    async def _live(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        events: asyncio.Queue[tuple[str, Any] | None] = asyncio.Queue()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        events.put_nowait(("state", self.fleet.state()))
        self.viewers.append(events)
        try:
            while (told := await events.get()) is not None:
                event, body = told
                await response.write(f"event: {event}\ndata: {json.dumps(body)}\n\n".encode())
        except ConnectionResetError:
            pass  # the viewer left
        finally:
            self.viewers.remove(events)
        return response

    async def _boots(self, request: web.Request) -> web.Response:
        self._check(request)
        worker = request.match_info["worker"]
        if not any(name.partition("/")[0] == worker for name in self.fleet.workers):
            problem = {"detail": f"no edge that is here knows {worker}", "status": 404}
            return web.json_response(problem, status=404)
        found = boots()
        if self.roll is not None:
            found = [msgspec.structs.replace(boot, roll=self.roll) for boot in found]
        return web.json_response(msgspec.to_builtins(found))

    async def _playground(self, request: web.Request) -> web.Response:
        self._check(request)
        models = ["chat-small", "chat-large"] if "X-Headwater-Api-Key" in request.headers else []
        edges = [{"url": url, "models": models} for url in EDGES]
        return web.json_response({"edges": edges})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        self._check(request)
        self.asked.append({"body": await request.json(), "headers": dict(request.headers)})
        if request.headers.get("X-Headwater-Api-Key") != API_KEY:
            error = {"error": {"message": "this API key is not known", "code": "invalid_api_key"}}
            return web.json_response(error, status=401)
        response = web.StreamResponse(headers={**_HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        with suppress(ConnectionResetError):  # whoever asked left
            await self._say(response)
        return response

    async def _say(self, response: web.StreamResponse) -> None:
        for token in self.answer:
            await response.write(_event({"choices": [{"delta": {"content": token}}]}))
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
        usage = {"completion_tokens": len(self.answer), "prompt_tokens": 9}
        await response.write(
            _event({"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": usage})
        )
        await response.write(b"data: [DONE]\n\n")


def _event(body: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(body)}\n\n".encode()


@asynccontextmanager
async def running(origin: ConsoleOrigin) -> AsyncIterator[str]:
    """It listens; gives its URL."""
    runner = web.AppRunner(origin.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        origin.hang_up()
        await runner.cleanup()
