"""The gateway's other doors: workers' heartbeats, and keys for administrators."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec
from aiohttp import web

from edge_tier.gateway.auth import KeyStore
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.key_records import KeyRecord
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.request import Limits, Policy, Scope
from wire.errors import RequestInvalidError, TooLargeError
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, HEARTBEAT
from wire.workers import decode_report

_MAX_BODY_BYTES = 64 * 1024


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A new key for a tenant."""

    tenant: str
    scopes: frozenset[Scope] = frozenset({"chat"})
    limits: Limits = Limits()
    policy: Policy = Policy()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAdmin:
    """Heartbeats under the workers' token, keys under the administrator's."""

    fleet: Fleet
    models: ModelDirectory
    keys: KeyStore
    admin_token: str
    worker_token: str

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_post(HEARTBEAT, self.heartbeat)
        app.router.add_get(f"{ADMIN}/keys", self.list_keys)
        app.router.add_post(f"{ADMIN}/keys", self.create_key)
        app.router.add_delete(f"{ADMIN}/keys/{{key_id}}", self.revoke_key)

    async def heartbeat(self, request: web.Request) -> web.Response:
        """A worker tells that it lives and how it is."""
        require_token(request, self.worker_token)
        try:
            report = decode_report(await _body(request))
        except (msgspec.DecodeError, RecursionError) as error:
            raise RequestInvalidError(f"heartbeat: {error}") from error
        if not self.fleet.report(report):
            raise RequestInvalidError("this edge has as many workers as it takes; use another")
        if report.revision:
            self.models.prefetch(report.model, report.revision)
        return web.Response(status=204)

    async def list_keys(self, request: web.Request) -> web.Response:
        """All keys, without what would let anybody use them."""
        require_token(request, self.admin_token)
        return json_answer({"keys": [_shown(record) for record in self.keys.list()]})

    async def create_key(self, request: web.Request) -> web.Response:
        """Make a key; this answer is the only place where it ever stands."""
        require_token(request, self.admin_token)
        try:
            wanted = msgspec.json.decode(await _body(request), type=KeyRequest)
        except (msgspec.DecodeError, RecursionError) as error:
            raise RequestInvalidError(f"request body: {error}") from error
        record, key = await asyncio.to_thread(
            self.keys.create,
            tenant=wanted.tenant,
            scopes=wanted.scopes,
            limits=wanted.limits,
            policy=wanted.policy,
            note=wanted.note,
        )
        return json_answer({"key_id": record.key_id, "key": key})

    async def revoke_key(self, request: web.Request) -> web.Response:
        """End a key."""
        require_token(request, self.admin_token)
        record = await asyncio.to_thread(self.keys.revoke, request.match_info["key_id"])
        return json_answer(_shown(record))


def _shown(record: KeyRecord) -> dict[str, object]:
    fields: dict[str, object] = msgspec.to_builtins(record)
    del fields["digest"], fields["previous_digest"]
    return fields


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > _MAX_BODY_BYTES:
        raise TooLargeError(f"body is over {_MAX_BODY_BYTES} B")
    return await request.read()
