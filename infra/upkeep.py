"""The upkeep of an origin from outside: jobs that are followed, pruning, what two revisions share.

``infra.repair`` brings what is missing from elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from infra.edge_admin import TierAdmin
from infra.errors import RefusedError
from infra.publishing import find_revision
from origin.chunker import plan, scan
from origin.fileset import inspect
from origin.keys import load_key
from origin.offer import from_disk
from origin.offline import sign_revisions
from wire.chunk import Chunk, ChunkId
from wire.errors import NotFoundError, SourceUnavailableError
from wire.http_client import BlockingClient
from wire.http_source import MAX_BUNDLE_BYTES
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, build, decode
from wire.paths import (
    ADMIN,
    DEFAULT_CHANNEL,
    TRUST_BUNDLE,
    manifest_path,
    model_name,
)
from wire.trust_bundle import REVISIONS, TrustLimits, decode_bundle

Progress = Callable[[str, int, int], None]
_POLL_S = 0.1
_MAX_VALUE = 256
"""Characters of a metadata value that a comparison shows."""


class UpkeepAdmin(TierAdmin):
    """The part of an origin's administrative API that keeps its store."""

    def run(
        self,
        kind: str,
        request: dict[str, Any],
        progress: Progress = lambda *_: None,
        *,
        poll_s: float = _POLL_S,
    ) -> dict[str, Any]:
        """Start a job and follow it to its end; its result. An interrupt cancels it.

        Raises:
            RefusedError: another job is running, or this one failed or was cancelled.
            NotFoundError: the origin was started anew meanwhile, which ended it.
        """
        job = self.post(kind, request)
        number = job["number"]
        try:
            while job["state"] == "running":
                time.sleep(poll_s)
                job = self._json(self._get(f"{ADMIN}/jobs/{kind}"))
                if job["number"] != number:
                    raise RefusedError(f"{kind} ended, and another one was started since")
                progress(kind, job["done"], job["total"])
        except KeyboardInterrupt:
            self._client.send("DELETE", f"{ADMIN}/jobs/{kind}", b"")
            raise
        if job["state"] != "done":
            raise RefusedError(f"{kind} {job['state']}: {job['error'] or 'no reason given'}")
        return dict(job["result"])

    def post(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST to ``/admin/ACTION``. Raises ``RefusedError`` and what its status says."""
        headers = {"Content-Type": "application/json"}
        content = msgspec.json.encode(body)
        limit = MAX_BUNDLE_BYTES
        return self._json(
            self._client.send(
                "POST", f"{ADMIN}/{action}", content, limit_bytes=limit, headers=headers
            )
        )

    def signed_revisions(self) -> bytes:
        """The current list of revisions, as the publisher signed it."""
        answer = self._client.get(f"{TRUST_BUNDLE}?root=0", limit_bytes=MAX_BUNDLE_BYTES)
        if answer.status != 200:
            raise SourceUnavailableError(f"{self.url}: trust bundle: status {answer.status}")
        return decode_bundle(bytes(answer.body), TrustLimits()).roles[REVISIONS]

    def manifest(self, revision: str) -> Manifest:
        """A published manifest. Raises ``NotFoundError``, ``ManifestInvalidError``."""
        return _manifest(self._client, revision)

    # As a shelf (``infra.repair``)

    def lacking(self, ids: Iterable[ChunkId]) -> list[str]:
        """Which of these chunks the origin does not have."""
        return list(self.post("chunks/missing", {"ids": list(ids)})["missing"])

    def put_chunk(self, chunk: Chunk) -> None:
        """Store a chunk."""
        self._put(f"chunks/{chunk.id}", memoryview(chunk.data))

    def put_manifest(self, revision: str, data: bytes) -> None:
        """Store a manifest whose chunks are all there."""
        self._put(f"manifests/{revision}", data)

    def _put(self, path: str, data: bytes | memoryview) -> None:
        self._json(self._client.send("PUT", f"{ADMIN}/{path}", data))


def prune(
    admin: UpkeepAdmin, key_file: Path, *, keep_recent: int | None, keep_younger_s: float | None
) -> list[dict[str, str]]:
    """Sign a list of revisions without those that nothing keeps, and hand it over.

    Returns:
        The removed ones, each with ``model`` and ``revision``.

    Raises:
        ConfigError, ForbiddenError: the key cannot be read, or is not the publisher's.
    """
    wanted = {"keep_recent": keep_recent, "keep_younger_s": keep_younger_s}
    plan_ = admin.post("prune/plan", {k: v for k, v in wanted.items() if v is not None})
    remove = [(one["model"], one["revision"]) for one in plan_["remove"]]
    if not remove:
        return []
    key = load_key(key_file)
    signed = sign_revisions(admin.signed_revisions(), key, remove=remove, now=time.time())
    return list(admin.post("prune", {"revisions": signed.decode()})["removed"])


def _manifest(client: BlockingClient, revision: str) -> Manifest:
    answer = client.get(manifest_path(revision), limit_bytes=MAX_MANIFEST_BYTES)
    if answer.status == 404:
        raise NotFoundError(f"{client.netloc} does not have revision {revision}")
    if answer.status != 200:
        raise SourceUnavailableError(f"{client.netloc}: {revision}: status {answer.status}")
    return decode(bytes(answer.body), revision)


def find_manifest(admin: UpkeepAdmin, status: dict[str, Any], text: str) -> tuple[str, Manifest]:
    """What ``MODEL[@CHANNEL]`` or ``MODEL@REVISION`` (at least 8 digits) names: its revision and
    manifest.

    Raises:
        NameInvalidError, NotFoundError: it names nothing, or several revisions.
    """
    model, _, name = text.partition("@")
    name = name or DEFAULT_CHANNEL
    pointers = {
        pointer["channel"]: pointer["revision"]
        for pointer in status["channels"]
        if pointer["model"] == model_name(model)
    }
    revision = pointers.get(name) or find_revision(status, model, name)
    return revision, admin.manifest(revision)


def local_manifest(file: Path, *, path: str, progress: Progress = lambda *_: None) -> Manifest:
    """The manifest that a file would have, without its bundle.

    Args:
        path: its name in the manifest.

    Raises:
        PublishError, GGUFInvalidError: it is nothing that could be published.
    """
    found = inspect(from_disk(file))
    entries = []
    for one in found.files:
        layout = plan(one.layout, one.size)
        inside = path if len(found.files) == 1 else one.local.path
        entries.append(
            scan(one.local.file, layout, path=inside, role=one.local.role, progress=progress)
        )
    values = found.model.metadata if found.model is not None else {}
    told = {
        key: str(value)[:_MAX_VALUE]
        for key, value in values.items()
        if isinstance(value, str | int | float)
    }
    return build("local", tuple(entries), told)
