"""``bench chunk_store``: what the edge's cache costs by itself, without HTTP.

A hit is a lookup in memory; a start reads 100,000 entries back; a fill writes chunks of 8 MiB. The
peer of a hit is the ``stat`` call that the index saves.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import resource
import shutil
import tempfile
import time
from pathlib import Path

from edge_tier.cache.store import ChunkStore, StoreConfig
from tests.benchmarks.results import Machine, Row, report
from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId

ENTRIES = 100_000
FILL_CHUNKS = 32


async def measure(rounds: int) -> list[Row]:
    """Each figure ``rounds`` times."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        ids = _populate(root / "many")
        rebuild_s: list[float] = []
        rebuild_cpu_s: list[float] = []
        memory_mb: list[float] = []
        hits: list[float] = []
        stats: list[float] = []
        fills: list[float] = []
        plain: list[float] = []
        for _ in range(rounds):
            store = ChunkStore(root / "many", StoreConfig())
            gc.collect()
            before = _resident_bytes()
            started, cpu_started = time.perf_counter(), time.process_time()
            await store.start()
            rebuild_s.append(time.perf_counter() - started)
            rebuild_cpu_s.append(time.process_time() - cpu_started)
            memory_mb.append((_resident_bytes() - before) / 1e6)
            hits.append(_hits_per_s(store, ids))
            stats.append(_stats_per_s(store, ids))
            await store.aclose()
            fills.append(await _fill_bytes_per_s(root / "fill") / 1e9)
            plain.append(_plain_bytes_per_s(root / "fill") / 1e9)
        return [
            Row(
                name="locate, per CPU-second",
                unit="hits",
                runs=hits,
                peer="stat call",
                peer_runs=stats,
                target=3.0,
            ),
            Row(
                name=f"start over {ENTRIES:,} chunks",
                unit="s",
                runs=rebuild_s,
                target=2.0,
                higher_is_better=False,
            ),
            Row(name="the same, CPU", unit="s", runs=rebuild_cpu_s),
            Row(name=f"memory of {ENTRIES:,} entries", unit="MB", runs=memory_mb[:1]),
            Row(
                name="put, chunks of 8 MiB",
                unit="GB/s",
                runs=fills,
                peer="plain writes",
                peer_runs=plain,
            ),
        ]


def main(*, quick: bool) -> None:
    """Run and report."""
    machine = Machine()
    report("chunk_store", asyncio.run(measure(1 if quick else 5)), machine)


def _populate(root: Path) -> list[ChunkId]:
    """Files that look like chunks; a start does not read them."""
    ids = [ChunkId(hashlib.sha256(str(n).encode()).hexdigest()) for n in range(ENTRIES)]
    for shard in {chunk[:2] for chunk in ids}:
        (root / "chunks" / shard).mkdir(parents=True)
    for chunk in ids:
        (root / "chunks" / chunk[:2] / chunk).write_bytes(b"chunk")
    return ids


def _hits_per_s(store: ChunkStore, ids: list[ChunkId]) -> float:
    hot = ids[:2_000]
    started = time.process_time()
    for _ in range(100):
        for chunk in hot:
            store.locate(chunk)
    return 100 * len(hot) / (time.process_time() - started)


def _stats_per_s(store: ChunkStore, ids: list[ChunkId]) -> float:
    stored = [found for chunk in ids[:2_000] if (found := store.locate(chunk))]
    started = time.process_time()
    for _ in range(10):
        for one in stored:
            one.path.stat()
    return 10 * len(stored) / (time.process_time() - started)


def _chunks() -> list[Chunk]:
    return [
        Chunk.of(number.to_bytes(8, "big") * (MAX_CHUNK_BYTES // 8))
        for number in range(FILL_CHUNKS)
    ]


async def _fill_bytes_per_s(root: Path) -> float:
    chunks = _chunks()
    store = ChunkStore(root, StoreConfig())
    await store.start()
    started = time.perf_counter()
    await asyncio.gather(*map(store.put, chunks))
    elapsed = time.perf_counter() - started
    await store.aclose()
    shutil.rmtree(root)
    return FILL_CHUNKS * MAX_CHUNK_BYTES / elapsed


def _plain_bytes_per_s(root: Path) -> float:
    chunks = _chunks()
    root.mkdir()
    started = time.perf_counter()
    for chunk in chunks:
        (root / chunk.id).write_bytes(chunk.data)
    elapsed = time.perf_counter() - started
    shutil.rmtree(root)
    return FILL_CHUNKS * MAX_CHUNK_BYTES / elapsed


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
