from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpu_worker.disk import BITMAP, ModelFolder, PartialRevision
from gpu_worker.errors import DiskError, DiskFullError
from gpu_worker.parallelism import ParallelismConfig
from gpu_worker.pull import PullConfig, PullReport, pull
from tests.fakes.publishing import flip_bit
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, chunk_of, make_revision
from tests.fakes.source import MemorySource
from tests.fakes.waiting import until
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId, hash_chunk
from wire.errors import (
    ChunkMismatchError,
    ManifestInvalidError,
    NotFoundError,
    SourceUnavailableError,
)
from wire.http_errors import error_middleware
from wire.http_routes import ArtifactRoutes
from wire.manifest import ChunkRef, FileEntry, build, encode, revision_of
from wire.source import Delivery, Source, StoredChunk
from wire.sources.failover import Failover
from wire.sources.nearest import Nearest

ROOT = Path(__file__).resolve().parents[2]
MIB, GIB = 2**20, 2**30
A, B, C, D = (chunk_of(seed, 2_000) for seed in range(4))
REVISION = make_revision({"m.gguf": [A, B, A, C], "card.json": [D, A]})
PARALLEL = 3
QUICK = PullConfig(parallelism=ParallelismConfig(start=PARALLEL, most=PARALLEL), busy_poll_s=0.001)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as pool:
        yield pool


class Kit:
    """A folder to pull into, and what is pulled from."""

    def __init__(self, root: Path, executor: ThreadPoolExecutor) -> None:
        self.folder = ModelFolder(root)
        self.source = MemorySource()
        self.executor = executor
        self.progress: list[tuple[str, int, int]] = []

    def hold(self, revision: Revision) -> str:
        self.source.chunks |= revision.chunks
        return self.source.add_manifest(revision.data)

    async def pull(self, revision: Revision, source: Source | None = None) -> PullReport:
        return await pull(
            revision.model,
            revision.id,
            source or self.source,
            self.folder,
            self.executor,
            config=QUICK,
            progress=lambda *step: self.progress.append(step),
        )

    def chunk_calls(self) -> Counter[str]:
        return Counter({k: n for k, n in self.source.calls.items() if k.startswith("chunk:")})

    def assert_whole(self, revision: Revision) -> None:
        path = self.folder.path(revision.model, revision.id)
        found = {name: (path / name).read_bytes() for name in revision.files}
        assert found == revision.files
        assert not self.folder.partial(revision.model, revision.id).exists()


@pytest.fixture
def kit(executor: ThreadPoolExecutor) -> Iterator[Kit]:
    with quick_folder() as folder:
        made = Kit(folder, executor)
        made.hold(REVISION)
        yield made


# What arrives


async def test_a_pull_brings_every_byte_and_asks_for_each_chunk_once(kit: Kit) -> None:
    report = await kit.pull(REVISION)
    kit.assert_whole(REVISION)
    assert kit.chunk_calls() == Counter({f"chunk:{name}": 1 for name in REVISION.chunks})
    assert report.size == report.fetched_bytes == REVISION.unique_bytes
    assert report.fetched_chunks == 4
    assert list(report.steps_ms) == [
        "manifest",
        "open",
        "resume",
        "find",
        "fetch",
        "seed",
        "commit",
    ]
    assert kit.progress[-1] == ("net", report.size, report.size)


async def test_a_revision_that_is_here_is_not_asked_for(kit: Kit) -> None:
    await kit.pull(REVISION)
    kit.source.calls.clear()
    kit.source.down = SourceUnavailableError("away")
    report = await kit.pull(REVISION)
    assert (report.size, report.resumed_bytes) == (REVISION.unique_bytes, REVISION.unique_bytes)
    assert kit.source.call_count == 0
    assert kit.progress[-1] == ("disk", report.size, report.size)


async def test_no_more_chunks_are_under_way_than_allowed(kit: Kit) -> None:
    many = make_revision({"m.gguf": [chunk_of(n) for n in range(100, 120)]})
    kit.hold(many)
    kit.source.gate = asyncio.Event()
    pulling = asyncio.create_task(kit.pull(many))
    await kit.source.until_called(1)
    kit.source.gate.set()  # the manifest
    kit.source.gate = asyncio.Event()
    await kit.source.until_called(1 + PARALLEL)
    assert kit.source.call_count == 1 + PARALLEL
    kit.source.gate.set()
    await pulling
    kit.assert_whole(many)


