"""The origin's changes, each in its steps: publish, roll, purge, renew.

The order makes a change atomic: objects first, then the role files with the timestamp last (the
commit point), and only then the announcement. A crash in between leaves the old state whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from origin.signing import Commit, Repository
from origin.store import ObjectStore
from wire.chunk import Chunk, ChunkId
from wire.errors import GoneError, NameInvalidError
from wire.http_events import EventHub
from wire.paths import TRUST_KEY, channel_key, revision_key
from wire.source import Delivery


class Publisher:
    """Changes what an origin offers, one change at a time, and tells everybody who listens."""

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

    async def publish(self, signed_revisions: bytes) -> None:
        """Accept the publisher's newly signed list of revisions.

        Raises:
            NotFoundError: a revision it names has no manifest here.
            ForbiddenError, ConflictError, TrustError: signature, version or content does not follow
                from the current list.
        """
        async with self._turn:
            change = self.repository.accept_revisions(signed_revisions, now=self._clock())
            known = self.repository.view.revisions
            for _model, revision in change.repository.view.revisions.keys() - known.keys():
                await self.store.manifest(revision)
            await self._commit(change)
            self._hub.publish("channel", [TRUST_KEY])

    async def roll(self, model: str, channel: str, revision: str) -> None:
        """Point a channel at a published revision.

        Raises:
            NotFoundError: the publisher never signed this revision of this model.
            GoneError: it was taken down.
        """
        if revision_key(revision) in self.gone:
            raise GoneError(f"revision {revision} was taken down")
        async with self._turn:
            await self._commit(
                self.repository.set_channel(model, channel, revision, now=self._clock())
            )
            self._hub.publish("channel", [TRUST_KEY, channel_key(model, channel)])

    async def purge(self, key: str, *, hard: bool) -> None:
        """Tell caches to revalidate a surrogate key; ``hard``: and never to serve it again."""
        if not key or len(key) > 256 or not key.isprintable():
            raise NameInvalidError("a surrogate key is 1 to 256 printable characters")
        if hard:
            await self.store.mark_gone(key)
            self.gone.add(key)
        self._hub.publish("purge", [key], hard=hard)

    async def renew(self) -> None:
        """Sign a new timestamp (and what else runs out soon)."""
        async with self._turn:
            await self._commit(self.repository.retimestamp(now=self._clock()))

    async def _commit(self, change: Commit) -> None:
        await self.store.put_trust_documents(change.files)
        self.repository = change.repository
        await self.store.remove_trust_documents(change.obsolete)


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
        self._refuse_gone(channel_key(model, channel))
        return self._publisher.repository.pointer(model, channel)

    async def manifest(self, revision: str) -> bytes:
        self._refuse_gone(revision_key(revision))
        return await self._store.manifest(revision)

    async def chunk(self, id: ChunkId, *, revalidate: bool = False) -> Chunk:  # noqa: A002, ARG002
        """Always verified; there is nothing fresher than the origin to ask."""
        self._refuse_gone(f"chunk:{id}")
        return await self._store.chunk(id)

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        """From the file where there is one; checked first where the client doubts it."""
        self._refuse_gone(f"chunk:{id}")
        if not revalidate and (stored := self._store.locate(id)) is not None:
            return Delivery(stored)
        return Delivery(await self._store.chunk(id))

    async def aclose(self) -> None:
        """Nothing is held."""

    def _refuse_gone(self, key: str) -> None:
        if key in self._publisher.gone:
            raise GoneError(f"{key} was taken down")


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
