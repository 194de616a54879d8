"""The console's page over HTTP: its files, open to everybody, for they say nothing."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from origin.console.assets import ALWAYS, INDEX, Asset
from wire.errors import NotFoundError
from wire.http_range import etag_matches
from wire.paths import CONSOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRoutes:
    """``/console`` and ``/console/NAME``."""

    assets: dict[str, Asset]

    def add_to(self, app: web.Application) -> None:
        """Register the routes; those below ``/console/api`` come before."""
        app.router.add_get(CONSOLE, self.page)
        app.router.add_get(f"{CONSOLE}/", self.page)
        app.router.add_get(f"{CONSOLE}/{{name}}", self.file)
        app.on_response_prepare.append(_always)

    async def page(self, request: web.Request) -> web.Response:
        """The page itself."""
        return self._sent(request, INDEX)

    async def file(self, request: web.Request) -> web.Response:
        """One of its files."""
        return self._sent(request, request.match_info["name"])

    def _sent(self, request: web.Request, name: str) -> web.Response:
        asset = self.assets.get(name)
        if asset is None:
            raise NotFoundError(f"the console has no file {name[:128]!r}")
        zipped = bool(asset.zipped) and "gzip" in request.headers.get("Accept-Encoding", "")
        etag = f'"{asset.etag}-gzip"' if zipped else f'"{asset.etag}"'
        headers = {**asset.headers, "ETag": etag}
        if etag_matches(request.headers.get("If-None-Match"), etag):
            return web.Response(status=304, headers=headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=asset.zipped if zipped else asset.body, headers=headers)


async def _always(request: web.Request, response: web.StreamResponse) -> None:
    if request.path == CONSOLE or request.path.startswith(f"{CONSOLE}/"):
        for name, value in ALWAYS.items():
            response.headers.setdefault(name, value)