# Seeds


async def test_what_an_older_revision_has_is_copied_and_not_fetched(kit: Kit) -> None:
    await kit.pull(REVISION)
    newer = make_revision({"m.gguf": [A, chunk_of(7), C], "card.json": [D]})
    kit.hold(newer)
    kit.source.calls.clear()
    report = await kit.pull(newer)
    kit.assert_whole(newer)
    assert kit.chunk_calls() == {f"chunk:{hash_chunk(chunk_of(7))}": 1}
    assert (report.seeded_bytes, report.fetched_bytes) == (6_000, 1_000)


async def test_a_rotten_seed_is_fetched_instead(kit: Kit) -> None:
    await kit.pull(REVISION)
    flip_bit(kit.folder.path("chat", REVISION.id) / "card.json")  # in D, at 2,000 of 4,000: in A
    (kit.folder.path("chat", REVISION.id) / "m.gguf").write_bytes(bytes(8_000))
    newer = make_revision({"m.gguf": [A, B, D]})
    kit.hold(newer)
    kit.source.calls.clear()
    report = await kit.pull(newer)
    kit.assert_whole(newer)
    assert set(kit.chunk_calls()) == {f"chunk:{hash_chunk(A)}", f"chunk:{hash_chunk(B)}"}
    assert (report.seeded_bytes, report.fetched_bytes) == (2_000, 4_000)


# Interruptions


class Faucet(MemorySource):
    """Gives so many chunks, and then none until it is opened."""

    def __init__(self, allowed: int) -> None:
        super().__init__("faucet")
        self.allowed = allowed
        self.opened = asyncio.Event()
        self.waiting = 0

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        found = await super().chunk(id, revalidate=revalidate)
        if self.allowed == 0:
            self.waiting += 1
            await self.opened.wait()
        else:
            self.allowed -= 1
        return found


def faucet(*revisions: Revision, allowed: int) -> Faucet:
    made = Faucet(allowed)
    for revision in revisions:
        made.add_manifest(revision.data)
        made.chunks |= revision.chunks
    return made


async def interrupted(kit: Kit, chunks: int) -> asyncio.Task[PullReport]:
    """A pull that hangs after so many chunks, all of them written and claimed."""
    claims = kit.folder.partial("chat", REVISION.id) / BITMAP
    source = faucet(REVISION, allowed=chunks)
    pulling = asyncio.create_task(kit.pull(REVISION, source))
    waiters = min(PARALLEL, len(REVISION.chunks) - chunks)
    await until(lambda: source.waiting == waiters and claims.read_bytes().count(b"\x01") == chunks)
    return pulling


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


@pytest.mark.parametrize("chunks", [0, 1, 2, 3])
async def test_a_cancelled_pull_goes_on_where_it_was(kit: Kit, chunks: int) -> None:
    await cancel(await interrupted(kit, chunks))
    report = await kit.pull(REVISION)
    kit.assert_whole(REVISION)
    assert report.resumed_bytes == chunks * 2_000
    assert len(kit.chunk_calls()) == len(REVISION.chunks) - chunks


async def test_a_torn_chunk_is_found_on_resume_and_fetched_again(kit: Kit) -> None:
    await cancel(await interrupted(kit, 2))
    flip_bit(kit.folder.partial("chat", REVISION.id) / "m.gguf")  # in the second A
    report = await kit.pull(REVISION)
    kit.assert_whole(REVISION)
    assert report.resumed_bytes == 2_000
    assert f"chunk:{hash_chunk(A)}" in kit.chunk_calls()


async def test_a_source_that_breaks_off_leaves_what_arrived(kit: Kit) -> None:
    source = MemorySource("breaks")
    source.manifests, source.chunks = kit.source.manifests, dict(REVISION.chunks)
    del source.chunks[hash_chunk(D)]
    with pytest.raises(NotFoundError):
        await kit.pull(REVISION, source)
    assert (await kit.pull(REVISION)).fetched_bytes < REVISION.unique_bytes
    kit.assert_whole(REVISION)


