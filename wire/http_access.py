"""Who may read what over HTTP, and what caches on the way may keep.

A credential is a pull token, one of this tier's own service tokens, or a token of the registry's
token endpoint; it comes as Bearer, or as the password of Basic for clients that know nothing else
(RFC 6750, RFC 7617). One that opens nothing counts as none: users of the Hugging Face Hub send its
tokens to every endpoint, and public models need no token.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog
from aiohttp import web

from wire.catalog import CatalogSource
from wire.errors import ConfigError, NotFoundError
from wire.paths import ALL_TAG, edge_tag
from wire.pull_tokens import ANYBODY, MAX_TOKEN_CHARS, REFUSED, PullTokens, Reader
from wire.signed_urls import Signer

IMMUTABLE = "public, max-age=31536000, immutable"
PUBLIC_HEADERS: Mapping[str, str] = {"Cache-Control": IMMUTABLE}
PRIVATE_HEADERS: Mapping[str, str] = {
    # Whoever shares a cache with a reader is no reader. A signed address has no Authorization that
    # would keep a shared cache away by itself (RFC 9111 section 3.5), so it is always said; the
    # targeted field is for those that heed nothing else (RFC 9213).
    "Cache-Control": "private, no-store",
    "CDN-Cache-Control": "no-store",
    "Vary": "Authorization",
}
SERVICE = Reader("service", ("*",))
LOOK_EVERY_S = 1.0
_MAX_HEADER_CHARS = 4_096

_log = structlog.get_logger("access")


class ReadGuard(Protocol):
    """Lets a request read a revision, or does not."""

    def caching(self, request: web.Request, revision: str) -> Mapping[str, str]:
        """The headers that say what caches may do with the answer.

        Raises:
            NotFoundError: there is no such revision for whoever asks.
            CatalogMissingError: nothing is verified yet.
        """
        ...


class Access:
    """Readers and what they may have.

    Args:
        catalog: what is signed, and what of it is private.
        service_tokens: open everything: other tiers, and the operator.
        signer: whose registry tokens count.
    """

    def __init__(
        self,
        catalog: CatalogSource,
        tokens: PullTokens,
        signer: Signer,
        service_tokens: Sequence[str] = (),
    ) -> None:
        self.catalog = catalog
        self.signer = signer
        self.tokens = tokens
        self._service_tokens = tuple(token.encode() for token in service_tokens)

    def reader(self, request: web.Request) -> Reader:
        """Who asks. A credential that opens nothing is told by ``refused``."""
        header = request.headers.get("Authorization")
        if not header:
            return ANYBODY
        given = credential(header)
        if not given or len(given) > MAX_TOKEN_CHARS:
            return REFUSED
        secret = given.encode("utf-8", "surrogateescape")
        # All of them are compared, so that time does not tell which one was like it.
        equal = [hmac.compare_digest(secret, token) for token in self._service_tokens]
        if any(equal):
            return SERVICE
        return self._holder(given) or REFUSED

    def caching(self, request: web.Request, revision: str) -> Mapping[str, str]:
        """As :class:`ReadGuard`. The operator and other tiers may also read what is not signed."""
        reader = self.reader(request)
        catalog = self.catalog()
        model = catalog.model_of.get(revision)
        if model is None:
            if reader is SERVICE:
                return PRIVATE_HEADERS
        elif catalog.may_read(model, revision, reader):
            return caching_of(private=catalog.is_private(revision))
        raise NotFoundError(f"no revision {revision}, or it needs a valid pull token")

    async def watch(self) -> None:
        """For ever: take in changes of the token file, in a thread."""
        problem = ""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await asyncio.to_thread(self.tokens.refresh)
                problem = ""
            except ConfigError as error:
                if error.message != problem:
                    _log.error("pull tokens not taken in", error=error.message)
                problem = error.message

    def _holder(self, token: str) -> Reader | None:
        holder = self.signer.holder(token)
        if holder is None:
            return self.tokens.reader(token)
        if holder == SERVICE.name:
            return SERVICE
        return self.tokens.holder(holder) if holder else ANYBODY


def caching_of(*, private: bool) -> Mapping[str, str]:
    """What caches may do with an answer that never changes."""
    return PRIVATE_HEADERS if private else PUBLIC_HEADERS


def tag_headers(key: str) -> dict[str, str]:
    """A surrogate key in the header of each kind of cache: Varnish's and Fastly's, Cloudflare's,
    and Akamai's, whose form is another (``edge_tag``)."""
    return {"Surrogate-Key": key, "Cache-Tag": key, "Edge-Cache-Tag": f"{edge_tag(key)},{ALL_TAG}"}


def credential(authorization: str) -> str:
    """The secret in an ``Authorization`` header; empty where there is none that we could know.

    Of Basic it is the password, or the name where the password is empty.
    """
    if len(authorization) > _MAX_HEADER_CHARS:
        return ""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return rest.strip(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        pair = base64.b64decode(rest.strip(" "), validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
    name, _, password = pair.partition(":")
    return password or name
