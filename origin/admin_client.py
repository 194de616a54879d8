"""The administrative API of an origin, from the publisher's side. Blocking."""

from __future__ import annotations

from typing import Any

import msgspec

from origin.errors import PublishError
from wire.chunk import Chunk, ChunkId
from wire.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    HeadwaterError,
    SourceUnavailableError,
    UnauthorizedError,
)
from wire.http_client import BlockingClient
from wire.http_connection import Response
from wire.http_source import MAX_BUNDLE_BYTES
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, decode
from wire.paths import ADMIN, TRUST_BUNDLE, manifest_path
from wire.trust_bundle import REVISIONS, TrustLimits, decode_bundle

_REFUSALS: dict[int, type[HeadwaterError]] = {
    kind.status: kind for kind in (UnauthorizedError, ForbiddenError, ConflictError, GoneError)
}


class OriginAdmin:
    """The administrative API of an origin, from outside.

    Args:
        url: ``http[s]://host[:port]``.
        token: the admin token.
    """

    def __init__(self, url: str, token: str) -> None:
        self._client = BlockingClient(url, token=token)

    def status(self) -> dict[str, Any]:
        """Channels, revisions, trust."""
        return self._get("status")

    def missing(self, ids: list[ChunkId]) -> set[ChunkId]:
        """Which chunks the origin lacks."""
        query = {"ids": ids}
        try:
            answer = self._post("chunks/missing", query)
        except SourceUnavailableError:
            # While a large file was hashed the origin may have closed the idle connection. Asking
            # changes nothing, so it may be repeated.
            answer = self._post("chunks/missing", query)
        return set(answer["missing"])

    def put_chunk(self, chunk: Chunk) -> None:
        """Upload one chunk."""
        self._json(self._client.send("PUT", f"{ADMIN}/chunks/{chunk.id}", chunk.data))

    def put_manifest(self, revision: str, data: bytes) -> None:
        """Upload a manifest."""
        self._json(self._client.send("PUT", f"{ADMIN}/manifests/{revision}", data))

    def manifest(self, revision: str) -> Manifest:
        """A published manifest."""
        answer = self._client.get(manifest_path(revision), limit_bytes=MAX_MANIFEST_BYTES)
        if answer.status >= 400:
            self._json(answer)
        return decode(bytes(answer.body), revision)

    def signed_revisions(self) -> bytes:
        """The current list of revisions, as the publisher signed it."""
        answer = self._client.get(f"{TRUST_BUNDLE}?root=0", limit_bytes=MAX_BUNDLE_BYTES)
        self._json(answer)
        return decode_bundle(bytes(answer.body), TrustLimits()).roles[REVISIONS]

    def publish(self, signed_revisions: bytes) -> None:
        """Hand over a newly signed list of revisions."""
        self._post("publish", {"revisions": signed_revisions.decode()})

    def roll(self, model: str, channel: str, revision: str) -> dict[str, Any]:
        """Point a channel at a revision."""
        return self._post("roll", {"model": model, "channel": channel, "revision": revision})

    # Rollouts

    def rollouts(self) -> dict[str, Any]:
        """``{"channels"}``: every channel's record."""
        return self._get("rollouts")

    def rollout(self, model: str, channel: str) -> dict[str, Any]:
        """``{"record", "pointer", "before", "now"}`` of a channel."""
        return self._get(f"rollouts/{model}/{channel}")

    def start_rollout(
        self, model: str, channel: str, revision: str, **options: Any
    ) -> dict[str, Any]:
        """Begin a rollout; the rollout. ``options`` as in ``origin.rollout_routes.StartRequest``.

        Raises:
            ConflictError: another one runs.
        """
        wanted = {"model": model, "channel": channel, "revision": revision, **options}
        return self._post("rollouts", wanted)

    def abort_rollout(
        self, model: str, channel: str, *, who: str = "", why: str = ""
    ) -> dict[str, Any]:
        """Give up the rollout that runs."""
        return self._post(f"rollouts/{model}/{channel}/abort", {"who": who, "why": why})

    def promote_rollout(self, model: str, channel: str, *, who: str = "") -> dict[str, Any]:
        """Have it go on to all workers now."""
        return self._post(f"rollouts/{model}/{channel}/promote", {"who": who})

    def roll_back(
        self, model: str, channel: str, *, revision: str = "", **options: Any
    ) -> dict[str, Any]:
        """Go back; to the revision before where none is named."""
        wanted = {"revision": revision, **options}
        return self._post(f"rollouts/{model}/{channel}/rollback", wanted)

    def purge(self, key: str, *, hard: bool) -> dict[str, Any]:
        """Invalidate a surrogate key everywhere."""
        return self._post("purge", {"key": key, "hard": hard})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _get(self, what: str) -> dict[str, Any]:
        return self._json(self._client.get(f"{ADMIN}/{what}", limit_bytes=MAX_BUNDLE_BYTES))

    def _post(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        content = msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        answer = self._client.send(
            "POST", f"{ADMIN}/{action}", content, limit_bytes=MAX_BUNDLE_BYTES, headers=headers
        )
        return self._json(answer)

    def _json(self, answer: Response) -> dict[str, Any]:
        value: object = {}
        try:
            value = msgspec.json.decode(answer.body) if answer.body else {}
        except msgspec.DecodeError:
            value = None
        if answer.status >= 400:
            detail = value.get("detail", "") if isinstance(value, dict) else ""
            kind = _REFUSALS.get(answer.status, PublishError)
            raise kind(f"origin refused ({answer.status}): {detail}")
        if not isinstance(value, dict):
            raise SourceUnavailableError(f"{self._client.netloc} does not answer like an origin")
        return value
