from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.facades import make_model, weights_of
from tests.fakes.source import MemorySource
from wire.errors import GoneError, TooLargeError
from wire.paths import revision_key
from wire.revision_reader import RevisionReader

MODELS = [make_model("chat", seed=seed) for seed in range(3)]


@pytest.fixture
def source() -> MemorySource:
    source = MemorySource()
    for model in MODELS:
        source.add_manifest(model.data)
        source.chunks |= model.chunks
    return source


async def test_a_manifest_is_asked_for_once(
    source: MemorySource, executor: ThreadPoolExecutor
) -> None:
    reader = RevisionReader(source, executor, 1_000_000)
    first = await reader.manifest(MODELS[0].id)
    assert await reader.manifest(MODELS[0].id) is first
    assert first == MODELS[0].manifest
    assert source.call_count == 1


async def test_the_one_not_asked_for_longest_is_dropped(
    source: MemorySource, executor: ThreadPoolExecutor
) -> None:
    reader = RevisionReader(source, executor, 2 * len(MODELS[0].data) + 10)
    for index in (0, 1, 0, 2, 0, 1):
        await reader.manifest(MODELS[index].id)
    assert [source.calls[revision_key(model.id)] for model in MODELS] == [1, 2, 1]


async def test_one_too_large_to_keep_is_read_all_the_same(
    source: MemorySource, executor: ThreadPoolExecutor
) -> None:
    reader = RevisionReader(source, executor, 10)
    for _ in range(2):
        assert await reader.manifest(MODELS[0].id) == MODELS[0].manifest
    assert source.call_count == 2


async def test_what_was_taken_down_is_not_read_from_memory(
    source: MemorySource, executor: ThreadPoolExecutor
) -> None:
    reader = RevisionReader(source, executor, 1_000_000)
    await reader.manifest(MODELS[0].id)
    source.gone.add(revision_key(MODELS[0].id))
    with pytest.raises(GoneError):
        await reader.manifest(MODELS[0].id)


async def test_small_files_are_read_whole(
    source: MemorySource, executor: ThreadPoolExecutor
) -> None:
    reader = RevisionReader(source, executor, 1_000_000)
    name, data = weights_of(MODELS[0])
    entry = MODELS[0].manifest.file(name)
    assert await reader.read(entry, len(data)) == data
    with pytest.raises(TooLargeError):
        await reader.read(entry, len(data) - 1)
