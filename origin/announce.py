"""The origin's changes, each in its steps: publish, roll, purge, renew.

The order makes a change atomic: objects first, then the role files with the timestamp last (the
commit point), and only then the announcement. A crash in between leaves the old state whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from origin.signing import Commit, Repository
from origin.store import ObjectStore
from wire.chunk import Chunk, ChunkId, chunk_id
from wire.errors import (
    ConflictError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
)
from wire.events import RESET_KEY
from wire.http_events import EventHub
from wire.manifest import Manifest, decode
from wire.paths import (
    TRUST_KEY,
    channel_key,
    channel_name,
    model_name,
    revision_id,
    revision_key,
)
from wire.source import Delivery

_log = structlog.get_logger("announce")


class Publisher:
    """Changes what an origin offers, one change at a time, and tells everybody who listens.

    A change that has begun runs to its end, also when whoever asked for it hangs up: cut between
    the store and this object, the two would differ until the next start.
    """

    def __init__(
        self,
        store: ObjectStore,
        repository: Repository,
        hub: EventHub,
        gone: set[str],
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.repository = repository
        self.gone = gone
        self._hub = hub
        self._clock = clock
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[None]] = set()

    async def put_chunk(self, chunk: Chunk) -> None:
        """Store a chunk. Raises ``GoneError`` where it was taken down."""
        self.refuse_gone(chunk_key(chunk.id))
        await self.store.put_chunk(chunk)

    async def put_manifest(self, revision: str, data: bytes) -> Manifest:
        """Store a manifest. Raises ``GoneError``, and as ``ObjectStore.put_manifest``."""
        self.refuse_gone(revision_key(revision))
        return await self.store.put_manifest(revision, data)

    async def publish(self, signed_revisions: bytes) -> None:
        """Accept the publisher's newly signed list of revisions.

        Raises:
            NotFoundError: a revision it names has no manifest here.
            ForbiddenError, ConflictError, TrustError: signature, version or content does not follow
                from the current list, or from the manifests.
        """
        await self._whole(self._publish(signed_revisions))

    async def roll(self, model: str, channel: str, revision: str) -> None:
        """Point a channel at a published revision.

        Raises:
            NotFoundError: the publisher never signed this revision of this model.
            GoneError: it was taken down.
        """
        await self._whole(self._roll(model, channel, revision))

    async def purge(self, key: str, *, hard: bool) -> None:
        """Tell caches to revalidate a surrogate key; ``hard``: and never to serve it again.

        Raises:
            NameInvalidError: the key can name nothing, so nothing would be purged.
        """
        _check_key(key, hard=hard)
        await self._whole(self._purge(key, hard))

    async def renew(self) -> None:
        """Sign a new timestamp (and what else runs out soon)."""
        await self._whole(self._renew())

    async def aclose(self) -> None:
        """Wait for changes that have begun."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    def refuse_gone(self, key: str) -> None:
        """Raise ``GoneError`` where this surrogate key was taken down."""
        if key in self.gone:
            raise GoneError(f"{key} was taken down")

    async def _publish(self, signed_revisions: bytes) -> None:
        async with self._turn:
            change = self.repository.accept_revisions(signed_revisions, now=self._clock())
            signed, known = change.repository.view.revisions, self.repository.view.revisions
            for model, revision in signed.keys() - known.keys():
                await self._check_manifest(model, revision, signed[model, revision])
            await self._commit(change)
            self._hub.publish("channel", [TRUST_KEY])

    async def _check_manifest(self, model: str, revision: str, size: int) -> None:
        data = await self.store.manifest(revision)
        manifest = await asyncio.to_thread(decode, data, revision)
        if manifest.model != model or len(data) != size:
            raise ConflictError(
                f"revision {revision} is signed as {model} of {size} B, but its manifest here is "
                f"of {manifest.model} and has {len(data)} B"
            )

    async def _roll(self, model: str, channel: str, revision: str) -> None:
        async with self._turn:
            self.refuse_gone(revision_key(revision))
            now = self._clock()
            await self._commit(self.repository.set_channel(model, channel, revision, now=now))
            self._hub.publish("channel", [TRUST_KEY, channel_key(model, channel)])

    async def _purge(self, key: str, hard: bool) -> None:
        if hard:
            await self.store.mark_gone(key)
            self.gone.add(key)
        self._hub.publish("purge", [key], hard=hard)

    async def _renew(self) -> None:
        async with self._turn:
            await self._commit(self.repository.retimestamp(now=self._clock()))

    async def _commit(self, change: Commit) -> None:
        await self.store.put_trust_documents(change.files)
        self.repository = change.repository
        await self.store.remove_trust_documents(change.obsolete)

    async def _whole(self, change: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(change, name="origin-change")
        self._changes.add(task)
        task.add_done_callback(self._ended)
        await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._changes.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Whoever asked may have left; without this nobody would know.
            code = error.code if isinstance(error, HeadwaterError) else type(error).__name__
            _log.warning("change refused", code=code, error=str(error))


class OriginServer:
    """The origin as a ``ChunkServer``: straight from its store."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._store = publisher.store

    @property
    def name(self) -> str:
        return "origin"

    async def trust_bundle(self, root_version: int) -> bytes:
        return self._publisher.repository.bundle(root_version)

    async def channel(self, model: str, channel: str) -> bytes:
        self._publisher.refuse_gone(channel_key(model, channel))
        return self._publisher.repository.pointer(model, channel)

    async def manifest(self, revision: str) -> bytes:
        self._publisher.refuse_gone(revision_key(revision))
        return await self._store.manifest(revision)

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,  # noqa: ARG002
        into: memoryview | None = None,  # noqa: ARG002
    ) -> Chunk:
        """Always verified; there is nothing fresher than the origin to ask."""
        self._publisher.refuse_gone(chunk_key(id))
        return await self._store.chunk(id)

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        """From the file where there is one; checked first where the client doubts it."""
        self._publisher.refuse_gone(chunk_key(id))
        if not revalidate and (stored := self._store.locate(id)) is not None:
            return Delivery(stored)
        return Delivery(await self._store.chunk(id))

    def expect(self, ids: Sequence[ChunkId]) -> None:
        """All of them are at hand already."""

    def refuse_gone(self, key: str) -> None:
        self._publisher.refuse_gone(key)

    def document(self, name: str) -> bytes:
        """A role file by its own name, for stock clients of The Update Framework; those of the
        generation before too, for whoever is in the middle of an update."""
        return self._publisher.repository.document(name)

    async def aclose(self) -> None:
        """Nothing is held."""


def describe(repository: Repository) -> dict[str, object]:
    """What ``headwater status`` shows of an origin."""
    view = repository.view
    return {
        "channels": [
            {"model": p.model, "channel": p.channel, "revision": p.revision, "sequence": p.sequence}
            for p in view.pointers()
        ],
        "revisions": [
            {"model": model, "revision": revision} for model, revision in sorted(view.revisions)
        ],
        "trust": {"versions": dict(view.versions), "expires": dict(view.expires)},
    }


def chunk_key(chunk: ChunkId) -> str:
    """The surrogate key of a chunk."""
    return f"chunk:{chunk}"


def _check_key(key: str, *, hard: bool) -> None:
    kind, _, name = key.partition(":")
    if kind == "chunk":
        chunk_id(name)
    elif kind == "revision":
        revision_id(name)
    elif kind == "channel":
        model, _, channel = name.partition("@")
        model_name(model)
        channel_name(channel)
    elif hard or key not in {TRUST_KEY, RESET_KEY}:
        raise NameInvalidError(
            "a surrogate key is chunk:ID, revision:ID or channel:MODEL@CHANNEL"
            + ("" if hard else f", {TRUST_KEY} or {RESET_KEY}")
        )
