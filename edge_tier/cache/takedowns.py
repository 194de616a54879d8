"""Takedowns as a list: what an upstream names, and which chunks go with a revision.

Events tell of takedowns, but an event can be lost (a ``reset`` says that some were). So every tier
also serves the whole list, and an edge reads that of its upstreams now and then: a chain of edges
heals by itself.

An upstream that lies can only remove: it can take down what it should not, and so deny service. It
could do that anyway, by not answering. It cannot bring anything back, and nothing unsigned gets in.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from edge_tier.cache.documents import DocumentStore
from wire.chunk import Buffer, ChunkId
from wire.errors import HeadwaterError, SourceUnavailableError
from wire.http_client import BlockingClient, ClientConfig
from wire.manifest import decode
from wire.paths import TAKEDOWNS, revision_key

MAX_TAKEDOWNS = 200_000
MAX_TAKEDOWNS_BYTES = 32 * 1024 * 1024
_REVISIONS = "revision:"


class TakedownList(msgspec.Struct, frozen=True):
    """Surrogate keys of chunks and revisions that must not be served again."""

    keys: tuple[str, ...]


_decoder = msgspec.json.Decoder(TakedownList)


def encode_takedowns(keys: Iterable[str]) -> tuple[bytes, str]:
    """The list in its only byte form, and its entity tag (RFC 9110 section 8.8.3)."""
    body = msgspec.json.encode(TakedownList(tuple(sorted(keys))))
    return body, f'"{hashlib.sha256(body).hexdigest()}"'


def decode_takedowns(data: Buffer) -> tuple[str, ...]:
    """The keys of a list; what is no key of ours is for the reader to ignore.

    Raises:
        SourceUnavailableError: malformed, or more than ``MAX_TAKEDOWNS``.
    """
    try:
        keys = _decoder.decode(data).keys
    except (msgspec.DecodeError, RecursionError) as error:
        raise SourceUnavailableError(f"malformed list of takedowns: {error}") from error
    if len(keys) > MAX_TAKEDOWNS:
        raise SourceUnavailableError(f"{len(keys)} takedowns are over {MAX_TAKEDOWNS}")
    return keys


class TakedownReader:
    """Reads an upstream's list, and only what changed.

    Args:
        url: ``http[s]://host[:port]`` of the upstream.
        token: a service token, where the upstream asks for one.
    """

    def __init__(
        self, url: str, *, token: str | None = None, config: ClientConfig | None = None
    ) -> None:
        self._client = BlockingClient(url, token=token, config=config)
        self._etag = ""

    async def read(self) -> tuple[str, ...] | None:
        """The list; None where it has not changed since the last time, or there is none.

        Raises:
            SourceUnavailableError: not reachable, or broke the protocol.
            TooLargeError: over ``MAX_TAKEDOWNS_BYTES``.
        """
        return await asyncio.to_thread(self._read)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _read(self) -> tuple[str, ...] | None:
        headers = {"If-None-Match": self._etag} if self._etag else {}
        answer = self._client.get(TAKEDOWNS, limit_bytes=MAX_TAKEDOWNS_BYTES, headers=headers)
        if answer.status in (304, 404):
            return None
        if answer.status != 200:
            raise SourceUnavailableError(f"{TAKEDOWNS}: status {answer.status}")
        keys = decode_takedowns(answer.body)
        self._etag = answer.headers.get("etag", "")[:200]
        return keys


async def orphans(documents: DocumentStore, revisions: Sequence[str]) -> list[ChunkId]:
    """The chunks that, of all manifests held here, only those of these revisions name."""
    found: dict[ChunkId, None] = {}
    for revision in revisions:
        found.update(dict.fromkeys(await _chunks(documents, revision)))
    others = set(documents.keys(_REVISIONS)) - {revision_key(one) for one in revisions}
    for key in others:
        if not found:
            break
        for id in await _chunks(documents, key.removeprefix(_REVISIONS)):  # noqa: A001
            found.pop(id, None)
    return list(found)


async def _chunks(documents: DocumentStore, revision: str) -> list[ChunkId]:
    document = await documents.get(revision_key(revision))
    if document is None:
        return []
    try:
        manifest = await asyncio.to_thread(decode, document.body, revision)
    except HeadwaterError:
        return []  # it names nothing that anybody could ask for
    return list(manifest.chunk_refs())
