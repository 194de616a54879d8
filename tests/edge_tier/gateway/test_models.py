from __future__ import annotations

import asyncio

import pytest

from edge_tier.gateway.canary import ANYWHERE, Lane
from edge_tier.gateway.models import ModelDirectory, ModelsConfig
from edge_tier.gateway.request import Message, Prompt
from tests.fakes.gateway import MODEL, publish_tiny, trusting
from tests.fakes.source import MemorySource
from wire.channel import Canary
from wire.errors import (
    ManifestInvalidError,
    NotFoundError,
    SourceUnavailableError,
    TrustError,
)
from wire.manifest import ChunkRef, FileEntry, build, encode

HELLO = Prompt(kind="chat", model=MODEL, messages=(Message("user", "hello"),))


@pytest.fixture
def source() -> MemorySource:
    return MemorySource()


async def test_channels_are_what_is_signed(source: MemorySource) -> None:
    revision = publish_tiny(source)
    assert ModelDirectory(source, lambda: None).channels() == {}
    assert ModelDirectory(source, lambda: trusting(revision)).channels() == {MODEL: revision}


async def test_a_static_site_answers_no_prompt(source: MemorySource) -> None:
    view = trusting(publish_tiny(source), static=True)
    assert ModelDirectory(source, lambda: view).channels() == {}


async def test_a_model_is_loaded_once_for_all_who_wait(source: MemorySource) -> None:
    revision = publish_tiny(source)
    directory = ModelDirectory(source, lambda: trusting(revision))
    first, *others = await asyncio.gather(*(directory.model(MODEL, revision) for _ in range(20)))
    assert all(other is first for other in others)
    assert source.calls[f"revision:{revision}"] == 1
    tokens = await first.tokenize(HELLO)
    assert (tokens.model, tokens.revision) == (MODEL, revision)
    assert len(tokens) == len(tokens.ids) > 3


async def test_one_who_leaves_does_not_take_the_model_from_the_others(
    source: MemorySource,
) -> None:
    revision = publish_tiny(source)
    source.gate = asyncio.Event()
    directory = ModelDirectory(source, lambda: trusting(revision))
    leaving = asyncio.create_task(directory.model(MODEL, revision))
    staying = asyncio.create_task(directory.model(MODEL, revision))
    await source.until_called(1)
    leaving.cancel()
    source.gate.set()
    assert (await staying).tokenizer.revision == revision


async def test_an_unsigned_revision_is_never_loaded(source: MemorySource) -> None:
    signed, unsigned = publish_tiny(source), publish_tiny(source, seed=1)
    directory = ModelDirectory(source, lambda: trusting(signed))
    with pytest.raises(TrustError):
        await directory.model(MODEL, unsigned)
    with pytest.raises(TrustError):
        await ModelDirectory(source, lambda: None).model(MODEL, signed)
    assert source.call_count == 0


async def test_a_failure_is_not_remembered(source: MemorySource) -> None:
    revision = publish_tiny(source)
    directory = ModelDirectory(source, lambda: trusting(revision))
    source.failures.append(SourceUnavailableError("away"))
    with pytest.raises(SourceUnavailableError):
        await directory.model(MODEL, revision)
    assert await directory.model(MODEL, revision)


async def test_a_model_loaded_ahead_is_there_when_it_is_needed(source: MemorySource) -> None:
    revision = publish_tiny(source)
    directory = ModelDirectory(source, lambda: trusting(revision))
    directory.prefetch(MODEL, revision)
    directory.prefetch(MODEL, revision)
    await directory.model(MODEL, revision)
    assert source.calls[f"revision:{revision}"] == 1
    directory.prefetch(MODEL, "f" * 64)  # fails, and only the log hears of it
    await directory.aclose()


async def test_the_least_recently_used_goes(source: MemorySource) -> None:
    revisions = [publish_tiny(source, seed=seed) for seed in range(2)]
    directory = ModelDirectory(source, lambda: trusting(*revisions), ModelsConfig(loaded=1))
    for revision in (*revisions, revisions[0]):
        await directory.model(MODEL, revision)
    assert source.calls[f"revision:{revisions[0]}"] == 2


async def test_a_bundle_over_the_bound_is_not_read(source: MemorySource) -> None:
    revision = publish_tiny(source)
    directory = ModelDirectory(
        source, lambda: trusting(revision), ModelsConfig(max_bundle_bytes=10)
    )
    with pytest.raises(ManifestInvalidError, match="max_bundle_bytes"):
        await directory.model(MODEL, revision)


async def test_a_revision_without_bundle_says_what_is_missing(source: MemorySource) -> None:
    chunk = source.add_chunk(b"x")
    entry = FileEntry(
        path="m.gguf", size=1, sha256="0" * 64, role="weights", chunks=(ChunkRef(chunk, 1),)
    )
    revision = source.add_manifest(encode(build(MODEL, (entry,), {})))
    directory = ModelDirectory(source, lambda: trusting(revision))
    with pytest.raises(NotFoundError, match="model file"):
        await directory.model(MODEL, revision)


def test_a_lane_follows_the_view(source: MemorySource) -> None:
    old, new = "a" * 64, "b" * 64
    canary = Canary(revision=new, percent=50, by="callers")
    views = [trusting(old, new, canary=canary)]
    directory = ModelDirectory(source, lambda: views[0])
    lanes = {name: directory.lane(MODEL, name) for name in map(str, range(40))}
    assert set(lanes.values()) == {Lane(only=new), Lane(never=new)}
    assert {name: directory.lane(MODEL, name) for name in lanes} == lanes
    assert directory.lane("another", "1") == ANYWHERE
    views[0] = trusting(old, new, canary=Canary(revision=new, percent=50))
    assert {directory.lane(MODEL, name) for name in lanes} == {ANYWHERE}
    views[0] = trusting(new, old)
    assert {directory.lane(MODEL, name) for name in lanes} == {ANYWHERE}
