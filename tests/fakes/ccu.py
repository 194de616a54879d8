"""Akamai's Fast Purge over loopback: checks what is documented; signs with Akamai's own package.

https://techdocs.akamai.com/purge-cache/reference
"""

from __future__ import annotations

import calendar
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.test_utils import TestServer
from akamai.edgegrid.edgegrid import EdgeGridAuthHeaders

HOST = "akab-host.luna.akamaiapis.net"
CLIENT_TOKEN, ACCESS_TOKEN = "akab-client-token", "akab-access-token"
SECRET = "C113nt53KR3TN6N90yVuAgICxIRwsObLi0E67/N8eRN="
EDGERC = f"""[default]
client_secret = {SECRET}
host = {HOST}
access_token = {ACCESS_TOKEN}
client_token = {CLIENT_TOKEN}
"""
MAX_BODY_BYTES = 50_000
SKEW_S = 30
_TAG = re.compile(r"[A-Za-z0-9&'^$!`#%.+~_|/-]{1,128}")
_PATH = re.compile(r"/ccu/v3/(invalidate|delete)/tag/(production|staging)")


@dataclass(frozen=True, slots=True)
class Request:
    """What the signing package reads of a request."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


def sign(request: Request, at: str, nonce: str, secret: str = SECRET) -> str:
    """The ``Authorization`` header, as Akamai's own package makes it."""
    signer = EdgeGridAuthHeaders(CLIENT_TOKEN, secret, ACCESS_TOKEN)
    return str(signer.make_auth_header(request, at, nonce))


@dataclass
class Ccu:
    """The API. ``tokens``: tags that it takes before it answers 429; refilled by the test."""

    tokens: int = 5_000
    requests: int = 0
    limited: int = 0
    purged: list[tuple[str, str, str]] = field(default_factory=list)
    """(action, network, tag)."""
    refused: list[str] = field(default_factory=list)
    url: str = ""
    _nonces: set[str] = field(default_factory=set)

    def tags(self, action: str, network: str = "production") -> set[str]:
        return {tag for a, n, tag in self.purged if (a, n) == (action, network)}

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        body = await request.read()
        found = _PATH.fullmatch(request.path_qs)
        problem = self._unsigned(request, body)
        if problem or found is None:
            self.refused.append(problem or f"no such path {request.path_qs}")
            return web.json_response({"title": problem}, status=401 if problem else 404)
        if len(body) > MAX_BODY_BYTES:
            self.refused.append("too large")
            return web.json_response({}, status=413)
        objects = json.loads(body)["objects"]
        bad = [one for one in objects if not _TAG.fullmatch(one)]
        if bad or not objects or request.content_type != "application/json":
            self.refused.append(f"bad tags {bad}")
            return web.json_response({}, status=400)
        if len(objects) > self.tokens:
            self.limited += 1
            return web.json_response({"title": "Rate Limit exceeded"}, status=429)
        self.tokens -= len(objects)
        self.purged += [(found[1], found[2], tag) for tag in objects]
        told = {"httpStatus": 201, "estimatedSeconds": 5, "detail": "Request accepted"}
        return web.json_response(told, status=201)

    def _unsigned(self, request: web.Request, body: bytes) -> str:
        """Why the signature does not count; empty where it does."""
        given = request.headers.get("Authorization", "")
        fields = dict(re.findall(r"(\w+)=([^;]*)(?:;|$)", given))
        at, nonce = fields.get("timestamp", ""), fields.get("nonce", "")
        seen = Request(request.method, str(request.url), {"Host": request.host}, body)
        if not nonce or nonce in self._nonces:
            return "a nonce that was used"
        self._nonces.add(nonce)
        if given != sign(seen, at, nonce):
            return "the signature does not match"
        age_s = time.time() - _seconds(at)
        return "" if abs(age_s) < SKEW_S else "a timestamp that is off"


def _seconds(at: str) -> float:
    return calendar.timegm(time.strptime(at, "%Y%m%dT%H:%M:%S+0000"))


@asynccontextmanager
async def ccu() -> AsyncIterator[Ccu]:
    """The API on a free port."""
    made = Ccu()
    app = web.Application(client_max_size=1 << 20)
    app.router.add_route("*", "/{rest:.*}", made.answer)
    async with TestServer(app) as server:
        made.url = str(server.make_url("")).rstrip("/")
        yield made