async def test_two_pulls_of_one_revision_share_the_work(kit: Kit) -> None:
    reports = await asyncio.gather(kit.pull(REVISION), kit.pull(REVISION), kit.pull(REVISION))
    kit.assert_whole(REVISION)
    assert kit.chunk_calls() == Counter({f"chunk:{name}": 1 for name in REVISION.chunks})
    assert sorted(report.fetched_bytes for report in reports) == [0, 0, REVISION.unique_bytes]


async def test_when_one_of_two_pulls_is_cancelled_the_other_takes_over(kit: Kit) -> None:
    first = await interrupted(kit, 2)
    second = asyncio.create_task(kit.pull(REVISION))
    await kit.source.until_called(1)
    await cancel(first)
    assert (await second).resumed_bytes == 4_000
    kit.assert_whole(REVISION)


# Bad bytes and bad sources


@pytest.mark.parametrize("kind", [Failover, Nearest])
async def test_a_chunk_that_is_bad_in_transit_is_fetched_from_the_next_and_counted(
    kit: Kit, kind: type[Failover]
) -> None:
    bad = MemorySource("bad")
    bad.manifests, bad.chunks = kit.source.manifests, kit.source.chunks
    bad.poisoned = set(REVISION.chunks)
    several = kind([bad, kit.source])
    await kit.pull(REVISION, several)
    kit.assert_whole(REVISION)
    counted = {stats.name: stats for stats in several.stats()}
    assert counted["bad"].mismatches > 0
    assert counted["bad"].chunks == 0
    assert counted["memory"].chunks == len(REVISION.chunks)


async def test_bytes_that_no_source_can_prove_never_reach_the_disk(kit: Kit) -> None:
    kit.source.poisoned = {hash_chunk(B)}
    with pytest.raises(ChunkMismatchError):
        await kit.pull(REVISION)
    partial = PartialRevision(kit.folder.partial("chat", REVISION.id), REVISION.manifest)
    partial.open()
    assert hash_chunk(B) not in partial.resume()
    partial.close()
    assert (partial.folder / "m.gguf").read_bytes()[2_000:4_000] == bytes(2_000)
    assert not kit.folder.path("chat", REVISION.id).exists()


MANY = make_revision({"m.gguf": [chunk_of(seed, 500) for seed in range(300, 330)]})


async def test_a_chunk_that_nobody_can_prove_costs_only_itself(kit: Kit) -> None:
    kit.hold(MANY)
    bad = list(MANY.chunks)[3]
    kit.source.poisoned = {bad}
    with pytest.raises(ChunkMismatchError):
        await kit.pull(MANY)
    kit.source.poisoned = set()
    report = await kit.pull(MANY)
    assert (report.fetched_bytes, report.resumed_bytes) == (500, 29 * 500)
    kit.assert_whole(MANY)


class Shaky(MemorySource):
    """Fails the first request for each chunk of a set."""

    def __init__(self, shaky: set[ChunkId]) -> None:
        super().__init__("shaky")
        self.shaky = shaky

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        if id in self.shaky:
            self.shaky.discard(id)
            raise SourceUnavailableError("not this time")
        return await super().chunk(id, revalidate=revalidate, into=into)


async def test_a_chunk_that_fails_once_is_asked_for_again_at_the_end(kit: Kit) -> None:
    source = Shaky({list(MANY.chunks)[number] for number in (0, 7, 29)})
    source.add_manifest(MANY.data)
    source.chunks |= MANY.chunks
    await kit.pull(MANY, source)
    kit.assert_whole(MANY)


async def test_a_source_that_gives_nothing_is_given_up_soon(kit: Kit) -> None:
    kit.hold(MANY)
    kit.source.poisoned = set(MANY.chunks)
    with pytest.raises(ChunkMismatchError):
        await kit.pull(MANY)
    assert kit.chunk_calls().total() <= 2 * (QUICK.patience + PARALLEL + 1)


async def test_a_manifest_that_is_not_the_revision_is_refused(kit: Kit) -> None:
    kit.source.manifests[REVISION.id] = REVISION.data + b" "
    with pytest.raises(ManifestInvalidError):
        await kit.pull(REVISION)
    assert not list(kit.folder.root.iterdir())


