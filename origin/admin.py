"""The origin's administrative API: upload, publish, roll, purge, status. Bearer token on all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from aiohttp import web

from origin.announce import Publisher, describe
from wire.chunk import MAX_CHUNK_BYTES, Chunk, chunk_id
from wire.errors import ChunkMismatchError, RequestInvalidError
from wire.http_bodies import read_body, read_json
from wire.http_server import json_answer, require_token
from wire.paths import ADMIN, channel_name, model_name, revision_id

T = TypeVar("T")


class MissingQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Chunk ids a publisher is about to send."""

    ids: list[str]


class PublishRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The publisher's signed list of revisions, as the text that was signed."""

    revisions: str


class RollRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Point ``model@channel`` at ``revision``."""

    model: str
    channel: str
    revision: str


class PurgeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A surrogate key; ``hard``: take it down for good."""

    key: str
    hard: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminRoutes:
    """The ``/admin`` paths of an origin."""

    publisher: Publisher
    token: str
    max_body_bytes: int

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        router.add_get(f"{ADMIN}/status", self.status)
        router.add_post(f"{ADMIN}/chunks/missing", self.missing)
        router.add_put(f"{ADMIN}/chunks/{{id}}", self.put_chunk)
        router.add_put(f"{ADMIN}/manifests/{{revision}}", self.put_manifest)
        router.add_post(f"{ADMIN}/publish", self.publish)
        router.add_post(f"{ADMIN}/roll", self.roll)
        router.add_post(f"{ADMIN}/purge", self.purge)

    async def status(self, request: web.Request) -> web.Response:
        """Channels, revisions, pins and the state of the trust metadata."""
        require_token(request, self.token)
        pins = sorted(await self.publisher.store.pins())
        pinned = [{"model": model, "revision": revision} for model, revision in pins]
        return json_answer({**describe(self.publisher.repository), "pins": pinned})

    async def missing(self, request: web.Request) -> web.Response:
        """Which of these chunks the store lacks."""
        query = await self._read(request, MissingQuery)
        ids = [chunk_id(text) for text in query.ids]
        return json_answer({"missing": await self.publisher.missing(ids)})

    async def put_chunk(self, request: web.Request) -> web.Response:
        """Store one chunk; its name must be true."""
        require_token(request, self.token)
        chunk = chunk_id(request.match_info["id"])
        body = await read_body(request, MAX_CHUNK_BYTES)
        try:
            verified = await asyncio.to_thread(Chunk, chunk, body)
        except ChunkMismatchError as error:
            raise RequestInvalidError(error.message) from error
        await self.publisher.put_chunk(verified)
        return web.Response(status=204)

    async def put_manifest(self, request: web.Request) -> web.Response:
        """Store a manifest whose chunks are all here."""
        require_token(request, self.token)
        revision = revision_id(request.match_info["revision"])
        body = await read_body(request, self.max_body_bytes)
        await self.publisher.put_manifest(revision, body)
        return web.Response(status=204)

    async def publish(self, request: web.Request) -> web.Response:
        """Accept the publisher's signed revisions."""
        wanted = await self._read(request, PublishRequest)
        await self.publisher.publish(wanted.revisions.encode())
        return json_answer(describe(self.publisher.repository))

    async def roll(self, request: web.Request) -> web.Response:
        """Move a channel."""
        wanted = await self._read(request, RollRequest)
        model, channel = model_name(wanted.model), channel_name(wanted.channel)
        await self.publisher.roll(model, channel, revision_id(wanted.revision))
        return json_answer(describe(self.publisher.repository))

    async def purge(self, request: web.Request) -> web.Response:
        """Invalidate a surrogate key."""
        wanted = await self._read(request, PurgeRequest)
        await self.publisher.purge(wanted.key, hard=wanted.hard)
        return json_answer({"purged": wanted.key, "hard": wanted.hard})

    async def _read(self, request: web.Request, kind: type[T]) -> T:
        require_token(request, self.token)
        return await read_json(request, kind, self.max_body_bytes)
