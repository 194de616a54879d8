"""What was taken down: which chunks go with a revision, and how everybody hears of it.

Events tell caches at once, but an event can be lost; so the whole list can be asked for at
``GET /artifacts/takedowns``, by anybody, since it names only what nobody may have.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from aiohttp import web

from origin.errors import StoreError
from origin.store import ObjectStore
from wire.chunk import ChunkId
from wire.errors import HeadwaterError, NameInvalidError
from wire.events import MAX_EVENT_BYTES
from wire.http_range import etag_matches
from wire.manifest import Manifest, decode
from wire.paths import TAKEDOWNS

_log = structlog.get_logger("takedowns")
EVENT_KEY_BYTES = MAX_EVENT_BYTES * 3 // 4
"""Keys in one event, in bytes of JSON; the rest is for what stands around them."""
MAX_EVENTS = 100
"""Events for one takedown; beyond, subscribers are told to ask for the whole list."""
MAX_LISTED = 100_000
"""Keys in one answer; those of chunks are left out first, because the rest refuses more."""
_CACHING = "public, max-age=5"


def chunk_key(chunk: ChunkId) -> str:
    """The surrogate key of a chunk."""
    return f"chunk:{chunk}"


def event_batches(keys: Iterable[str]) -> Iterator[list[str] | None]:
    """The keys in runs that fit an event; at last None where there are too many to tell."""
    batch: list[str] = []
    told = size = 0
    for key in keys:
        if batch and size + len(key) + 3 > EVENT_KEY_BYTES:
            if told == MAX_EVENTS - 1:
                yield None
                return
            yield batch
            batch, size, told = [], 0, told + 1
        batch.append(key)
        size += len(key) + 3
    if batch:
        yield batch


async def exclusive_chunks(
    store: ObjectStore, revision: str, others: Sequence[str]
) -> list[ChunkId]:
    """The chunks that only this revision uses. One manifest is held at a time.

    Args:
        others: revisions that must stay whole.

    Raises:
        StoreError: the manifest of another revision cannot be read, so nobody knows what it needs.
    """
    try:
        found = await _manifest(store, revision)
    except HeadwaterError as error:
        _log.warning("only the revision itself is taken down", reason=error.message)
        return []
    only = dict.fromkeys(found.chunk_refs())
    for other in others:
        try:
            manifest = await _manifest(store, other)
        except HeadwaterError as error:
            raise StoreError(
                f"the revision was taken down, its chunks were not: {error.message}; publish "
                f"revision {other} again and repeat"
            ) from error
        for chunk in manifest.chunk_refs():
            only.pop(chunk, None)
    return list(only)


async def _manifest(store: ObjectStore, revision: str) -> Manifest:
    return await asyncio.to_thread(decode, await store.manifest(revision), revision)


class Takedowns(msgspec.Struct, frozen=True):
    """The answer: keys in order, and how many there are in all."""

    keys: list[str]
    count: int


def listing(gone: Iterable[str], since: int | None) -> Takedowns:
    """What the list says to somebody who knows ``since`` keys: nothing where that is all."""
    every = sorted(gone)
    if since == len(every):
        return Takedowns([], len(every))
    if len(every) > MAX_LISTED:
        chosen = sorted(every, key=lambda key: (key.startswith("chunk:"), key))[:MAX_LISTED]
        return Takedowns(sorted(chosen), len(every))
    return Takedowns(every, len(every))


@dataclass(frozen=True, slots=True, kw_only=True)
class TakedownRoutes:
    """``GET /artifacts/takedowns``. Must stand before the routes that match all of its folder.

    Args:
        gone: all keys taken down, as they now are.
    """

    gone: Callable[[], Iterable[str]]

    def add_to(self, app: web.Application) -> None:
        """Register the route."""
        app.router.add_get(TAKEDOWNS, self.takedowns)

    async def takedowns(self, request: web.Request) -> web.Response:
        """The keys; ``?since=COUNT`` gives none to whoever has that many and that is all."""
        text = request.query.get("since")
        if text is not None and not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise NameInvalidError("since must be a count of keys")
        since = int(text) if text is not None else None
        found = await asyncio.to_thread(listing, frozenset(self.gone()), since)
        body = msgspec.json.encode(found)
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": _CACHING, "CDN-Cache-Control": _CACHING}
        if etag_matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type="application/json", headers=headers)