async def test_a_manifest_that_lies_about_a_size_writes_nothing_there(kit: Kit) -> None:
    refs = (ChunkRef(hash_chunk(A), 100), ChunkRef(hash_chunk(B), 2_000))
    entry = FileEntry(path="m", size=2_100, sha256="a" * 64, role="weights", chunks=refs)
    data = encode(build("chat", (entry,), {}))
    lie = Revision("chat", data, {hash_chunk(A): A, hash_chunk(B): B}, {})
    kit.hold(lie)
    with pytest.raises(ManifestInvalidError, match="2000 B; its manifest says 100 B"):
        await kit.pull(lie)
    assert not kit.folder.path("chat", revision_of(data)).exists()


async def test_a_full_disk_is_told_before_a_chunk_is_asked_for(kit: Kit) -> None:
    free = shutil.disk_usage(kit.folder.root).free
    refs = (ChunkRef(hash_chunk(A), MAX_CHUNK_BYTES),) * (free // MAX_CHUNK_BYTES + 100)
    size = sum(ref.size for ref in refs)
    entry = FileEntry(path="m", size=size, sha256="a" * 64, role="weights", chunks=refs)
    huge = Revision("chat", encode(build("chat", (entry,), {})), {}, {})
    kit.hold(huge)
    with pytest.raises(DiskFullError):
        await kit.pull(huge)
    assert not kit.chunk_calls()


async def test_a_folder_that_is_none_is_an_error_of_ours(kit: Kit) -> None:
    (kit.folder.root / "chat").write_text("in the way")
    with pytest.raises(DiskError):
        await kit.pull(REVISION)


# Any manifest, any state

FILES = st.dictionaries(
    st.sampled_from(["a.gguf", "b/c.gguf", "d.json"]),
    st.lists(st.integers(0, 9), min_size=1, max_size=8),
    min_size=1,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=FILES,
    older=FILES,
    written=st.sets(st.integers(0, 9)),
    torn=st.sets(st.integers(0, 9)),
    rotten=st.booleans(),
)
def test_whatever_was_there_before_the_bytes_are_right_and_nothing_is_fetched_twice(
    executor: ThreadPoolExecutor,
    files: dict[str, list[int]],
    older: dict[str, list[int]],
    written: set[int],
    torn: set[int],
    rotten: bool,
) -> None:
    data = {seed: chunk_of(seed, 50 + seed) for seed in range(10)}
    wanted = make_revision({name: [data[n] for n in seeds] for name, seeds in files.items()})
    old = make_revision({f"old-{name}": [data[n] for n in seeds] for name, seeds in older.items()})

    async def scenario(kit: Kit) -> PullReport:
        kit.hold(old)
        await kit.pull(old)
        if rotten:
            for name in old.files:
                flip_bit(kit.folder.path("chat", old.id) / name)
        kit.hold(wanted)
        prepare(kit, wanted, {data[n]: n in torn for n in written})
        kit.source.calls.clear()
        return await kit.pull(wanted)

    with quick_folder() as folder:
        kit = Kit(folder, executor)
        report = asyncio.run(scenario(kit))
        kit.assert_whole(wanted)
    assert report.size == report.resumed_bytes + report.seeded_bytes + report.fetched_bytes
    here = {hash_chunk(data[n]) for n in written - torn}
    missing = wanted.chunks.keys() - here
    asked = {name.removeprefix("chunk:"): count for name, count in kit.chunk_calls().items()}
    assert missing - old.chunks.keys() <= asked.keys() <= missing
    assert rotten or not asked.keys() & old.chunks.keys()
    assert all(count == 1 for count in asked.values())


def prepare(kit: Kit, revision: Revision, chunks: dict[bytes, bool]) -> None:
    """An interrupted pull that had written these chunks; True: torn since, for all its claim."""
    partial = PartialRevision(kit.folder.partial("chat", revision.id), revision.manifest)
    partial.open()
    for data, is_torn in chunks.items():
        name = hash_chunk(data)
        if name in revision.chunks:
            partial.write(name, data)
            if is_torn:
                tear(partial.folder, revision, name)
    partial.close()


def tear(folder: Path, revision: Revision, chunk: ChunkId) -> None:
    """Spoil one place of a chunk."""
    for entry in revision.manifest.files:
        for offset, ref in entry.placed():
            if ref.id == chunk:
                with (folder / entry.path).open("r+b") as stream:
                    stream.seek(offset)
                    byte = stream.read(1)[0]
                    stream.seek(offset)
                    stream.write(bytes([byte ^ 1]))
                return


# Processes


ServeSource = Callable[[MemorySource], Any]


@pytest.fixture
async def serve_source(executor: ThreadPoolExecutor) -> AsyncIterator[ServeSource]:
    """Serve a source over HTTP on loopback; gives the URL."""
    async with AsyncExitStack() as stack:

        async def serve(source: MemorySource) -> str:
            app = web.Application(middlewares=[error_middleware()])
            ArtifactRoutes(server=source, executor=executor).add_to(app)
            server = TestServer(app)
            await stack.enter_async_context(server)
            return str(server.make_url("")).rstrip("/")

        yield serve


async def start_pull(url: str, revision: str, folder: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.pulling", url, "chat", revision, str(folder)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )


async def figures_of(process: asyncio.subprocess.Process) -> dict[str, Any]:
    output, _ = await process.communicate()
    assert process.returncode == 0
    figures: dict[str, Any] = json.loads(output)
    return figures


LARGE = make_revision({"m.gguf": [chunk_of(seed, 100_000) for seed in range(120)]})


@pytest.mark.parametrize("allowed", [0, 1, 37, 119])
async def test_a_killed_pull_fetches_only_what_was_missing(
    kit: Kit, serve_source: ServeSource, allowed: int
) -> None:
    source = faucet(LARGE, allowed=allowed)
    url = await serve_source(source)
    process = await start_pull(url, LARGE.id, kit.folder.root)
    await until(lambda: source.waiting == min(4, len(LARGE.chunks) - allowed), deadline_s=30)
    process.kill()
    await process.wait()
    first = Counter(source.calls)
    source.opened.set()
    figures = await figures_of(await start_pull(url, LARGE.id, kit.folder.root))
    kit.assert_whole(LARGE)
    resumed = figures["resumed_bytes"] // 100_000
    # What was served but not yet written when the kill came: one chunk for each connection at most.
    assert allowed - 4 <= resumed <= allowed
    again = source.calls - first
    assert sum(n for key, n in again.items() if key.startswith("chunk:")) == 120 - resumed
    twice = [key for key, n in source.calls.items() if key.startswith("chunk:") and n > 1]
    assert len(twice) <= 4  # those that were under way, one for each connection


async def test_a_pull_killed_at_any_moment_asks_again_for_one_chunk_per_connection_at_most(
    kit: Kit, serve_source: ServeSource
) -> None:
    source = faucet(LARGE, allowed=1_000)
    url = await serve_source(source)
    for goal in (10, 60, 90):
        process = await start_pull(url, LARGE.id, kit.folder.root)
        await source.until_called(goal)
        process.kill()
        await process.wait()
    await kit.pull(LARGE, source)
    kit.assert_whole(LARGE)
    extra = sum(n - 1 for key, n in source.calls.items() if key.startswith("chunk:"))
    assert extra <= 4 * 3


class Sparse(MemorySource):
    """A revision of full chunks in files that are nearly all hole: large, and takes nothing."""

    def __init__(self, folder: Path, chunks: int) -> None:
        super().__init__("sparse")
        self._folder = folder
        refs = []
        for seed in range(chunks):
            data = seed.to_bytes(8, "big") + bytes(MAX_CHUNK_BYTES - 8)
            refs.append(ChunkRef(hash_chunk(data), MAX_CHUNK_BYTES))
            with (folder / refs[-1].id).open("wb") as stream:
                stream.write(data[:8])
                stream.truncate(MAX_CHUNK_BYTES)
        size = chunks * MAX_CHUNK_BYTES
        entry = FileEntry(path="m", size=size, sha256="a" * 64, role="weights", chunks=tuple(refs))
        self.revision = self.add_manifest(encode(build("chat", (entry,), {})))

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        return Delivery(StoredChunk(id, self._folder / id, MAX_CHUNK_BYTES))


async def test_a_pull_of_a_gib_takes_little_memory(kit: Kit, serve_source: ServeSource) -> None:
    with quick_folder() as folder:
        source = Sparse(folder, GIB // MAX_CHUNK_BYTES)
        process = await start_pull(await serve_source(source), source.revision, kit.folder.root)
        figures = await figures_of(process)
    assert figures["fetched_bytes"] == GIB
    assert figures["peak_rss_bytes"] < 150 * MIB
    print(f"peak RSS {figures['peak_rss_bytes'] / MIB:.0f} MiB, {figures['steps_ms']}")
