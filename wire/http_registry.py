"""The paths of an OCI registry, for ``ollama pull`` and for OCI clients.

Ollama fetches a blob's address with its credential and the parts without, from wherever
``Location`` says; so a private model's blob is answered with an address that opens it for some
hours (``wire.signed_urls``), a public one's with its own. A repository is a model, a tag a channel,
optionally with a variant. OCI distribution specification 1.1; the shapes are in ``wire.registry``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import urlencode

from aiohttp import web

from wire.catalog import Catalog, FacadeConfig, RevisionUnknownError, model_in
from wire.chunk import is_digest
from wire.errors import (
    GoneError,
    NotFoundError,
    RequestInvalidError,
    UnauthorizedError,
)
from wire.http_access import PRIVATE_HEADERS, Access, caching_of, tag_headers
from wire.http_files import FileSender, ranged
from wire.http_hub import MOVING, base_url
from wire.http_range import etag_matches
from wire.http_server import json_answer
from wire.images import Images
from wire.paths import channel_key, revision_key
from wire.pull_tokens import Reader
from wire.registry import (
    BlobUnknownError,
    DigestInvalidError,
    Image,
    ManifestUnknownError,
    pick_variant,
    split_tag,
    tags_of,
    wants_oci,
)
from wire.revision_reader import RevisionReader
from wire.static_file import STATIC

VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
REGISTRY = "/v2"
_MAX_TAG_CHARS = 160
_SIGNED = "signed"
"""The reader behind a signed address."""


class RegistryRoutes:
    """The registry's paths over one server of chunks."""

    def __init__(
        self, access: Access, revisions: RevisionReader, sender: FileSender, config: FacadeConfig
    ) -> None:
        self._access = access
        self._revisions = revisions
        self._sender = sender
        self._config = config
        self._images = Images(revisions, config)

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_get(f"{REGISTRY}/", self.ping)
        app.router.add_get(f"{REGISTRY}/token", self.token)
        app.router.add_get(f"{REGISTRY}/{{name:.+}}/manifests/{{reference}}", self.manifest)
        app.router.add_get(f"{REGISTRY}/{{name:.+}}/blobs/{{digest}}", self.blob)
        app.router.add_get(f"{REGISTRY}/{{name:.+}}/tags/list", self.tags)

    async def ping(self, request: web.Request) -> web.Response:
        """That this is a registry; a credential that opens nothing is told so here."""
        if self._access.reader(request).refused:
            self._challenge(request, "the credential opens nothing here", "")
        answer = json_answer({})
        answer.headers.update(VERSION)
        return answer

    async def token(self, request: web.Request) -> web.Response:
        """A short-lived token for whoever shows a pull token; without one, it opens what is public.

        Ollama shows a signature of its own here, which counts as nothing.
        """
        reader = self._access.reader(request)
        basic = request.headers.get("Authorization", "")[:6].lower() == "basic "
        if reader.refused and basic:
            raise UnauthorizedError("no valid pull token")
        lifetime_s = self._config.registry_token_s
        made = self._access.signer.token(reader.name, lifetime_s)
        return json_answer({"token": made, "access_token": made, "expires_in": int(lifetime_s)})

    async def manifest(self, request: web.Request) -> web.StreamResponse:
        """A manifest, by tag or by digest."""
        model, reader = self._model(request)
        reference = request.match_info["reference"]
        if ":" in reference:
            image, revision, headers = await self._image_by_digest(model, reference, reader)
        else:
            image, revision, headers = await self._image_by_tag(request, model, reference, reader)
        if self._catalog.is_private(revision):
            headers = dict(PRIVATE_HEADERS)
        headers |= {"ETag": f'"{image.digest}"', "Docker-Content-Digest": image.digest, **VERSION}
        if etag_matches(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        return web.Response(body=image.manifest, content_type=image.media_type, headers=headers)

    async def blob(self, request: web.Request) -> web.StreamResponse:
        """A blob: a file of the model, or a small one that a manifest names."""
        digest = _checked_digest(request.match_info["digest"])
        model, reader = self._model(request, digest)
        revision = await self._revision_with(model, digest, reader)
        if revision is None:
            raise BlobUnknownError(f"{model} has no blob {digest}")
        private = self._catalog.is_private(revision)
        headers = {
            "ETag": f'"{digest}"',
            "Docker-Content-Digest": digest,
            "Accept-Ranges": "bytes",
            **tag_headers(revision_key(revision)),
            **VERSION,
            **caching_of(private=private),
        }
        headers["Location"] = self._location(request, model, digest, private=private)
        if private and reader.name != _SIGNED and request.method != "HEAD":
            return web.Response(status=307, headers=headers)
        if etag_matches(request.headers.get("If-None-Match"), headers["ETag"]):
            return web.Response(status=304, headers=headers)
        found = await self._images.blob(revision, digest)
        if isinstance(found, bytes):
            return await _send_bytes(request, found, headers)
        return await self._sender.send_file(request, found, headers)

    async def tags(self, request: web.Request) -> web.Response:
        """The tags of a model; ``n`` and ``last`` page through them."""
        model, reader = self._model(request)
        channels = {}
        for channel, revision in self._catalog.channels(model, reader).items():
            channels[channel] = (await self._revisions.manifest(revision)).variants
        last, limit = request.query.get("last", ""), request.query.get("n", "10000")
        if not (limit.isascii() and limit.isdigit() and len(limit) < 8):
            raise RequestInvalidError("n must be a number")
        found = [tag for tag in tags_of(channels) if tag > last]
        shown = found[: int(limit)]
        answer = json_answer({"name": request.match_info["name"], "tags": shown})
        answer.headers.update(VERSION)
        if shown and len(shown) < len(found):
            query = urlencode({"n": limit, "last": shown[-1]})
            answer.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
        return answer

    @property
    def _catalog(self) -> Catalog:
        return self._access.catalog()

    def _model(self, request: web.Request, digest: str = "") -> tuple[str, Reader]:
        """The model that a path names, and who asks; whoever may not have it is challenged.

        Args:
            digest: of a blob, which a signed address opens.
        """
        name = request.match_info["name"]
        reader = self._access.reader(request)
        try:
            model = model_in(name, self._config.namespaces)
            if digest and self._access.signer.opens(_subject(model, digest), request.query):
                reader = Reader(_SIGNED, (model,))
            self._catalog.readable(model, reader)
        except UnauthorizedError as error:
            self._challenge(request, error.message, name)
        except NotFoundError as error:
            if reader.known:
                raise
            self._challenge(request, error.message, name)
        return model, reader

    def _challenge(self, request: web.Request, message: str, name: str) -> NoReturn:
        """Send the client to the token endpoint, on the host where it found us."""
        base = base_url(request, self._config.public_url)
        challenge = f'Bearer realm="{base}{REGISTRY}/token",service="{base.partition("//")[2]}"'
        if name and name.isascii() and name.isprintable() and '"' not in name:
            challenge += f',scope="repository:{name[:255]}:pull"'
        raise UnauthorizedError(message, headers={"WWW-Authenticate": challenge, **VERSION})

    def _location(self, request: web.Request, model: str, digest: str, *, private: bool) -> str:
        if not private:
            return request.path
        lifetime_s = self._config.signed_url_s
        query = self._access.signer.query(_subject(model, digest), lifetime_s)
        return f"{request.path}?{urlencode(query)}"

    async def _image_by_tag(
        self, request: web.Request, model: str, tag: str, reader: Reader
    ) -> tuple[Image, str, dict[str, str]]:
        if len(tag) > _MAX_TAG_CHARS:
            raise ManifestUnknownError(f"{model} has no tag of {len(tag)} characters")
        for name, wanted in split_tag(tag):
            try:
                found = self._catalog.find(model, name, reader)
            except RevisionUnknownError:
                continue
            manifest = await self._revisions.manifest(found.revision)
            variant = pick_variant(manifest, wanted)
            if variant is not None:
                images = await self._images.of_variant(found.revision, variant)
                headers = {**caching_of(private=False), "Vary": "Accept"}
                if found.channel:
                    key = channel_key(model, found.channel)
                    headers |= {"Cache-Control": MOVING, **tag_headers(key)}
                oci = wants_oci(request.headers.getall("Accept", []))
                if manifest.kind == STATIC and not oci:
                    raise ManifestUnknownError(f"{model} is a static site, and no model to load")
                return images[0 if oci else -1], found.revision, headers
        raise ManifestUnknownError(f"{model} has no tag {tag!r}")

    async def _image_by_digest(
        self, model: str, reference: str, reader: Reader
    ) -> tuple[Image, str, dict[str, str]]:
        digest = _checked_digest(reference)
        revision = await self._revision_with(model, digest, reader)
        if revision is not None:
            for image in await self._images.of(revision):
                if image.digest == digest:
                    return image, revision, dict(caching_of(private=False))
        raise ManifestUnknownError(f"{model} has no manifest {digest}")

    async def _revision_with(self, model: str, digest: str, reader: Reader) -> str | None:
        """The revision that has a blob or manifest; only among those that the reader may have."""
        readable = self._catalog.readable(model, reader)[: self._config.revisions_searched]
        # First those whose digests are known without asking anybody.
        for revision in sorted(readable, key=self._images.knows, reverse=True):
            try:
                if digest in await self._images.digests(revision):
                    return revision
            except (NotFoundError, GoneError):
                continue
        return None


def _subject(model: str, digest: str) -> str:
    """What a signed address opens."""
    return f"{model}@{digest}"


def _checked_digest(text: str) -> str:
    algorithm, _, digits = text.partition(":")
    if algorithm != "sha256" or not is_digest(digits):
        raise DigestInvalidError("a digest is sha256: and 64 lower-case hexadecimal digits")
    return text


async def _send_bytes(
    request: web.Request, data: bytes, headers: Mapping[str, str]
) -> web.StreamResponse:
    """A small blob, or the range of it that was asked for."""
    response, start, end = ranged(request, headers, len(data))
    await response.prepare(request)
    if request.method != "HEAD":
        await response.write(memoryview(data)[start:end])
    await response.write_eof()
    return response
