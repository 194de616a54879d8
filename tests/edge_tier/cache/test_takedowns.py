from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.cache.fill import CachingSource
from edge_tier.cache.takedowns import (
    MAX_TAKEDOWNS,
    TakedownReader,
    decode_takedowns,
    encode_takedowns,
)
from tests.fakes.cache import EdgeFactory
from tests.fakes.cached_models import card_chunk, publish
from tests.fakes.source import MemorySource
from tests.fakes.tier import Canned, stub_tier
from wire.errors import GoneError, SourceUnavailableError
from wire.paths import TAKEDOWNS, revision_key

KEYS = (f"chunk:{'a' * 64}", f"revision:{'b' * 64}")


def _chunk_files(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "chunks" / "chunks").rglob("*") if path.is_file()}


def test_a_list_has_one_form_whatever_the_order() -> None:
    assert encode_takedowns(KEYS) == encode_takedowns(KEYS[::-1])
    assert decode_takedowns(encode_takedowns(KEYS)[0]) == KEYS
    assert encode_takedowns(KEYS)[1] != encode_takedowns(())[1]


@given(st.binary(max_size=300))
def test_garbage_is_an_error_of_the_upstream(data: bytes) -> None:
    try:
        decode_takedowns(data)
    except SourceUnavailableError:
        return
    assert isinstance(json.loads(data)["keys"], list)


def test_a_list_beyond_the_bound_is_refused() -> None:
    body = json.dumps({"keys": ["x"] * (MAX_TAKEDOWNS + 1)}).encode()
    with pytest.raises(SourceUnavailableError):
        decode_takedowns(body)


async def test_a_list_is_read_once_and_then_only_asked_about() -> None:
    body, etag = encode_takedowns(KEYS)
    with stub_tier({f"GET {TAKEDOWNS}": Canned(body, headers={"ETag": etag})}) as stub:
        reader = TakedownReader(stub.url)
        assert await reader.read() == KEYS
        stub.answers[f"GET {TAKEDOWNS}"] = Canned(status=304)
        assert await reader.read() is None
        assert "if-none-match" not in stub.received[0].headers
        assert stub.received[1].headers["if-none-match"] == etag
        reader.close()


async def test_an_upstream_without_a_list_has_none() -> None:
    with stub_tier({}) as stub:
        reader = TakedownReader(stub.url)
        assert await reader.read() is None
        stub.answers[f"GET {TAKEDOWNS}"] = Canned(status=500)
        with pytest.raises(SourceUnavailableError):
            await reader.read()
        reader.close()


async def test_what_a_list_names_is_taken_down_once(
    edge: CachingSource, upstream: MemorySource
) -> None:
    chunk = upstream.add_chunk(b"weights")
    await edge.deliver(chunk)
    named = [f"chunk:{chunk}", "channel:chat@stable", "trust", "*", "chunk:../../etc", ""]
    assert await edge.take_down(named) == [f"chunk:{chunk}"], "only content can be taken down"
    with pytest.raises(GoneError):
        await edge.deliver(chunk)
    assert await edge.take_down(named) == []
    assert edge.takedowns() == (f"chunk:{chunk}",)


async def test_a_takedown_of_a_revision_drops_the_chunks_that_only_it_used(
    edge: CachingSource, upstream: MemorySource, tmp_path: Path
) -> None:
    bad, ids = publish(upstream, {"": [b"shared" * 99, b"only here" * 99]})
    good, _ = publish(upstream, {"": [b"shared" * 99, b"of the other" * 99]})
    shared, alone = ids[""]
    for revision in (bad, good):
        await edge.manifest(revision)
    for chunk in (shared, alone, card_chunk(upstream)):
        await edge.deliver(chunk)
    await edge.purge([revision_key(bad)], hard=True)
    assert _chunk_files(tmp_path) == {shared, card_chunk(upstream)}
    assert edge.store.locate(alone) is None


async def test_two_revisions_that_go_together_take_what_only_they_share(
    edge: CachingSource, upstream: MemorySource, tmp_path: Path
) -> None:
    first, ids = publish(upstream, {"": [b"shared" * 99]})
    second, _ = publish(upstream, {"": [b"shared" * 99, b"more" * 99]})
    for revision in (first, second):
        await edge.manifest(revision)
    await edge.deliver(ids[""][0])
    await edge.purge([revision_key(first), revision_key(second)], hard=True)
    assert _chunk_files(tmp_path) == set()


async def test_a_kill_between_writing_down_and_dropping_is_made_good_at_the_start(
    open_edge: EdgeFactory, upstream: MemorySource, tmp_path: Path
) -> None:
    revision, ids = publish(upstream, {"": [b"weights" * 99]})
    async with open_edge() as edge:
        await edge.manifest(revision)
        await edge.deliver(ids[""][0])
        # What a purge does first; then comes the kill.
        await edge.documents.put("takedowns", revision_key(revision).encode())
    async with open_edge() as edge:
        assert _chunk_files(tmp_path) == set()
        with pytest.raises(GoneError):
            await edge.manifest(revision)
