from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from origin.announce import Publisher, describe
from origin.errors import StoreError
from origin.serving import OriginServer
from origin.signing import Repository
from origin.store import ObjectStore
from tests.fakes.origin_home import Home
from tests.fakes.publishing import chunk_file, flip_bit
from tests.fakes.revisions import ONLINE_KEY, chunk_of, make_revision
from tests.fakes.sites import make_site
from tests.fakes.upkeep import Shelf
from wire.channel import Canary, ChannelPointer
from wire.chunk import Chunk
from wire.errors import (
    ChunkMismatchError,
    ConflictError,
    GoneError,
    HeadwaterError,
    NameInvalidError,
    NotFoundError,
)
from wire.events import Event, EventLog
from wire.http_events import EventHub
from wire.manifest import Manifest
from wire.source import StoredChunk

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(1), chunk_of(3)]})


class Stop(BaseException):
    """The process dies here."""


class DyingStore(ObjectStore):
    """Dies before its n-th object is written (n from 0), or just after it was committed."""

    def __init__(self, location: str, lives: int) -> None:
        super().__init__(location)
        self._lives = lives

    def _spend(self) -> None:
        if self._lives == 0:
            raise Stop
        self._lives -= 1

    async def put_chunk(self, chunk: Chunk) -> None:
        self._spend()
        await super().put_chunk(chunk)

    async def put_manifest(self, revision: str, data: bytes, **options: Any) -> Manifest:
        self._spend()
        return await super().put_manifest(revision, data, **options)

    async def put_trust_documents(self, documents: Mapping[str, bytes], **options: Any) -> None:
        self._spend()
        await super().put_trust_documents(documents, **options)
        self._spend()


async def publisher_of(home: Home, store: ObjectStore, repository: Repository) -> Publisher:
    hub = EventHub(EventLog("test"))
    return Publisher(store, repository, hub, await home.open_store().gone_keys(), time.time)


@pytest.fixture
async def publisher(home: Home) -> Publisher:
    """``stable`` on the first revision."""
    made = await publisher_of(home, home.open_store(), await home.load())
    await publish_and_roll(home, made, ONE)
    return made


async def publish_and_roll(home: Home, publisher: Publisher, revision: Any) -> None:
    """All steps of a publish, as the admin API runs them."""
    for data in revision.chunks.values():
        await publisher.put_chunk(Chunk.of(data))
    await publisher.put_manifest(revision.id, revision.data)
    if (revision.model, revision.id) not in publisher.repository.view.revisions:
        await publisher.publish(home.sign(publisher.repository, revision))
    await publisher.roll(revision.model, "stable", revision.id)


def stable(repository: Repository) -> str:
    return repository.view.pointer("chat", "stable").revision


# Crashes


async def crash(home: Home, lives: int) -> bool:
    """Publish the second revision with a store that dies; whether it did."""
    store = DyingStore(home.config.store, lives)
    publisher = await publisher_of(home, store, await home.load(store))
    try:
        await publish_and_roll(home, publisher, TWO)
    except Stop:
        return True
    return False


async def assert_serves_whole(home: Home, revision: str) -> None:
    """A start from the store finds a repository, and the revision with every byte."""
    publisher = await publisher_of(home, home.open_store(), await home.load())
    server = OriginServer(publisher)
    assert stable(publisher.repository) == revision
    wanted = {ONE.id: ONE, TWO.id: TWO}[revision]
    assert await server.manifest(revision) == wanted.data
    for name, data in wanted.chunks.items():
        assert bytes((await server.chunk(name)).data) == data


async def test_a_publish_cut_at_any_point_leaves_the_old_state_or_the_new_one_whole(
    home: Home, publisher: Publisher
) -> None:
    found = []
    lives = 0
    while await crash(home, lives):
        now = stable(await home.load())
        await assert_serves_whole(home, now)
        found.append(now)
        if now == TWO.id:  # back to the start, for the next crash
            fresh = await publisher_of(home, home.open_store(), await home.load())
            await fresh.roll("chat", "stable", ONE.id)
        lives += 1
    assert found[:4] == [ONE.id] * 4
    await assert_serves_whole(home, TWO.id)


async def test_a_repeat_after_a_crash_finds_what_was_stored(
    home: Home, publisher: Publisher
) -> None:
    assert await crash(home, 2)
    assert await home.open_store().missing_chunks(TWO.chunks) == []
    assert not await crash(home, 1_000)
    await assert_serves_whole(home, TWO.id)


