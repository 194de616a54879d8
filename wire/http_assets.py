"""Static sites for browsers: ``/assets/SITE[@CHANNEL]/PATH``, from any server of chunks.

The signed pointer of the channel names a revision, its manifest the file, and every byte is
verified as those of a model are; so an edge can lie about a page as little as about weights. One
answer is of one revision. A file whose name changes with its content is also looked for in the
revisions before, so a page that was opened before a roll finds what it was built with.

Only revisions that the publisher signed as static are offered here: no file of a model is.
"""

from __future__ import annotations

import base64
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import quote

from aiohttp import web

from wire.assets import NOT_FOUND_PAGE, AssetsConfig, Resource, Site, site_of
from wire.catalog import Catalog, Found
from wire.content_coding import IDENTITY
from wire.errors import GoneError, NotFoundError, UnauthorizedError
from wire.http_access import IMMUTABLE, PRIVATE_HEADERS, Access
from wire.http_files import FileSender
from wire.http_range import etag_matches
from wire.manifest import FileEntry
from wire.paths import (
    ASSETS,
    channel_key,
    channel_name,
    edge_tags,
    file_path,
    model_name,
    revision_key,
)
from wire.pull_tokens import Reader
from wire.revision_reader import RevisionReader
from wire.small_files import SmallFiles

_CHALLENGE = {"WWW-Authenticate": 'Basic realm="headwater", charset="UTF-8"'}
"""A browser asks its user for a pull token (the password; any name), and sends it from then on."""
_LOOK_ALIKE = "no such static site or channel"


