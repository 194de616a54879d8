"""Publishes a model file, from the machine that holds the publisher's key.

:func:`publish` reads as the steps, in order. Nothing is visible before the last: objects first,
then the signed list of revisions, then the channel. Repeating a publish that was cut off sends only
what the origin does not have yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from securesystemslib.signer import Signer

from origin.bundle import ParityOracle, build_bundle
from origin.chunker import plan, scan
from origin.errors import PublishError
from origin.offline import sign_revisions
from wire.chunk import Chunk, ChunkId
from wire.errors import (
    ChunkMismatchError,
    ConflictError,
    ForbiddenError,
    GoneError,
    HeadwaterError,
    SourceUnavailableError,
    UnauthorizedError,
)
from wire.gguf import read_gguf
from wire.gguf_types import GGUF
from wire.http_client import BlockingClient, Response
from wire.http_source import MAX_BUNDLE_BYTES
from wire.manifest import ChunkRef, FileEntry, Manifest, build, encode, revision_of
from wire.paths import ADMIN, TRUST_BUNDLE, channel_name, file_path, model_name
from wire.trust_bundle import REVISIONS, TrustLimits, decode_bundle

_UPLOADS = 4
"""Chunks under way at the same time; memory is this many times 8 MiB."""
_SIGNINGS = 5
_REFUSALS: dict[int, type[HeadwaterError]] = {
    kind.status: kind for kind in (UnauthorizedError, ForbiddenError, ConflictError, GoneError)
}
Progress = Callable[[str, int, int], None]
"""Told of a step's name, what is done and the total, both in bytes."""


@dataclass(frozen=True, slots=True)
class Published:
    """What a publish did. Sizes in bytes."""

    model: str
    revision: str
    size: int
    chunks: int
    sent_chunks: int
    sent_bytes: int
    tokenizer: str


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
        return self._json(self._client.get(f"{ADMIN}/status", limit_bytes=MAX_BUNDLE_BYTES))

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

    def purge(self, key: str, *, hard: bool) -> dict[str, Any]:
        """Invalidate a surrogate key everywhere."""
        return self._post("purge", {"key": key, "hard": hard})

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

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


def publish(
    file: Path,
    model: str,
    channel: str,
    origin: OriginAdmin,
    key: Signer,
    *,
    oracle: ParityOracle | None = None,
    progress: Progress = lambda *_: None,
) -> Published:
    """Publish a GGUF file as a new revision and point ``channel`` at it.

    The file is read once to name its chunks, and what the origin lacks once more to send it.
    Memory is a few chunks, however large the file.

    Args:
        oracle: tokenizes like llama.cpp; checks the edge's tokenizer where an engine is there.
        progress: told of the steps ``scan`` and ``send``.

    Raises:
        GGUFInvalidError, NameInvalidError, PublishError: it must not be published; says why.
        UnauthorizedError, ForbiddenError: the token, or the key, is not the one.
        ConflictError: the file changed meanwhile, or somebody else is publishing all the time.
        SourceUnavailableError: the origin broke off; repeat, and only the rest is sent.
    """
    model, channel, path = model_name(model), channel_name(channel), file_path(file.name)
    origin.status()  # a wrong address or token is told before gigabytes are read
    gguf = _read(file)
    bundle = build_bundle(gguf, oracle=oracle)
    runs = plan(gguf, gguf.file_size)
    weights = scan(file, runs, path=path, role="weights", progress=progress)
    small = list(bundle.files())
    manifest = build(model, (weights, *(entry for entry, _ in small)), _describe(gguf))
    texts = {entry.path: text for entry, text in small}
    sent = _send_missing(manifest, file, texts, origin, progress)
    data = encode(manifest)
    revision = revision_of(data)
    origin.put_manifest(revision, data)
    _sign(origin, key, model, revision, len(data))
    origin.roll(model, channel, revision)
    return Published(
        model=model,
        revision=revision,
        size=manifest.size,
        chunks=len(manifest.chunk_refs()),
        sent_chunks=len(sent),
        sent_bytes=sum(ref.size for ref in sent),
        tokenizer=bundle.card.tokenizer,
    )


def _read(file: Path) -> GGUF:
    try:
        with file.open("rb") as stream:
            return read_gguf(stream, file.stat().st_size)
    except OSError as error:
        raise PublishError(f"cannot read {file}: {error.strerror}") from error


def _describe(gguf: GGUF) -> dict[str, str]:
    """What the manifest says about the model, from the file's own ``general.*`` metadata."""
    keys = ("general.architecture", "general.name", "general.version", "general.license")
    return {k: v[:256] for k in keys if isinstance(v := gguf.metadata.get(k), str)}


def _send_missing(
    manifest: Manifest,
    file: Path,
    small: dict[str, bytes],
    origin: OriginAdmin,
    progress: Progress,
) -> list[ChunkRef]:
    """Upload what the origin lacks, a few chunks at a time; what was sent."""
    missing = origin.missing(list(manifest.chunk_refs()))
    sends: dict[ChunkId, tuple[FileEntry, int, ChunkRef]] = {}
    for entry in manifest.files:
        for offset, ref in entry.placed():
            if ref.id in missing:
                sends.setdefault(ref.id, (entry, offset, ref))
    total = sum(ref.size for _, _, ref in sends.values())
    done = 0
    with file.open("rb") as stream, ThreadPoolExecutor(_UPLOADS, "publish") as pool:

        def send(item: tuple[FileEntry, int, ChunkRef]) -> int:
            entry, offset, ref = item
            if entry.path in small:
                data = small[entry.path][offset : offset + ref.size]
            else:
                data = os.pread(stream.fileno(), ref.size, offset)
            origin.put_chunk(_unchanged(ref, data, file))
            return ref.size

        for size in pool.map(send, sends.values()):
            done += size
            progress("send", done, total)
    return [ref for _, _, ref in sends.values()]


def _unchanged(ref: ChunkRef, data: bytes, file: Path) -> Chunk:
    try:
        return Chunk(ref.id, data)
    except ChunkMismatchError as error:
        raise ConflictError(f"{file} changed while it was published; publish it again") from error


def _sign(origin: OriginAdmin, key: Signer, model: str, revision: str, length: int) -> None:
    """Add the revision to the signed list, unless it is there already. Somebody else may publish at
    the same time: the list is then read and signed again."""
    for attempt in range(1, _SIGNINGS + 1):
        published = origin.status()["revisions"]
        if any(r["revision"] == revision and r["model"] == model for r in published):
            return
        current = origin.signed_revisions()
        signed = sign_revisions(current, key, [(model, revision, length)], now=time.time())
        try:
            origin.publish(signed)
        except ConflictError:
            if attempt == _SIGNINGS:
                raise
        else:
            return
