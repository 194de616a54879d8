"""An origin's publisher over objects in memory, on a clock that a test turns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from origin.announce import Publisher
from origin.offline import sign_revisions
from origin.signing import Repository
from origin.store import ObjectStore
from tests.fakes.objects import MemoryObjects
from tests.fakes.revisions import ONLINE_KEY, PUBLISHER_KEY, ROOT_KEY, Revision
from wire.chunk import Chunk, ChunkId
from wire.events import EventLog
from wire.http_events import EventHub
from wire.static_file import MODEL


@dataclass(slots=True)
class Shelf:
    """Objects in memory, and origins on them. Times in seconds."""

    now: float = 1_700_000_000.0
    objects: MemoryObjects = field(init=False)

    def __post_init__(self) -> None:
        self.objects = MemoryObjects(lambda: self.now)

    async def origin(self, log: EventLog | None = None) -> Publisher:
        """An origin as it starts; the first one makes the signed repository."""
        store = ObjectStore(self.objects)
        documents = await store.trust_documents()
        if documents:
            repository = Repository.load(documents, ONLINE_KEY)
        else:
            repository = Repository.create(ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, now=self.now)
            await store.put_trust_documents(repository.files)
        hub = EventHub(log or EventLog("shelf"))
        made = Publisher(store, repository, hub, await store.gone_keys(), lambda: self.now)
        await made.restore()
        return made

    def sign(self, publisher: Publisher, *add: Revision, remove: Sequence[Revision] = ()) -> bytes:
        """The list of revisions with these added and removed, as the publisher signs it."""
        return sign_revisions(
            publisher.repository.trusted.bundle.roles["revisions"],
            PUBLISHER_KEY,
            [(r.model, r.id, len(r.data)) for r in add],
            kind=add[0].manifest.kind if add else MODEL,
            remove=[(r.model, r.id) for r in remove],
            now=self.now,
        )

    async def publish(
        self, publisher: Publisher, revision: Revision, *, channel: str = "stable"
    ) -> None:
        """All steps of a publish."""
        for name in await publisher.missing([ChunkId(name) for name in revision.chunks]):
            await publisher.put_chunk(Chunk.of(revision.chunks[name]))
        await publisher.put_manifest(revision.id, revision.data)
        if (revision.model, revision.id) not in publisher.repository.view.revisions:
            await publisher.publish(self.sign(publisher, revision))
        if channel:
            await publisher.roll(revision.model, channel, revision.id)

    @property
    def chunks(self) -> set[str]:
        """The chunks that are here."""
        return self._names("chunks/")

    @property
    def manifests(self) -> set[str]:
        """The revisions whose manifests are here."""
        return self._names("manifests/")

    def _names(self, prefix: str) -> set[str]:
        return {key.rpartition("/")[2] for key in self.objects.kept if key.startswith(prefix)}
