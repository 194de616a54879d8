"""The paths of the Hugging Face Hub, for its stock clients and for llama.cpp.

``HF_ENDPOINT=http://edge:7401 hf download headwater/chat-small`` asks for the model, the listing of
the commit, and each file. A request under a name that moves is sent on to the commit's own address
(307, path only), so a long download stays on its revision through a roll. The shapes are in
``wire.hub``; nothing is ever compressed.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

import msgspec
from aiohttp import web

from wire import hub
from wire.catalog import Catalog, FacadeConfig, Found, ModelUnknownError, model_in
from wire.errors import HeadwaterError, RequestInvalidError, UnauthorizedError
from wire.http_access import PRIVATE_HEADERS, Access, caching_of, tag_headers
from wire.http_files import FileSender
from wire.http_range import etag_matches
from wire.manifest import FileEntry, Manifest
from wire.paths import channel_key, file_path, revision_key
from wire.pull_tokens import Reader
from wire.revision_reader import RevisionReader

MOVING = "public, max-age=5, stale-while-revalidate=30, stale-if-error=86400"
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](?::[0-9]{1,5})?")
_COUNT = re.compile(r"[0-9]{1,7}")
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="headwater"'}


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRoutes:
    """The Hub's paths over one server of chunks."""

    access: Access
    revisions: RevisionReader
    sender: FileSender
    config: FacadeConfig

    def add_to(self, app: web.Application) -> None:
        """Register the routes. Those of a file begin with a name, so they come last."""
        app.router.add_get("/api/whoami-v2", self.whoami)
        app.router.add_get("/api/models/{rest:.+}", self.api)
        app.router.add_get("/{repository:[^/]+(?:/[^/]+)?}/resolve/{name}/{path:.+}", self.resolve)

    async def whoami(self, request: web.Request) -> web.Response:
        """The holder of a token."""
        reader = self.access.reader(request)
        if not reader.known:
            error = UnauthorizedError("no valid pull token")
            return _refusal(error, reader, {})
        return _json(hub.who(reader.name), PRIVATE_HEADERS)

    async def api(self, request: web.Request) -> web.StreamResponse:
        """A model, its branches, or the listing of a revision."""
        reader = self.access.reader(request)
        try:
            call = hub.read_call(request.match_info["rest"], self.config.namespaces)
            model = self._model(call.repository, reader)
            if call.action == "refs":
                return self._refs(model, reader)
            found = self.access.catalog().find(model, call.revision, reader)
            manifest = await self.revisions.manifest(found.revision)
            if call.action == "tree":
                return self._tree(request, call, found, manifest)
            return self._info(request, call, found, manifest)
        except HeadwaterError as error:
            return _refusal(error, reader, {})

    async def resolve(self, request: web.Request) -> web.StreamResponse:
        """A file, or the address that it has for ever."""
        reader = self.access.reader(request)
        told: dict[str, str] = {}
        try:
            repository = request.match_info["repository"]
            model = self._model(repository, reader)
            found = self.access.catalog().find(model, request.match_info["name"], reader)
            told["X-Repo-Commit"] = found.commit
            entry = await self._entry(found, request.match_info["path"])
        except HeadwaterError as error:
            return _refusal(error, reader, told)
        headers = told | _file_headers(entry)
        if found.channel:
            location = f"/{quote(repository)}/resolve/{found.commit}/{quote(entry.path)}"
            headers |= {"Location": location, **self._moving(found)}
            del headers["ETag"]
            return web.Response(status=307, headers=headers)
        key = revision_key(found.revision)
        headers |= tag_headers(key)
        headers |= caching_of(private=self._catalog.is_private(found.revision))
        if etag_matches(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return await self.sender.send_file(request, entry, headers)

    @property
    def _catalog(self) -> Catalog:
        return self.access.catalog()

    def _model(self, repository: str, reader: Reader) -> str:
        """The model. One of an unknown namespace is answered like one that is not there."""
        try:
            model = model_in(repository, self.config.namespaces)
        except ModelUnknownError:
            if reader.known:
                raise
            raise UnauthorizedError("no model of that name, or it needs a pull token") from None
        self._catalog.readable(model, reader)
        return model

    async def _entry(self, found: Found, path: str) -> FileEntry:
        manifest = await self.revisions.manifest(found.revision)
        return manifest.file(file_path(path))

    def _refs(self, model: str, reader: Reader) -> web.Response:
        channels = self._catalog.channels(model, reader)
        private = any(self._catalog.is_private(revision) for revision in channels.values())
        public = {"Cache-Control": MOVING, "Vary": "Authorization"}  # others may see more branches
        headers = PRIVATE_HEADERS if private else public
        return _json(hub.references(channels), headers)

    def _info(
        self, request: web.Request, call: hub.ApiCall, found: Found, manifest: Manifest
    ) -> web.Response:
        private = self._catalog.is_private(found.revision)
        blobs = _flag(request, "blobs")
        info = hub.model_info(
            call.repository, found.revision, manifest, private=private, blobs=blobs
        )
        return _json(info, self._caching(found))

    def _tree(
        self, request: web.Request, call: hub.ApiCall, found: Found, manifest: Manifest
    ) -> web.Response:
        recursive = _flag(request, "recursive")
        entries = hub.tree(manifest, call.path, recursive=recursive)
        most = self.config.tree_page_entries
        limit = min(_number(request, "limit") or most, most)
        shown, next_start = hub.page(entries, _number(request, "cursor"), limit)
        headers = dict(self._caching(found))
        if next_start is not None:
            # To the commit, so that all pages are of one revision.
            path = f"/api/models/{call.repository}/tree/{found.commit}"
            path += f"/{quote(call.path)}" if call.path else ""
            query = {"cursor": next_start, "limit": limit, "recursive": str(recursive).lower()}
            base = base_url(request, self.config.public_url)
            headers["Link"] = f'<{base}{path}?{urlencode(query)}>; rel="next"'
        return _json(shown, headers)

    def _caching(self, found: Found) -> Mapping[str, str]:
        return self._moving(found) if found.channel else self._fixed(found)

    def _fixed(self, found: Found) -> Mapping[str, str]:
        return caching_of(private=self._catalog.is_private(found.revision))

    def _moving(self, found: Found) -> Mapping[str, str]:
        if self._catalog.is_private(found.revision):
            return PRIVATE_HEADERS
        key = channel_key(found.model, found.channel)
        return {"Cache-Control": MOVING, **tag_headers(key)}


def base_url(request: web.Request, public_url: str) -> str:
    """Where the client reaches us, without a path.

    Args:
        public_url: as configured; empty: as the request says.

    Raises:
        RequestInvalidError: the request's ``Host`` can name none.
    """
    if public_url:
        return public_url.rstrip("/")
    if not _HOST.fullmatch(request.host):
        raise RequestInvalidError("the Host header names no host")
    return f"{request.scheme}://{request.host}"


def _file_headers(entry: FileEntry) -> dict[str, str]:
    etag = f'"{entry.sha256}"'
    digest = base64.b64encode(bytes.fromhex(entry.sha256)).decode()
    name = entry.path.rpartition("/")[2]
    return {
        "ETag": etag,
        "X-Linked-Etag": etag,
        "X-Linked-Size": str(entry.size),
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'inline; filename="{name}"',
    }


def _json(value: object, headers: Mapping[str, str]) -> web.Response:
    body = msgspec.json.encode(value)
    return web.Response(body=body, content_type="application/json", headers=headers)


def _refusal(error: HeadwaterError, reader: Reader, told: Mapping[str, str]) -> web.Response:
    """An error as the Hub's clients read it: by a header, and by ``error`` in the body."""
    headers = {"Cache-Control": "no-store", **told, **error.headers}
    headers |= hub.error_headers(error, refused=reader.refused)
    if error.status == 401:
        headers |= _CHALLENGE
    answer = _json({"error": error.message, "code": error.code}, headers)
    answer.set_status(error.status)
    return answer


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in {"1", "true"}


def _number(request: web.Request, name: str) -> int:
    text = request.query.get(name, "0")
    if not _COUNT.fullmatch(text):
        raise RequestInvalidError(f"{name} must be a number")
    return int(text)
