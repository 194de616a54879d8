"""The server half of the wire: the artifact paths, served from any ``ChunkServer``.

Origin, edge and worker answer the same paths with the same headers, so a peer is just another
source and any CDN may stand between (RFC 9110, 9111, 8246, 9211, 9213, 9530).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Protocol

from aiohttp import web

from wire.chunk import chunk_id
from wire.errors import NameInvalidError, NotFoundError
from wire.http_access import IMMUTABLE, PUBLIC_HEADERS, ReadGuard, tag_headers
from wire.http_files import Counter, FileSender, add_cache_status
from wire.http_range import etag_matches
from wire.paths import (
    CHANNELS,
    CHUNKS,
    FILES,
    MANIFESTS,
    TRUST,
    TRUST_BUNDLE,
    TRUST_KEY,
    channel_key,
    channel_name,
    file_path,
    model_name,
    revision_id,
    revision_key,
)
from wire.revision_reader import HELD_MANIFEST_BYTES, RevisionReader
from wire.source import ChunkServer, PointerState
from wire.trust_bundle import TrustLimits, decode_bundle, role_document

SHORT = "public, max-age=5, stale-while-revalidate=30, stale-if-error=86400"
"""Said of pointers. ``public``, because edges ask with a token, and without it no shared cache may
keep what was asked for with one (RFC 9111 section 3.5); a pointer says no more than the trust
bundle does."""
ARTIFACTS = "/artifacts"
_PLAIN_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=-]*")
_DOCUMENT = re.compile(r"[0-9]{0,9}\.?[a-z]{1,32}\.json")


class PointerCache(Protocol):
    """A server that caches pointers and knows how old they are."""

    def pointer_state(self, key: str) -> PointerState | None:
        """The state of the pointer last given under this surrogate key."""
        ...


class ArtifactRoutes:
    """The artifact paths over one server of chunks.

    Args:
        server: what gives the bytes.
        executor: threads for file I/O.
        cache_name: the name in ``Cache-Status``; None where the server is no cache.
        pointers: tells the age of cached pointers; None where nothing is cached.
        counter: told of every chunk and file served.
        documents: gives a trust document by its file name, for stock clients of The Update
            Framework; None: out of the current bundle.
        guard: who may read which revision; None: everybody every one. Chunks have no guard: only
            a manifest tells their ids (docs/adr/0009).
        revisions: keeps manifests decoded; shared with the facades.
    """

    def __init__(
        self,
        *,
        server: ChunkServer,
        executor: Executor,
        cache_name: str | None = None,
        pointers: PointerCache | None = None,
        counter: Counter | None = None,
        documents: Callable[[str], bytes] | None = None,
        guard: ReadGuard | None = None,
        revisions: RevisionReader | None = None,
    ) -> None:
        self._server = server
        self._cache_name = cache_name
        self._pointers = pointers
        self._documents = documents
        self._guard = guard
        self._revisions = revisions or RevisionReader(server, executor, HELD_MANIFEST_BYTES)
        self._sender = FileSender(server, executor, cache_name, counter)

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        router = app.router
        router.add_get(CHUNKS + "/{id}", self.chunk)
        router.add_get(MANIFESTS + "/{revision}", self.manifest)
        router.add_get(FILES + "/{revision}/{path:.+}", self.file)
        router.add_get(CHANNELS + "/{model}/{channel}", self.channel)
        router.add_get(TRUST_BUNDLE, self.bundle)
        router.add_get(TRUST + "/{document}", self.role)
        router.add_get(ARTIFACTS + "/{rest:.*}", self.unknown)

    async def chunk(self, request: web.Request) -> web.StreamResponse:
        """One chunk, immutable, with ranges."""
        chunk = chunk_id(request.match_info["id"])
        etag = f'"{chunk}"'
        headers = {
            "ETag": etag,
            "Cache-Control": IMMUTABLE,
            **tag_headers(f"chunk:{chunk}"),
            "Accept-Ranges": "bytes",
        }
        revalidate = _wants_revalidation(request)
        self._server.refuse_gone(f"chunk:{chunk}")
        if not revalidate and etag_matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        return await self._sender.send_chunk(request, chunk, headers, revalidate=revalidate)

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """A revision's manifest, immutable."""
        revision = revision_id(request.match_info["revision"])
        caching = self._caching(request, revision)
        headers = {**_revision_headers(revision, f'"{revision}"'), **caching}
        self._server.refuse_gone(revision_key(revision))
        if etag_matches(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        data = await self._server.manifest(revision)
        return web.Response(body=data, content_type="application/json", headers=headers)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """A file of a revision, put together from its chunks, with ranges."""
        revision = revision_id(request.match_info["revision"])
        path = file_path(request.match_info["path"])
        caching = self._caching(request, revision)
        manifest = await self._revisions.manifest(revision)
        entry = manifest.file(path)
        etag = f'"{entry.sha256}"'
        headers = {**_revision_headers(revision, etag), **caching}
        digest = base64.b64encode(bytes.fromhex(entry.sha256)).decode()
        headers |= {"Accept-Ranges": "bytes", "Repr-Digest": f"sha-256=:{digest}:"}
        if etag_matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        return await self._sender.send_file(request, entry, headers)

    async def channel(self, request: web.Request) -> web.StreamResponse:
        """A channel's pointer, short-lived and tagged."""
        model = model_name(request.match_info["model"])
        channel = channel_name(request.match_info["channel"])
        data = await self._server.channel(model, channel)
        key = channel_key(model, channel)
        return self._pointer(request, data, key, SHORT, "application/json")

    async def bundle(self, request: web.Request) -> web.StreamResponse:
        """All trust metadata in one answer; ``?root=N`` is the root version the client has."""
        text = request.query.get("root", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise NameInvalidError("root must be a version number")
        data = await self._server.trust_bundle(int(text))
        return self._pointer(request, data, TRUST_KEY, SHORT, "application/json")

    async def role(self, request: web.Request) -> web.StreamResponse:
        """One TUF role file, named as the specification names it, for stock TUF clients."""
        name = request.match_info["document"]
        if not _DOCUMENT.fullmatch(name):
            raise NameInvalidError("a trust document is timestamp.json or VERSION.ROLE.json")
        if self._documents is not None:
            data = self._documents(name)
        else:
            bundle = decode_bundle(await self._server.trust_bundle(0), TrustLimits())
            data = role_document(bundle, name)
        return self._pointer(request, data, TRUST_KEY, SHORT, "application/json")

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """No path of ours: 400 where it tries to climb, wherever it would lead; else 404."""
        segments = request.match_info["rest"].split("/")
        if not all(_PLAIN_SEGMENT.fullmatch(segment) for segment in segments):
            raise NameInvalidError("a path of artifacts has plain segments and does not climb")
        raise NotFoundError("no such artifact path")

    def _caching(self, request: web.Request, revision: str) -> Mapping[str, str]:
        """What caches may do with the answer. Before anything else is said of the revision."""
        return PUBLIC_HEADERS if self._guard is None else self._guard.caching(request, revision)

    def _pointer(
        self, request: web.Request, data: bytes, key: str, caching: str, content_type: str
    ) -> web.Response:
        etag = f'"{hashlib.sha256(data).hexdigest()}"'
        headers = {
            "ETag": etag,
            "Cache-Control": caching,
            "CDN-Cache-Control": caching,
            **tag_headers(key),
        }
        state = self._pointers.pointer_state(key) if self._pointers is not None else None
        if state is not None:
            headers["Age"] = str(int(state.age_s))
            add_cache_status(headers, self._cache_name, state.cache_status)
        if etag_matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=data, content_type=content_type, headers=headers)


def _wants_revalidation(request: web.Request) -> bool:
    return "no-cache" in request.headers.get("Cache-Control", "").lower()


def _revision_headers(revision: str, etag: str) -> dict[str, str]:
    return {"ETag": etag, **tag_headers(revision_key(revision))}
