"""The upkeep of an origin from outside: jobs that are followed, repair from elsewhere, pruning, and
what two revisions share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
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
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId, chunk_id
from wire.errors import HeadwaterError, NotFoundError, SourceUnavailableError
from wire.http_client import BlockingClient
from wire.http_source import MAX_BUNDLE_BYTES
from wire.manifest import MAX_MANIFEST_BYTES, Manifest, build, decode
from wire.paths import (
    ADMIN,
    DEFAULT_CHANNEL,
    TRUST_BUNDLE,
    chunk_path,
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

    def put(self, path: str, data: bytes | memoryview) -> None:
        """PUT below ``/admin``."""
        self._json(self._client.send("PUT", f"{ADMIN}/{path}", data))

    def signed_revisions(self) -> bytes:
        """The current list of revisions, as the publisher signed it."""
        answer = self._client.get(f"{TRUST_BUNDLE}?root=0", limit_bytes=MAX_BUNDLE_BYTES)
        if answer.status != 200:
            raise SourceUnavailableError(f"{self.url}: trust bundle: status {answer.status}")
        return decode_bundle(bytes(answer.body), TrustLimits()).roles[REVISIONS]

    def manifest(self, revision: str) -> Manifest:
        """A published manifest. Raises ``NotFoundError``, ``ManifestInvalidError``."""
        return decode(_get(self._client, manifest_path(revision), MAX_MANIFEST_BYTES), revision)


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


@dataclass(slots=True)
class Repair:
    """Brings what a scrub found rotten or missing from another origin or an edge.

    Everything is verified here before it is sent, and once more by the origin.
    """

    admin: UpkeepAdmin
    source: BlockingClient
    progress: Progress = lambda *_: None
    chunks: int = 0
    manifests: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Chunk or revision → why it could not be repaired; at most as many as the report names."""

    def run(self, report: dict[str, Any]) -> None:
        """Repair what the report of ``verify`` names."""
        missing, manifests = list(report["missing"]), list(report["bad_manifests"])
        total = len(missing) + len(manifests)
        for done, name in enumerate([*missing, *manifests], 1):
            try:
                if done <= len(missing):
                    self._chunk(chunk_id(name))
                else:
                    self._manifest(name)
            except HeadwaterError as error:
                self.failed[name] = error.message
            self.progress("repair", done, total)

    def _chunk(self, name: ChunkId) -> None:
        chunk = Chunk(name, _get(self.source, chunk_path(name), MAX_CHUNK_BYTES))
        self.admin.put(f"chunks/{name}", memoryview(chunk.data))
        self.chunks += 1

    def _manifest(self, revision: str) -> None:
        data = _get(self.source, manifest_path(revision), MAX_MANIFEST_BYTES)
        manifest = decode(data, revision)
        missing: Iterable[str] = self.admin.post(
            "chunks/missing", {"ids": list(manifest.chunk_refs())}
        )["missing"]
        for name in missing:
            self._chunk(chunk_id(name))
        self.admin.put(f"manifests/{revision}", data)
        self.manifests += 1


def _get(client: BlockingClient, path: str, limit_bytes: int) -> bytes:
    answer = client.get(path, limit_bytes=limit_bytes)
    if answer.status == 404:
        raise NotFoundError(f"{client.netloc} does not have {path}")
    if answer.status != 200:
        raise SourceUnavailableError(f"{client.netloc}: {path}: status {answer.status}")
    return bytes(answer.body)


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
