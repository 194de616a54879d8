"""The origin's changes, each in its steps: publish, roll, purge, prune, renew.

The order makes a change atomic: objects first, then the role files in one conditional write (the
commit point), and only then the announcement. A crash in between leaves the old state whole. Where
another origin on the same store was first, its state is read and the change is made on top of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from origin.errors import StoreError
from origin.gate import Gate
from origin.purge_hook import Announcer
from origin.signing import Commit, Repository
from origin.store import ObjectStore
from origin.takedowns import chunk_key, event_batches, exclusive_chunks
from wire.channel import Canary, ChannelPointer
from wire.chunk import Chunk, ChunkId, chunk_id
from wire.errors import (
    ConflictError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
)
from wire.events import RESET_KEY
from wire.manifest import Manifest, decode
from wire.paths import (
    TRUST_KEY,
    channel_key,
    channel_name,
    model_name,
    revision_id,
    revision_key,
)
from wire.static_file import STATIC
from wire.trust import TrustView

_log = structlog.get_logger("announce")
T = TypeVar("T")
_TIMESTAMP = "timestamp.json"
_ATTEMPTS = 5
"""How often a change is made anew because another origin was first."""


class Publisher:
    """Changes what an origin offers, one change at a time, and tells everybody who listens.

    A change that has begun runs to its end, also when whoever asked for it hangs up: cut between
    the store and this object, the two would differ until the next start.
    """

    def __init__(
        self,
        store: ObjectStore,
        repository: Repository,
        hub: Announcer,
        gone: set[str],
        clock: Callable[[], float],
    ) -> None:
        self.store = store
        self.repository = repository
        self.gone = gone
        self.withheld: set[str] = set()
        """Chunks that only revisions taken down use: not served, but free to be published again, as
        a part of something else. Follows from ``gone`` (:meth:`restore`)."""
        self.on_pointer: Callable[[ChannelPointer], None] = lambda _pointer: None
        """Told of every pointer that this origin signs."""
        self.gate = Gate()
        """Uploads pass together; the collector of garbage acts alone."""
        self._hub = hub
        self._clock = clock
        self._turn = asyncio.Lock()
        self._changes: set[asyncio.Task[Any]] = set()

    async def missing(self, ids: Sequence[ChunkId]) -> list[ChunkId]:
        """Which of these chunks the store lacks. The others stay for as long as a lease lasts,
        even if nothing signed needs them. Raises ``GoneError`` where one was taken down."""
        for chunk in ids:
            self.refuse_gone(chunk_key(chunk))
        return await self._whole(self._missing(ids))

    async def put_chunk(self, chunk: Chunk) -> None:
        """Store a chunk. Raises ``GoneError`` where it was taken down."""
        self.refuse_gone(chunk_key(chunk.id))
        await self.store.put_chunk(chunk)

    async def put_manifest(self, revision: str, data: bytes) -> Manifest:
        """Store a manifest. Raises ``GoneError``, and as ``ObjectStore.put_manifest``."""
        self.refuse_gone(revision_key(revision))
        return await self._whole(self._put_manifest(revision, data))

    async def publish(self, signed_revisions: bytes) -> None:
        """Accept the publisher's newly signed list of revisions.

        Raises:
            NotFoundError: a revision it names has no manifest here.
            ForbiddenError, ConflictError, TrustError: signature, version or content does not follow
                from the current list, or from the manifests.
        """
        await self._whole(self._publish(signed_revisions))

    async def roll(
        self,
        model: str,
        channel: str,
        revision: str,
        *,
        canary: Canary | None = None,
        sequence: int | None = None,
    ) -> ChannelPointer:
        """Point a channel at a published revision; the pointer that is then in force.

        Args:
            canary: a share that is to try another revision.
            sequence: of the pointer that this is meant to follow (0: none); None: whichever there
                is.

        Raises:
            NotFoundError: the publisher never signed this revision of this model.
            GoneError: it was taken down.
            ConflictError: the channel was moved after ``sequence``.
        """
        return await self._whole(self._roll(model, channel, revision, canary, sequence))

    async def purge(self, key: str, *, hard: bool) -> None:
        """Tell caches to revalidate a surrogate key; ``hard``: and never to serve it again.

        Raises:
            NameInvalidError: the key can name nothing, so nothing would be purged.
        """
        _check_key(key, hard=hard)
        await self._whole(self._purge(key, hard))

    async def prune(self, signed_revisions: bytes) -> None:
        """Accept the publisher's list of revisions with some of them removed.

        Raises:
            ConflictError: a channel or a pin needs one of them; and as :meth:`publish`.
        """
        await self._whole(self._prune(signed_revisions))

    async def pin(self, model: str, revision: str, *, keep: bool) -> None:
        """Keep a revision whatever the garbage collection would throw away, or no longer.

        Raises:
            NotFoundError: the publisher never signed it.
        """
        if not keep:
            await self.store.remove_pin(model, revision)
            return
        async with self._turn:
            if (model, revision) not in self.repository.view.revisions:
                raise NotFoundError(f"revision {revision} of {model} is not signed")
            await self.store.put_pin(model, revision)

    async def refresh(self) -> None:
        """Take over what another origin on the same store changed, and announce it.

        Raises:
            StoreError, ConfigError, TrustError: it cannot be read, or does not verify; what was
                known stays in force.
        """
        async with self._turn:
            await self._follow()

    async def renew(self) -> None:
        """Sign a new timestamp (and what else runs out soon)."""
        await self._whole(self._renew())

    async def accept(self, make: Callable[[Repository, float], Commit]) -> None:
        """Take a change of the trust metadata, such as a rotation, and announce it.

        Args:
            make: the change of the repository as it then is, at a time in seconds since 1970. What
                it raises is raised here, and nothing has changed then.
        """
        await self._whole(self._accept(make))

    async def aclose(self) -> None:
        """Wait for changes that have begun."""
        await asyncio.gather(*self._changes, return_exceptions=True)

    async def restore(self) -> None:
        """Find out again which chunks go with the revisions that were taken down."""
        async with self._turn:
            await self._withhold_all()

    def refuse_gone(self, key: str) -> None:
        """Raise ``GoneError`` where this surrogate key was taken down."""
        if key in self.gone:
            raise GoneError(f"{key} was taken down")

    def refuse_unserved(self, key: str) -> None:
        """Raise ``GoneError`` where nobody may have what is filed under this key."""
        self.refuse_gone(key)
        if key in self.withheld:
            raise GoneError(f"{key} went with a revision that was taken down")

    async def _missing(self, ids: Sequence[ChunkId]) -> list[ChunkId]:
        async with self.gate.together():
            await self.store.lease(ids)
            return await self.store.missing_chunks(ids)

    async def _put_manifest(self, revision: str, data: bytes) -> Manifest:
        async with self.gate.together():
            return await self.store.put_manifest(revision, data, check=self._refuse_gone_chunks)

    def _refuse_gone_chunks(self, manifest: Manifest) -> None:
        for chunk in manifest.chunk_refs():
            self.refuse_gone(chunk_key(chunk))

    async def _publish(self, signed_revisions: bytes) -> None:
        async def change(before: Repository) -> Commit:
            made = before.accept_revisions(signed_revisions, now=self._clock())
            signed = made.repository.view
            for named in signed.revisions.keys() - before.view.revisions.keys():
                manifest = await self._check_manifest(named, signed)
                needed.update(map(chunk_key, manifest.chunk_refs()))
            return made

        needed: set[str] = set()
        async with self.gate.together(), self._turn:
            await self._change(change)
            self.withheld -= needed
            self._hub.publish("channel", [TRUST_KEY])

    async def _prune(self, signed_revisions: bytes) -> None:
        async def change(before: Repository) -> Commit:
            made = before.accept_revisions(signed_revisions, now=self._clock(), allow_removal=True)
            after = made.repository.view
            lost = before.view.revisions.keys() - after.revisions.keys()
            pinned = await self.store.pins() & lost
            if pinned:
                model, revision = min(pinned)
                raise ConflictError(f"revision {revision} of {model} is pinned; remove the pin")
            for named in after.revisions.keys() - before.view.revisions.keys():
                await self._check_manifest(named, after)
            return made

        async with self.gate.together(), self._turn:
            await self._change(change)
            self._hub.publish("channel", [TRUST_KEY])

    async def _check_manifest(self, named: tuple[str, str], view: TrustView) -> Manifest:
        """That a newly signed revision is what the publisher signed it as."""
        (model, revision), size = named, view.revisions[named]
        data = await self.store.manifest(revision)
        manifest = await asyncio.to_thread(decode, data, revision)
        if manifest.model != model or len(data) != size:
            raise ConflictError(
                f"revision {revision} is signed as {model} of {size} B, but its manifest here is "
                f"of {manifest.model} and has {len(data)} B"
            )
        if (manifest.kind == STATIC) != (named in view.static):
            raise ConflictError(
                f"revision {revision} of {model} is {manifest.kind} by its manifest, and signed as "
                "something else"
            )
        return manifest

    async def _roll(
        self, model: str, channel: str, revision: str, canary: Canary | None, sequence: int | None
    ) -> ChannelPointer:
        async def change(before: Repository) -> Commit:
            now = before.view.channels.get((model, channel))
            if sequence not in {None, now.sequence if now is not None else 0}:
                raise ConflictError(f"{model}@{channel} was moved by somebody else meanwhile")
            return before.set_channel(model, channel, revision, canary=canary, now=self._clock())

        async with self._turn:
            self.refuse_gone(revision_key(revision))
            if canary is not None:
                self.refuse_gone(revision_key(canary.revision))
            await self._change(change)
            pointer = self.repository.view.pointer(model, channel)
            self.on_pointer(pointer)
            self._hub.publish("channel", [TRUST_KEY, channel_key(model, channel)])
            return pointer

    async def _purge(self, key: str, hard: bool) -> None:
        if not hard:
            self._hub.publish("purge", [key])
            return
        # At once, before anything that could fail: what was named is what matters most.
        await self._take_down([key])
        kind, _, revision = key.partition(":")
        if kind == "revision":
            async with self._turn:
                keys = await self._withhold(revision)
            # Caches drop their copies and ask again; whether they may have them is said here.
            self._tell(keys, hard=False)

    async def _withhold(self, revision: str) -> list[str]:
        others = self._live_beside(revision)
        keys = [chunk_key(id_) for id_ in await exclusive_chunks(self.store, revision, others)]
        self.withheld.update(keys)
        return keys

    async def _withhold_all(self) -> None:
        self.withheld.clear()
        for key in sorted(self.gone):
            kind, _, revision = key.partition(":")
            if kind == "revision":
                try:
                    await self._withhold(revision)
                except StoreError as error:
                    _log.error("chunks of a takedown are not withheld", error=error.message)

    def _live_beside(self, revision: str) -> list[str]:
        """The other revisions that the publisher stands for and that were not taken down."""
        known = {other for _, other in self.repository.view.revisions if other != revision}
        return sorted(other for other in known if revision_key(other) not in self.gone)

    async def _take_down(self, keys: Sequence[str]) -> None:
        new = [key for key in keys if key not in self.gone]
        if new:
            await self.store.mark_gone(new)
            self.gone.update(new)
        self._tell(new or keys, hard=True)

    def _tell(self, keys: Sequence[str], *, hard: bool) -> None:
        for batch in event_batches(keys):
            if batch is None:
                self._hub.publish("reset", [RESET_KEY])
            else:
                self._hub.publish("purge", batch, hard=hard)

    async def _renew(self) -> None:
        async def change(before: Repository) -> Commit:
            return before.retimestamp(now=self._clock())

        async with self._turn:
            await self._change(change)

    async def _accept(self, make: Callable[[Repository, float], Commit]) -> None:
        async def change(before: Repository) -> Commit:
            return make(before, self._clock())

        async with self._turn:
            await self._change(change)
            self._hub.publish("channel", [TRUST_KEY])

    async def _change(self, make: Callable[[Repository], Awaitable[Commit]]) -> None:
        """Make a change of what is stored and commit it; made again where somebody was first."""
        if self.store.shared:
            await self._follow()
        for attempt in range(1, _ATTEMPTS + 1):
            change = await make(self.repository)
            try:
                await self.store.put_trust_documents(
                    change.files,
                    remove=change.obsolete,
                    based_on=self.repository.files[_TIMESTAMP],
                )
            except ConflictError:
                await self._follow()
                if attempt == _ATTEMPTS:
                    raise
            else:
                self.repository = change.repository
                return

    async def _follow(self) -> None:
        store, known = self.store, self.repository
        documents = await store.trust_documents()
        changed = documents.get(_TIMESTAMP) != known.files[_TIMESTAMP]
        if changed:
            self.repository = await asyncio.to_thread(
                Repository.load,
                documents,
                known.online_key,
                lifetimes=known.lifetimes,
                limits=known.limits,
            )
            _log.info("another origin changed the trust documents")
            self._hub.publish("channel", [TRUST_KEY])
        if not store.shared:
            return
        new = await store.gone_keys() - self.gone
        self.gone |= new
        if new or (changed and self.withheld):
            await self._withhold_all()
        self._tell(sorted(new), hard=True)

    async def _whole(self, change: Coroutine[Any, Any, T]) -> T:
        task = asyncio.create_task(change, name="origin-change")
        self._changes.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._changes.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # Whoever asked may have left; without this nobody would know.
            code = error.code if isinstance(error, HeadwaterError) else type(error).__name__
            _log.warning("change refused", code=code, error=str(error))


def describe(repository: Repository) -> dict[str, object]:
    """What ``headwater status`` shows of an origin."""
    view = repository.view
    return {
        "channels": [
            {
                "model": p.model,
                "channel": p.channel,
                "revision": p.revision,
                "sequence": p.sequence,
                **({"canary": p.canary} if p.canary is not None else {}),
            }
            for p in view.pointers()
        ],
        "revisions": [
            {
                "model": model,
                "revision": revision,
                **({"kind": STATIC} if (model, revision) in view.static else {}),
            }
            for model, revision in sorted(view.revisions)
        ],
        "trust": {"versions": dict(view.versions), "expires": dict(view.expires)},
    }


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
