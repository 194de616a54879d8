"""The gateway's other doors: workers' heartbeats; keys and the audit log for administrators."""

from __future__ import annotations

import asyncio
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import msgspec
from aiohttp import web

from edge_tier.gateway.audit import Act
from edge_tier.gateway.auth import bearer_token, require_scope
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.identity import Identity
from edge_tier.gateway.key_records import KeyRecord
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.orders import Orders
from edge_tier.gateway.request import Limits, Policy, Scope
from wire.errors import ForbiddenError, RequestInvalidError, TooLargeError
from wire.http_bodies import read_body
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, HEARTBEAT
from wire.workers import HeartbeatAnswer, decode_heartbeat

_MAX_BODY_BYTES = 64 * 1024
_MAX_HEARTBEAT_BYTES = 512 * 1024
"""A worker with many models has a report for each."""
_MAX_TOKEN_CHARS = 65_536
_MAX_AUDIT_RECORDS = 1_000
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ID_OF_REQUEST = web.RequestKey("admin_request_id", str)
T = TypeVar("T")


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key for a tenant."""

    tenant: str
    scopes: frozenset[Scope] = frozenset({"chat"})
    limits: Limits = Limits()
    policy: Policy = Policy()
    expires: datetime | None = None
    note: str = ""


class RotateRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new secret for a key."""

    grace_s: float = 0.0


