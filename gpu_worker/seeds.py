"""Seeds: chunks that a worker has already, in older revisions on its disk. Never fetched again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpu_worker.disk import ModelFolder, locate_chunks
from wire.chunk import ChunkId


@dataclass(frozen=True, slots=True)
class Seed:
    """Where a chunk lies. ``offset`` and ``size`` in bytes."""

    path: Path
    offset: int
    size: int


def find_seeds(folder: ModelFolder, model: str, wanted: set[ChunkId]) -> dict[ChunkId, Seed]:
    """Which of the wanted chunks older revisions of the model hold; the newest copy wins."""
    seeds: dict[ChunkId, Seed] = {}
    for revision in folder.revisions(model):
        manifest = folder.manifest(model, revision)
        if manifest is None:
            continue
        for ref, path, offset in locate_chunks(manifest, folder.path(model, revision)):
            if ref.id in wanted:
                seeds[ref.id] = Seed(path, offset, ref.size)
    return seeds