class AssetRoutes:
    """The addresses of static sites over one server of chunks."""

    def __init__(
        self,
        *,
        access: Access,
        revisions: RevisionReader,
        sender: FileSender,
        config: AssetsConfig,
    ) -> None:
        self._access = access
        self._revisions = revisions
        self._sender = sender
        self._config = config
        self._headers = config.headers()
        self._small = SmallFiles(
            sender.server,
            revisions,
            file_bytes=config.held_file_bytes,
            total_bytes=config.held_bytes,
        )
        self._sites: OrderedDict[str, Site | None] = OrderedDict()

    def add_to(self, app: web.Application) -> None:
        """Register the routes, where they are wanted."""
        if self._config.enabled:
            app.router.add_get(ASSETS + "/{site}", self.serve)
            app.router.add_get(ASSETS + "/{site}/{path:.*}", self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """A file, the page of a folder, the way to it, or the site's own 404."""
        reader = self._access.reader(request)
        catalog = self._access.catalog()
        name, path = request.match_info["site"], request.match_info.get("path")
        found = self._find(catalog, name, reader)
        if path is None:
            return self._to_folder(request, found, name)
        site = await self._site(found)
        resource = site.at(path)
        if resource is not None:
            return await self._send(request, found, resource, catalog)
        if site.is_folder(path):
            return self._to_folder(request, found, path.rpartition("/")[2])
        older = await self._older(found, path, catalog, reader)
        if older is not None:
            return await self._send(request, *older, catalog)
        return await self._missing(request, found, site, catalog)

    def _find(self, catalog: Catalog, name: str, reader: Reader) -> Found:
        """The revision of ``SITE``, ``SITE@CHANNEL`` or ``SITE@REVISION``."""
        model, _, channel = name.partition("@")
        channel = channel or self._config.channel
        try:
            revision = catalog.pointed.get(model, {}).get(channel, "")
            if catalog.may_read(model, revision, reader):
                found = Found(model, revision, channel)
            else:
                found = catalog.find(model_name(model), channel_name(channel), reader)
        except UnauthorizedError as error:
            raise UnauthorizedError(error.message, headers=_CHALLENGE) from None
        if (found.model, found.revision) not in catalog.view.static:
            raise NotFoundError(_LOOK_ALIKE)
        return found

    async def _site(self, found: Found) -> Site:
        """Raises ``GoneError`` where the revision was taken down meanwhile."""
        manifest = await self._revisions.manifest(found.revision)
        if found.revision not in self._sites:
            self._sites[found.revision] = site_of(manifest)
            if len(self._sites) > self._config.sites_held:
                self._sites.popitem(last=False)
        else:
            self._sites.move_to_end(found.revision)
        site = self._sites[found.revision]
        if site is None or manifest.model != found.model:
            raise NotFoundError(_LOOK_ALIKE)
        return site

    async def _older(
        self, found: Found, path: str, catalog: Catalog, reader: Reader
    ) -> tuple[Found, Resource] | None:
        """The same address in a revision that the channel pointed to before, where what stands
        there can be nothing else by now."""
        pointer = catalog.view.channels.get((found.model, found.channel))
        before = pointer.previous if pointer is not None else ()
        for revision in before[: self._config.keep_previous]:
            if (found.model, revision) not in catalog.view.static:
                continue
            if not catalog.may_read(found.model, revision, reader):
                continue
            earlier = Found(found.model, revision, found.channel)
            with suppress(NotFoundError, GoneError):
                resource = (await self._site(earlier)).at(path)
                if resource is not None and resource.static.immutable:
                    return earlier, resource
        return None

    async def _send(
        self, request: web.Request, found: Found, resource: Resource, catalog: Catalog
    ) -> web.StreamResponse:
        asked = request.headers
        fields = asked.getall("Accept-Encoding", None)
        entry, coding = resource.select(
            ",".join(fields) if fields is not None else None,
            ranged="Range" in asked,
            if_range=asked.get("If-Range"),
        )
        fixed = resource.static.immutable or not found.channel
        headers = self._about(found, catalog, immutable=fixed)
        headers |= _of_content(resource, entry, coding)
        if resource.coded:
            headers["Vary"] = ", ".join(filter(None, (headers.get("Vary"), "Accept-Encoding")))
        if etag_matches(asked.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        held = None if "Range" in asked else await self._small.get(entry)
        if held is not None:
            return self._sender.send_held(request, held, headers)
        return await self._sender.send_file(request, entry, headers)

    def _about(self, found: Found, catalog: Catalog, *, immutable: bool) -> dict[str, str]:
        """What is said of every answer: where it is from, and what caches may do with it. What
        never changes is not filed under the channel, so that a roll leaves it in caches."""
        key = revision_key(found.revision)
        keys = [key] if immutable else [channel_key(found.model, found.channel), key]
        headers = {
            **self._headers,
            "Cache-Control": IMMUTABLE if immutable else self._config.moving,
            "Surrogate-Key": " ".join(keys),
            "Cache-Tag": ",".join(keys),
            "Edge-Cache-Tag": edge_tags(*keys),
            "x-model-digest": found.revision,
        }
        private = PRIVATE_HEADERS if catalog.is_private(found.revision) else {}
        return {**headers, **private}

    def _to_folder(self, request: web.Request, found: Found, name: str) -> web.Response:
        """Relative, so that it stays right behind whatever stands before this server."""
        headers = self._about(found, self._access.catalog(), immutable=False)
        query = request.rel_url.raw_query_string
        headers["Location"] = f"./{quote(name, safe='@')}/" + (f"?{query}" if query else "")
        return web.Response(status=308, headers=headers)

    async def _missing(
        self, request: web.Request, found: Found, site: Site, catalog: Catalog
    ) -> web.Response:
        path = request.match_info["path"]
        file_path(path.rstrip("/") or path)  # one that could climb is refused, wherever it leads
        page = site.at(NOT_FOUND_PAGE)
        if page is None or page.entry.size > self._config.max_not_found_bytes:
            raise NotFoundError(f"the static site {found.model} has no such file")
        body = await self._revisions.read(page.entry, self._config.max_not_found_bytes)
        headers = self._about(found, catalog, immutable=False)
        headers |= {"Content-Type": page.static.type, "Cache-Control": "no-store"}
        return web.Response(status=404, body=body, headers=headers)


def _of_content(resource: Resource, entry: FileEntry, coding: str) -> Mapping[str, str]:
    """What is said of the chosen form. Its own bytes name it, so no two forms share an ETag."""
    digest = base64.b64encode(bytes.fromhex(entry.sha256)).decode()
    headers = {
        "Content-Type": resource.static.type,
        "ETag": f'"{entry.sha256}"',
        "Repr-Digest": f"sha-256=:{digest}:",
        "Accept-Ranges": "bytes",
    }
    if coding != IDENTITY:
        headers["Content-Encoding"] = coding
    return headers
