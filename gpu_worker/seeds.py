"""Seeds: chunks that a worker has already, in older revisions on its disk. Never fetched again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.disk import ModelFolder, locate_chunks
from wire.chunk import Chunk, ChunkId
from wire.errors import ChunkMismatchError
from wire.manifest import decode


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


class LocalChunks:
    """Chunks that lie on this disk, in older revisions or in a pull that was cut off: read, and
    proven by being read. For the few that are looked at before a pull. Blocking.

    Lives as long as one pull: what it has seen of the disk it does not look at again.
    """

    def __init__(self, folder: ModelFolder, model: str) -> None:
        self._folder = folder
        self._model = model
        self._places: dict[ChunkId, list[Seed]] | None = None

    def read(self, chunk: ChunkId, manifests: Mapping[str, bytes]) -> Chunk | None:
        """The chunk; None where it is not here, or is not what it was.

        Args:
            manifests: revision → manifest, of what is being pulled.
        """
        if self._places is None:
            self._places = self._look(manifests)
        for place in self._places.get(chunk, ()):
            try:
                with place.path.open("rb") as stream:
                    stream.seek(place.offset)
                    return Chunk(chunk, stream.read(place.size))
            except (OSError, ChunkMismatchError):
                continue
        return None

    def _look(self, manifests: Mapping[str, bytes]) -> dict[ChunkId, list[Seed]]:
        folder, model = self._folder, self._model
        found: dict[ChunkId, list[Seed]] = {}
        roots = [
            (manifest, folder.path(model, revision))
            for revision in folder.revisions(model)
            if (manifest := folder.manifest(model, revision)) is not None
        ]
        for revision, data in manifests.items():
            manifest = decode(data, revision)
            roots += [(manifest, path) for path in folder.partials(model, revision)]
        for manifest, root in roots:
            for ref, path, offset in locate_chunks(manifest, root):
                found.setdefault(ref.id, []).append(Seed(path, offset, ref.size))
        return found