class SlowStore(ObjectStore):
    """Waits in the middle of a commit."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.waiting, self.go_on = asyncio.Event(), asyncio.Event()

    async def put_trust_documents(self, documents: Mapping[str, bytes], **options: Any) -> None:
        self.waiting.set()
        await self.go_on.wait()
        await super().put_trust_documents(documents, **options)


async def test_a_change_runs_to_its_end_when_whoever_asked_hangs_up(
    home: Home, publisher: Publisher
) -> None:
    store = SlowStore(home.config.store)
    slow = await publisher_of(home, store, publisher.repository)
    await home.fill(store, TWO)
    asking = asyncio.create_task(slow.publish(home.sign(slow.repository, TWO)))
    await store.waiting.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    store.go_on.set()
    await slow.aclose()
    assert ("chat", TWO.id) in slow.repository.view.revisions
    assert (await home.load()).view == slow.repository.view


class FullStore(ObjectStore):
    """Has no room left when the change is to be committed."""

    async def put_trust_documents(self, documents: Mapping[str, bytes], **options: Any) -> None:
        raise StoreError("no space left")


async def test_a_commit_that_fails_changes_nothing_and_may_be_repeated(
    home: Home, publisher: Publisher
) -> None:
    full = await publisher_of(home, FullStore(home.config.store), publisher.repository)
    await home.fill(full.store, TWO)
    with pytest.raises(StoreError):
        await full.publish(home.sign(full.repository, TWO))
    assert full.repository is publisher.repository
    await assert_serves_whole(home, ONE.id)
    await publish_and_roll(home, publisher, TWO)
    await assert_serves_whole(home, TWO.id)


# Publish and roll


async def test_changes_are_announced_after_they_hold(home: Home, publisher: Publisher) -> None:
    log = EventLog("e")
    publisher = Publisher(
        publisher.store, publisher.repository, EventHub(log), set(), clock=time.time
    )
    start = log.last_id
    await publish_and_roll(home, publisher, TWO)
    await publisher.purge("channel:chat@stable", hard=False)
    seen = [(event.kind, event.keys, event.hard) for event in log.since(start)]
    assert seen == [
        ("channel", ("trust",), False),
        ("channel", ("trust", "channel:chat@stable"), False),
        ("purge", ("channel:chat@stable",), False),
    ]
    assert isinstance(log.since(start)[0], Event)


async def test_a_revision_without_a_manifest_is_not_published(
    home: Home, publisher: Publisher
) -> None:
    before = publisher.repository
    with pytest.raises(NotFoundError):
        await publisher.publish(home.sign(before, TWO))
    assert publisher.repository is before


async def test_a_revision_signed_for_another_model_or_size_is_refused(
    home: Home, publisher: Publisher
) -> None:
    other = make_revision({"m.gguf": [chunk_of(1)]}, model="other")
    await home.fill(publisher.store, other)
    lie = replace(other, model="chat")
    with pytest.raises(ConflictError, match="its manifest here is of other"):
        await publisher.publish(home.sign(publisher.repository, lie))


async def test_a_revision_signed_as_another_kind_is_refused(
    home: Home, publisher: Publisher
) -> None:
    site = make_site({"index.html": b"page"})
    await home.fill(publisher.store, site)
    with pytest.raises(ConflictError, match="is static by its manifest"):
        await publisher.publish(home.sign(publisher.repository, site))


async def test_rolls_at_the_same_time_take_turns(home: Home, publisher: Publisher) -> None:
    await publish_and_roll(home, publisher, TWO)
    before = publisher.repository.view.pointer("chat", "stable").sequence
    targets = [ONE.id, TWO.id] * 4
    await asyncio.gather(*(publisher.roll("chat", "stable", target) for target in targets))
    pointer = publisher.repository.view.pointer("chat", "stable")
    assert pointer.sequence == before + len(targets)
    assert (await home.load()).view == publisher.repository.view


async def test_rolling_to_where_it_points_changes_nothing(home: Home, publisher: Publisher) -> None:
    before = await home.open_store().trust_documents()
    await publisher.roll("chat", "stable", ONE.id)
    assert await home.open_store().trust_documents() == before


async def test_an_unpublished_revision_cannot_be_rolled_to(publisher: Publisher) -> None:
    with pytest.raises(NotFoundError, match="publish it first"):
        await publisher.roll("chat", "stable", TWO.id)


async def test_the_generation_before_is_kept_for_clients_in_the_middle_of_an_update(
    publisher: Publisher,
) -> None:
    server = OriginServer(publisher)
    name = f"{publisher.repository.view.versions['snapshot']}.snapshot.json"
    snapshot = server.document(name)
    await publisher.roll("chat", "beta", ONE.id)
    await publisher.renew()
    assert server.document(name) == snapshot
    await publisher.roll("chat", "gamma", ONE.id)
    with pytest.raises(NotFoundError):
        server.document(name)


async def test_status_describes_channels_revisions_and_trust(publisher: Publisher) -> None:
    told = describe(publisher.repository)
    assert told["channels"] == [
        {"model": "chat", "channel": "stable", "revision": ONE.id, "sequence": 1}
    ]
    assert told["revisions"] == [{"model": "chat", "revision": ONE.id}]


# Takedown


async def test_a_takedown_is_final_across_restarts(home: Home, publisher: Publisher) -> None:
    chunk = next(iter(ONE.chunks))
    for key in (f"chunk:{chunk}", f"revision:{ONE.id}", "channel:chat@stable"):
        await publisher.purge(key, hard=True)
    restarted = await publisher_of(home, home.open_store(), await home.load())
    for taken in (publisher, restarted):
        server = OriginServer(taken)
        with pytest.raises(GoneError):
            await server.chunk(chunk)
        with pytest.raises(GoneError):
            await server.deliver(chunk)
        with pytest.raises(GoneError):
            await server.manifest(ONE.id)
        with pytest.raises(GoneError):
            await server.channel("chat", "stable")
        with pytest.raises(GoneError):
            await taken.roll("chat", "beta", ONE.id)
        with pytest.raises(GoneError):
            await publish_and_roll(home, taken, ONE)


@pytest.mark.parametrize(
    "key",
    ["", "x", "chunk:", "chunk:../..", "revision:" + "g" * 64, "channel:chat", "channel:a@b@c"],
)
@pytest.mark.parametrize("hard", [True, False])
async def test_a_key_that_can_name_nothing_is_refused(
    publisher: Publisher, key: str, hard: bool
) -> None:
    with pytest.raises(NameInvalidError):
        await publisher.purge(key, hard=hard)


async def test_all_metadata_can_be_invalidated_but_not_taken_down(publisher: Publisher) -> None:
    for key in ("trust", "*"):
        await publisher.purge(key, hard=False)
        with pytest.raises(NameInvalidError):
            await publisher.purge(key, hard=True)


# Delivery


async def test_a_chunk_is_delivered_from_its_file_and_proven_where_it_is_doubted(
    home: Home, publisher: Publisher
) -> None:
    server = OriginServer(publisher)
    name, data = next(iter(ONE.chunks.items()))
    fast = (await server.deliver(name)).body
    assert isinstance(fast, StoredChunk)
    assert fast.path.read_bytes() == data
    proven = (await server.deliver(name, revalidate=True)).body
    assert isinstance(proven, Chunk)
    flip_bit(chunk_file(home.store_folder, name))
    with pytest.raises(ChunkMismatchError):
        await server.deliver(name, revalidate=True)
    with pytest.raises(NotFoundError):
        await server.deliver(name)
    await publisher.put_chunk(Chunk.of(data))
    assert isinstance((await server.deliver(name)).body, StoredChunk)


# Several origins on one bucket


async def test_of_two_origins_that_change_at_once_neither_loses_its_change() -> None:
    shelf = Shelf()
    one, two = await shelf.origin(), await shelf.origin()
    await shelf.publish(one, ONE)
    await asyncio.gather(
        *(origin.roll("chat", f"{name}-{turn}", ONE.id)
          for turn in range(4) for name, origin in (("one", one), ("two", two)))
    )  # fmt: skip
    wanted = {("chat", f"{name}-{turn}") for turn in range(4) for name in ("one", "two")}
    for origin in (one, two):
        await origin.refresh()
        assert origin.repository.view.channels.keys() == {*wanted, ("chat", "stable")}
    assert one.repository.view == two.repository.view == (await shelf.origin()).repository.view


async def test_a_change_between_the_reading_and_the_writing_is_not_overwritten() -> None:
    shelf = Shelf()
    one, two = await shelf.origin(), await shelf.origin()
    await shelf.publish(one, ONE)
    await two.refresh()
    documents = dict(one.repository.files)
    moved = one.repository.set_channel("chat", "theirs", ONE.id, now=shelf.now)

    def interfere() -> None:
        shelf.objects.before_swap = lambda: None
        texts = {name: data.decode() for name, data in {**documents, **moved.files}.items()}
        shelf.objects.put("trust/documents.json", msgspec.json.encode(texts))

    shelf.objects.before_swap = interfere
    await two.roll("chat", "ours", ONE.id)
    await one.refresh()
    for origin in (one, two):
        assert {channel for _, channel in origin.repository.view.channels} == {
            "stable", "theirs", "ours",
        }  # fmt: skip


async def test_an_origin_that_is_always_late_says_so_and_changes_nothing() -> None:
    shelf = Shelf()
    one, two = await shelf.origin(), await shelf.origin()
    await shelf.publish(one, ONE)
    now = [shelf.now]

    def renew() -> None:
        now[0] += 1
        documents = msgspec.json.decode(shelf.objects.kept["trust/documents.json"][0])
        texts = {name: text.encode() for name, text in documents.items()}
        renewed = Repository.load(texts, ONLINE_KEY).retimestamp(now=now[0]).files
        merged = {**documents, **{name: data.decode() for name, data in renewed.items()}}
        shelf.objects.put("trust/documents.json", msgspec.json.encode(merged))

    shelf.objects.before_swap = renew
    for _ in range(2):  # the second time its own state is as new as the store's
        with pytest.raises(ConflictError):
            await two.roll("chat", "ours", ONE.id)
    shelf.objects.before_swap = lambda: None
    await two.roll("chat", "ours", ONE.id)
    await one.refresh()
    assert {channel for _, channel in one.repository.view.channels} == {"stable", "ours"}


async def test_what_does_not_verify_is_not_taken_over() -> None:
    shelf = Shelf()
    one = await shelf.origin()
    before = one.repository
    shelf.objects.put("trust/documents.json", b'{"timestamp.json": "{}"}')
    with pytest.raises(HeadwaterError):
        await one.refresh()
    with pytest.raises(HeadwaterError):
        await one.renew()
    assert one.repository is before


# Canaries, and pointers that are signed on condition


async def test_a_channel_can_be_pointed_with_a_canary_and_without_it_again() -> None:
    shelf = Shelf()
    origin = await shelf.origin()
    signed: list[ChannelPointer] = []
    origin.on_pointer = signed.append
    await shelf.publish(origin, TWO, channel="")
    await shelf.publish(origin, ONE)
    canary = Canary(revision=TWO.id, percent=10, seed=7)
    pointer = await origin.roll("chat", "stable", ONE.id, canary=canary, sequence=1)
    assert (pointer.revision, pointer.canary, pointer.sequence) == (ONE.id, canary, 2)
    assert describe(origin.repository)["channels"] == [
        {
            "model": "chat",
            "channel": "stable",
            "revision": ONE.id,
            "sequence": 2,
            "canary": canary,
        }
    ]
    after = await origin.roll("chat", "stable", ONE.id, sequence=2)
    assert (after.canary, after.sequence) == (None, 3)
    assert [one.sequence for one in signed] == [1, 2, 3]


async def test_a_pointer_that_follows_another_one_than_is_there_is_not_signed() -> None:
    shelf = Shelf()
    one, two = await shelf.origin(), await shelf.origin()
    await shelf.publish(one, TWO, channel="")
    await shelf.publish(one, ONE)
    with pytest.raises(ConflictError, match="moved by somebody else"):
        await two.roll("chat", "stable", TWO.id, sequence=0)
    await one.roll("chat", "stable", TWO.id)
    with pytest.raises(ConflictError, match="moved by somebody else"):
        await two.roll("chat", "stable", ONE.id, sequence=1)
    assert stable(two.repository) == TWO.id
    assert (await two.roll("chat", "new", ONE.id, sequence=0)).sequence == 1


async def test_a_canary_of_what_was_taken_down_is_not_signed() -> None:
    shelf = Shelf()
    origin = await shelf.origin()
    await shelf.publish(origin, TWO, channel="")
    await shelf.publish(origin, ONE)
    await origin.purge(f"revision:{TWO.id}", hard=True)
    with pytest.raises(GoneError):
        await origin.roll("chat", "stable", ONE.id, canary=Canary(revision=TWO.id, percent=10))
