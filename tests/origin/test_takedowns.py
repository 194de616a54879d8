from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from origin.announce import Publisher
from origin.errors import StoreError
from origin.serving import OriginServer
from origin.takedowns import MAX_EVENTS, MAX_LISTED, TakedownRoutes, event_batches, listing
from tests.fakes.revisions import chunk_of, make_revision
from tests.fakes.upkeep import Shelf
from wire.chunk import Chunk, ChunkId
from wire.errors import GoneError
from wire.events import MAX_EVENT_BYTES, Event, EventLog, encode_event
from wire.http_errors import error_middleware
from wire.paths import TAKEDOWNS

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(2), chunk_of(3)]})
Client = TestClient[web.Request, web.Application]


@pytest.fixture
def log() -> EventLog:
    return EventLog("e")


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def publisher(shelf: Shelf, log: EventLog) -> Publisher:
    made = await shelf.origin(log)
    await shelf.publish(made, ONE, channel="")
    await shelf.publish(made, TWO)
    return made


def only(revision: int) -> ChunkId:
    """The chunk that only this one of the two has."""
    one, two = set(ONE.chunks), set(TWO.chunks)
    (name,) = one - two if revision == 1 else two - one
    return name


async def test_a_revision_takes_down_the_chunks_that_only_it_uses(
    shelf: Shelf, publisher: Publisher, log: EventLog
) -> None:
    start = log.last_id
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    assert publisher.gone == {f"revision:{ONE.id}"}
    events = [(event.kind, event.keys, event.hard) for event in log.since(start)]
    assert events == [
        ("purge", (f"revision:{ONE.id}",), True),
        ("purge", (f"chunk:{only(1)}",), False),
    ]
    restarted = await shelf.origin()
    for taken in (publisher, restarted):
        server = OriginServer(taken)
        with pytest.raises(GoneError):
            await server.chunk(only(1))
        for name in TWO.chunks:
            assert (await server.chunk(name)).id == name


async def test_a_new_revision_may_use_what_went_with_another(
    shelf: Shelf, publisher: Publisher
) -> None:
    """Else one bad file taken down would make its corrected successor impossible."""
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    data = ONE.chunks[only(1)]
    again = make_revision({"corrected.gguf": [data, chunk_of(77)]})
    await shelf.publish(publisher, again, channel="")
    for taken in (publisher, await shelf.origin()):
        assert (await OriginServer(taken).chunk(only(1))).data == data
        with pytest.raises(GoneError):
            await OriginServer(taken).manifest(ONE.id)


async def test_a_new_revision_cannot_bring_back_what_was_named_itself(
    shelf: Shelf, publisher: Publisher
) -> None:
    await publisher.purge(f"chunk:{only(1)}", hard=True)
    again = make_revision({"other.gguf": [ONE.chunks[only(1)]]})
    for refused in (
        publisher.missing([only(1)]),
        publisher.put_chunk(Chunk.of(ONE.chunks[only(1)])),
        publisher.put_manifest(again.id, again.data),
    ):
        with pytest.raises(GoneError):
            await refused


async def test_after_both_went_down_so_did_what_they_shared(publisher: Publisher) -> None:
    for revision in (ONE, TWO):
        await publisher.purge(f"revision:{revision.id}", hard=True)
    assert publisher.withheld == {f"chunk:{name}" for name in (*ONE.chunks, *TWO.chunks)}
    assert publisher.gone == {f"revision:{ONE.id}", f"revision:{TWO.id}"}


async def test_a_repeat_tells_again_and_changes_nothing(
    publisher: Publisher, log: EventLog
) -> None:
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    gone, start = set(publisher.gone), log.last_id
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    assert publisher.gone == gone
    told = {key for event in log.since(start) for key in event.keys}
    assert told == gone | publisher.withheld


async def test_chunks_stay_where_nobody_knows_who_else_needs_them(
    shelf: Shelf, publisher: Publisher
) -> None:
    shelf.objects.put(f"manifests/{TWO.id}", b"rot")
    with pytest.raises(StoreError, match="its chunks were not"):
        await publisher.purge(f"revision:{ONE.id}", hard=True)
    assert publisher.gone == {f"revision:{ONE.id}"}


async def test_another_origin_on_the_bucket_hears_of_it(shelf: Shelf, publisher: Publisher) -> None:
    log = EventLog("other")
    other = await shelf.origin(log)
    start = log.last_id
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    await other.refresh()
    assert other.gone == publisher.gone
    assert other.withheld == publisher.withheld
    assert {key for event in log.since(start) for key in event.keys} == publisher.gone


# Events and the list

surrogate = st.text(st.characters(codec="ascii", exclude_characters='"\\', min_codepoint=33))


@given(keys=st.lists(surrogate.map(lambda text: f"channel:{text[:200]}"), max_size=30))
def test_batches_hold_every_key_once_and_in_order(keys: list[str]) -> None:
    assert [key for batch in event_batches(keys) for key in batch or ()] == keys


def test_an_event_fits_its_bound_and_too_many_become_a_reset() -> None:
    many = [f"chunk:{number:064x}" for number in range(100_000)]
    batches = list(event_batches(many))
    assert len(batches) == MAX_EVENTS
    assert batches[-1] is None
    for batch in batches[:-1]:
        assert batch is not None
        event = Event(id="e" * 40, kind="purge", keys=tuple(batch), hard=True)
        assert len(encode_event(event)) <= MAX_EVENT_BYTES


def test_the_list_is_sorted_bounded_and_knows_its_count() -> None:
    found = listing({"revision:b", "chunk:a"}, None)
    assert (found.keys, found.count) == (["chunk:a", "revision:b"], 2)
    assert listing({"chunk:a"}, 1).keys == []
    assert listing({"chunk:a"}, 0).keys == ["chunk:a"]
    many = {f"chunk:{number:064x}" for number in range(MAX_LISTED)} | {"revision:z"}
    found = listing(many, None)
    assert (len(found.keys), found.count) == (MAX_LISTED, MAX_LISTED + 1)
    assert found.keys[-1] == "revision:z"
    assert found.keys == sorted(found.keys)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    app = web.Application(middlewares=[error_middleware()])
    TakedownRoutes(gone=lambda: {"revision:b", "chunk:a"}).add_to(app)
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_anybody_may_ask_for_the_list(client: Client) -> None:
    answer = await client.get(TAKEDOWNS)
    assert await answer.json() == {"keys": ["chunk:a", "revision:b"], "count": 2}
    assert answer.headers["Cache-Control"] == "public, max-age=5"
    again = await client.get(TAKEDOWNS, headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status == 304
    known = await client.get(TAKEDOWNS, params={"since": "2"})
    assert msgspec.json.decode(await known.read()) == {"keys": [], "count": 2}


@pytest.mark.parametrize("since", ["", "x", "-1", "1" * 10, "٣"])
async def test_a_count_that_is_none_is_refused(client: Client, since: str) -> None:
    assert (await client.get(TAKEDOWNS, params={"since": since})).status == 400
