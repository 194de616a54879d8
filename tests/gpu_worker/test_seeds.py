from __future__ import annotations

from pathlib import Path

from gpu_worker.disk import MANIFEST, ModelFolder
from gpu_worker.seeds import LocalChunks, Seed, find_seeds
from tests.fakes.revisions import Revision, chunk_of, make_revision
from wire.chunk import hash_chunk

A, B, C, D = (chunk_of(seed) for seed in range(4))
OLD = make_revision({"m.gguf": [A, B]})
NEW = make_revision({"m.gguf": [B, C]})


def lay_out(folder: ModelFolder, revision: Revision) -> Path:
    """A whole revision, as a pull leaves it."""
    path = folder.path(revision.model, revision.id)
    for name, data in revision.files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    (path / MANIFEST).write_bytes(revision.data)
    return path


def test_wanted_chunks_are_found_the_newest_copy_first(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    old, new = lay_out(folder, OLD), lay_out(folder, NEW)
    a, b, c, d = (hash_chunk(data) for data in (A, B, C, D))
    assert find_seeds(folder, "chat", {a, b, c, d}) == {
        a: Seed(old / "m.gguf", 0, 1_000),
        b: Seed(new / "m.gguf", 0, 1_000),
        c: Seed(new / "m.gguf", 1_000, 1_000),
    }
    assert find_seeds(folder, "chat", {d}) == {}
    assert find_seeds(folder, "other", {a}) == {}


def test_a_revision_that_is_not_whole_seeds_nothing(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    (lay_out(folder, OLD) / "m.gguf").write_bytes(b"cut")
    assert find_seeds(folder, "chat", {hash_chunk(A)}) == {}


def test_chunks_are_read_from_older_revisions_and_from_a_cut_pull(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    lay_out(folder, OLD)
    partial = folder.partial("chat", NEW.id)
    partial.mkdir()
    (partial / "m.gguf").write_bytes(bytes(1_000) + C)
    here = LocalChunks(folder, "chat")
    manifests = {NEW.id: NEW.data}
    a, b, c, d = (hash_chunk(data) for data in (A, B, C, D))
    for name, data in {a: A, b: B, c: C}.items():
        found = here.read(name, manifests)
        assert found is not None
        assert bytes(found.data) == data
    assert here.read(d, manifests) is None
    assert folder.partials("chat", OLD.id) == []


def test_a_chunk_that_is_not_what_it_was_is_not_here(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path)
    path = lay_out(folder, OLD) / "m.gguf"
    path.write_bytes(bytes(1_000) + B)
    here = LocalChunks(folder, "chat")
    assert here.read(hash_chunk(A), {}) is None
    assert here.read(hash_chunk(B), {}) is not None
    path.unlink()
    assert here.read(hash_chunk(B), {}) is None