@dataclass(slots=True, kw_only=True)
class _Gate:
    """Lets one thing in a second through."""

    clock: Callable[[], float] = time.monotonic
    next_s: float = 0.0

    def opens(self) -> bool:
        now = self.clock()
        if now < self.next_s:
            return False
        self.next_s = now + 1.0
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAdmin:
    """Heartbeats under the workers' token; keys under the administrator's, or under a credential
    with the scope ``admin``. Every act is in the audit log before it is done."""

    fleet: Fleet
    models: ModelDirectory
    identity: Identity
    admin_token: str
    worker_token: str
    orders: Orders = field(default_factory=lambda: Orders(time.monotonic))
    """What the origins want of the workers."""
    on_news: Callable[[], None] = lambda: None
    """Told when a worker comes, changes what it serves, or has carried out a command."""
    _refusals: _Gate = field(default_factory=_Gate)

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_post(HEARTBEAT, self.heartbeat)
        app.router.add_get(f"{ADMIN}/keys", self.list_keys)
        app.router.add_post(f"{ADMIN}/keys", self.create_key)
        app.router.add_get(f"{ADMIN}/keys/{{key_id}}", self.show_key)
        app.router.add_delete(f"{ADMIN}/keys/{{key_id}}", self.revoke_key)
        app.router.add_post(f"{ADMIN}/keys/{{key_id}}/rotate", self.rotate_key)
        app.router.add_get(f"{ADMIN}/audit", self.show_audit)

    async def heartbeat(self, request: web.Request) -> web.Response:
        """A worker tells that it lives and how it is, in one report or one for each of its models,
        and hears what it shall do."""
        require_token(request, self.worker_token)
        body = await read_body(request, _MAX_HEARTBEAT_BYTES)
        try:
            reports = decode_heartbeat(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise RequestInvalidError(f"heartbeat: {error}") from error
        worker, before = reports[0].worker, self.fleet.version
        for report in reports:
            if not self.fleet.report(report):
                raise RequestInvalidError("this edge has as many workers as it takes; use another")
            if report.revision:
                self.models.prefetch(report.model, report.revision)
        commands = self.orders.for_worker(worker)
        done = {result.id for report in reports for result in report.done}
        if self.fleet.version != before or any(command.id in done for command in commands):
            self.on_news()
        return json_answer(HeartbeatAnswer(commands=commands))

    async def list_keys(self, request: web.Request) -> web.Response:
        """All keys, without what would let anybody use them."""
        await self.acted(request, "keys.list", "", lambda _: None)
        return json_answer({"keys": [_shown(record) for record in self.identity.keys.list()]})

    async def show_key(self, request: web.Request) -> web.Response:
        """One key, as in the list."""
        key_id = request.match_info["key_id"]
        record = await self.acted(
            request, "keys.show", key_id, lambda _: self.identity.keys.get(key_id)
        )
        return json_answer(_shown(record))

    async def create_key(self, request: web.Request) -> web.Response:
        """Make a key; this answer is the only place where it ever stands."""
        await self.actor(request, "keys.create", "")
        wanted = _decoded(await _body(request), KeyRequest)

        def create(act: Act) -> tuple[KeyRecord, str]:
            made = self.identity.keys.create(
                tenant=wanted.tenant,
                scopes=wanted.scopes,
                limits=wanted.limits,
                policy=wanted.policy,
                expires=wanted.expires,
                note=wanted.note,
            )
            act.subject = made[0].key_id
            return made

        record, key = await self.acted(request, "keys.create", f"tenant:{wanted.tenant}", create)
        return json_answer({"key_id": record.key_id, "key": key})

    async def revoke_key(self, request: web.Request) -> web.Response:
        """End a key."""
        key_id = request.match_info["key_id"]
        record = await self.acted(
            request, "keys.revoke", key_id, lambda _: self.identity.keys.revoke(key_id)
        )
        return json_answer(_shown(record))

    async def rotate_key(self, request: web.Request) -> web.Response:
        """Give a key a new secret, which stands in this answer alone."""
        key_id = request.match_info["key_id"]
        await self.actor(request, "keys.rotate", key_id)
        wanted = _decoded(await _body(request) or b"{}", RotateRequest)
        record, key = await self.acted(
            request,
            "keys.rotate",
            key_id,
            lambda _: self.identity.keys.rotate(key_id, grace_s=wanted.grace_s),
        )
        return json_answer({**_shown(record), "key": key})

    async def show_audit(self, request: web.Request) -> web.Response:
        """The newest records, and whether the chain of all of them holds."""
        try:
            most = int(request.query.get("limit", "100"))
        except ValueError:
            raise RequestInvalidError("limit must be a number") from None
        most = min(max(most, 0), _MAX_AUDIT_RECORDS)
        audit = self.identity.audit
        records, chain = await self.acted(
            request, "audit.read", "", lambda _: (audit.newest(most), audit.verify())
        )
        return json_answer({"records": records, "chain": chain})

    async def acted(
        self, request: web.Request, action: str, subject: str, work: Callable[[Act], T]
    ) -> T:
        """Do blocking ``work`` for an administrator, in a thread and in the audit log.

        Raises:
            UnauthorizedError, ForbiddenError: not an administrator.
            AuditError: it cannot be written down, and was not done.
        """
        actor = await self.actor(request, action, subject)
        request_id = _request_id(request)

        def run() -> T:
            with self.identity.audit.act(
                actor=actor, action=action, subject=subject, request_id=request_id
            ) as act:
                return work(act)

        # A client that leaves must not leave an act half written down.
        return await asyncio.shield(asyncio.to_thread(run))

    async def actor(self, request: web.Request, action: str, subject: str) -> str:
        """Who asks, as the audit log names them.

        Raises:
            UnauthorizedError: no valid credential. Not in the audit log, which anybody could fill.
            ForbiddenError: a valid one without the scope; in the log, but at most once a second.
        """
        header = request.headers.get("Authorization")
        given = bearer_token(header, most=_MAX_TOKEN_CHARS)
        if hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.admin_token.encode()):
            return f"token:{self.identity.keys.fingerprint(given)}"
        caller = self.identity.authenticate(header)
        actor = f"key:{caller.key_id}"
        try:
            require_scope(caller, "admin")
        except ForbiddenError:
            if self._refusals.opens():
                request_id = _request_id(request)
                await asyncio.to_thread(
                    self.identity.audit.write, actor, action, subject, "refused", request_id
                )
            raise
        return actor


def _request_id(request: web.Request) -> str:
    """The client's own id of the request where it is one, else a fresh one; one per request."""
    known: str | None = request.get(_ID_OF_REQUEST)
    if known is None:
        given = request.headers.get("X-Request-Id", "")
        known = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        request[_ID_OF_REQUEST] = known
    return known


def _shown(record: KeyRecord) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(record)
    del fields["digest"], fields["previous_digest"]
    return fields


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RequestInvalidError(f"request body: {error}") from error


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > _MAX_BODY_BYTES:
        raise TooLargeError(f"body is over {_MAX_BODY_BYTES} B")
    return await request.read()
