from __future__ import annotations

import os
import resource
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from gpu_worker.disk import (
    BITMAP,
    MANIFEST,
    ModelFolder,
    PartialRevision,
    locate_chunks,
)
from gpu_worker.errors import BusyError, DiskError, DiskFullError
from tests.fakes.publishing import flip_bit
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, chunk_of, make_revision
from wire.chunk import MAX_CHUNK_BYTES, ChunkId, hash_chunk
from wire.errors import ManifestInvalidError, NameInvalidError
from wire.manifest import ChunkRef, FileEntry, build, decode, encode, revision_of

A, B, C = chunk_of(1), chunk_of(2, 500), chunk_of(3)
REVISION = make_revision({"model.gguf": [A, B, A], "sub/card.json": [C]})
IDS = tuple(REVISION.chunks)


@pytest.fixture
def folder(tmp_path: Path) -> ModelFolder:
    return ModelFolder(tmp_path)


@contextmanager
def opened(folder: ModelFolder, revision: Revision = REVISION) -> Iterator[PartialRevision]:
    partial = PartialRevision(folder.partial("chat", revision.id), revision.manifest)
    try:
        folder.begin(partial, "chat", revision.id)
        yield partial
    finally:
        partial.close()


def bring(folder: ModelFolder, revision: Revision = REVISION) -> Path:
    """Put a whole revision together."""
    final = folder.path("chat", revision.id)
    with opened(folder, revision) as partial:
        for name, data in revision.chunks.items():
            partial.write(name, data)
        partial.commit(final, revision.data)
    return final


def assert_holds(path: Path, revision: Revision = REVISION) -> None:
    assert {name: (path / name).read_bytes() for name in revision.files} == revision.files


def open_files(folder: Path) -> list[str]:
    """Files below a folder that this process has open."""
    found = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            target = link.readlink()
        except FileNotFoundError:
            continue
        if target.is_relative_to(folder):
            found.append(target.name)
    return sorted(found)


# Whole revisions


def test_a_revision_appears_whole_and_without_its_scaffold(folder: ModelFolder) -> None:
    final = bring(folder)
    folder.flush("chat", REVISION.id)
    assert_holds(final)
    assert folder.manifest("chat", REVISION.id) == REVISION.manifest
    assert sorted(p.name for p in final.iterdir()) == [MANIFEST, "model.gguf", "sub"]
    assert not folder.partial("chat", REVISION.id).exists()
    assert stat.S_IMODE((final / "model.gguf").stat().st_mode) == 0o600
    assert open_files(folder.root) == []


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a tmpfs")
def test_in_memory_nothing_is_filled_before_it_arrives() -> None:
    size = 8 * 1024 * 1024
    revision = make_revision({"model.gguf": [b"a" * (size // 2), b"b" * (size // 2)]})
    with quick_folder() as root, opened(ModelFolder(root), revision) as partial:
        found = (partial.folder / "model.gguf").stat()
        assert (found.st_size, found.st_blocks) == (size, 0)


def test_memory_that_cannot_take_a_revision_is_not_filled(tmp_path: Path) -> None:
    size = REVISION.manifest.size
    folder = ModelFolder(tmp_path, room=lambda: size - 1)
    with pytest.raises(DiskFullError, match=rf"needs {size} B more and the memory has {size - 1}"):
        bring(folder)
    bring(ModelFolder(tmp_path, room=lambda: size))


def test_a_partial_revision_is_not_there_yet(folder: ModelFolder) -> None:
    with opened(folder) as partial:
        partial.write(IDS[0], A)
    assert folder.manifest("chat", REVISION.id) is None
    assert folder.revisions("chat") == []


@pytest.mark.parametrize("damage", ["cut", "lose", "rot the manifest"])
def test_a_revision_that_lost_something_does_not_count_as_whole(
    folder: ModelFolder, damage: str
) -> None:
    final = bring(folder)
    if damage == "cut":
        os.truncate(final / "model.gguf", 10)
    elif damage == "lose":
        (final / "sub" / "card.json").unlink()
    else:
        flip_bit(final / MANIFEST)
    assert folder.manifest("chat", REVISION.id) is None
    assert_holds(bring(folder))  # and is replaced


def test_revisions_are_listed_the_newest_last(folder: ModelFolder) -> None:
    made = [make_revision({"m.gguf": [chunk_of(n)]}) for n in range(4)]
    for age, revision in enumerate(made):
        manifest = bring(folder, revision) / MANIFEST
        os.utime(manifest, ns=(0, 1_000_000_000 * (10 - age)))
    assert folder.revisions("chat") == [revision.id for revision in reversed(made)]
    assert folder.revisions("other") == []


def test_only_what_is_named_is_kept(folder: ModelFolder) -> None:
    kept, other, partial = (make_revision({"m.gguf": [chunk_of(n)]}) for n in range(3))
    bring(folder, kept)
    bring(folder, other)
    with opened(folder, partial):
        folder.keep_only("chat", {kept.id})
        assert folder.partial("chat", partial.id).exists()  # somebody is at it
    assert folder.revisions("chat") == [kept.id]
    folder.keep_only("chat", {kept.id})
    assert [p.name for p in (folder.root / "chat").iterdir()] == [kept.id]
    folder.keep_only("never-pulled", set())


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "a\x00"])
def test_a_model_name_cannot_leave_the_folder(folder: ModelFolder, name: str) -> None:
    for way in (folder.path, folder.partial, folder.manifest):
        with pytest.raises(NameInvalidError):
            way(name, "a" * 64)
    with pytest.raises(NameInvalidError):
        folder.path("chat", "../" + "a" * 61)


def test_chunks_are_located_in_every_file(folder: ModelFolder, tmp_path: Path) -> None:
    found = [(r.id, p.name, at) for r, p, at in locate_chunks(REVISION.manifest, tmp_path)]
    a, b, c = (hash_chunk(data) for data in (A, B, C))
    assert found == [
        (a, "model.gguf", 0),
        (b, "model.gguf", 1_000),
        (a, "model.gguf", 1_500),
        (c, "card.json", 0),
    ]


# Resuming


def test_what_was_written_is_found_again(folder: ModelFolder) -> None:
    with opened(folder) as partial:
        assert partial.resume() == set()
        partial.write(IDS[0], A)
        partial.write(IDS[2], C)
    with opened(folder) as partial:
        assert partial.resume() == {IDS[0], IDS[2]}
        partial.write(IDS[1], B)
        partial.commit(folder.path("chat", REVISION.id), REVISION.data)
    assert_holds(folder.path("chat", REVISION.id))


@pytest.mark.parametrize("at", [0, 1_500], ids=["first place", "second place"])
def test_a_torn_chunk_is_not_believed_in_spite_of_its_claim(folder: ModelFolder, at: int) -> None:
    with opened(folder) as partial:
        for name, data in REVISION.chunks.items():
            partial.write(name, data)
    file = folder.partial("chat", REVISION.id) / "model.gguf"
    with file.open("r+b") as stream:
        stream.seek(at + 7)
        stream.write(b"\x00torn")
    with opened(folder) as partial:
        assert partial.resume() == {IDS[1], IDS[2]}


@pytest.mark.parametrize("claims", [b"", b"\x01", b"\x01" * 50, b"\xff\x02\x00", b"\x00" * 3])
def test_no_bitmap_can_claim_what_is_not_there(folder: ModelFolder, claims: bytes) -> None:
    with opened(folder):
        pass
    (folder.partial("chat", REVISION.id) / BITMAP).write_bytes(claims)
    with opened(folder) as partial:
        assert partial.resume() == set()


def test_a_crash_before_the_rename_loses_no_claim(folder: ModelFolder) -> None:
    final = folder.path("chat", REVISION.id)
    final.parent.mkdir(parents=True)
    with opened(folder) as partial:
        for name, data in REVISION.chunks.items():
            partial.write(name, data)
        final.write_text("something in the way: the rename fails")
        with pytest.raises(DiskError):
            partial.commit(final, REVISION.data)
    final.unlink()
    with opened(folder) as partial:
        assert partial.resume() == set(IDS)
        partial.commit(final, REVISION.data)
    assert_holds(final)


# Power cuts


def another_boot(folder: ModelFolder) -> ModelFolder:
    """The same disk after the machine was started again."""
    return ModelFolder(folder.root, boot="another")


def test_what_was_never_flushed_counts_until_the_machine_starts_again(folder: ModelFolder) -> None:
    bring(folder)
    assert folder.manifest("chat", REVISION.id) == REVISION.manifest
    after = another_boot(folder)
    assert after.manifest("chat", REVISION.id) is None
    final = folder.path("chat", REVISION.id)
    with (final / "model.gguf").open("r+b") as stream:
        stream.write(bytes(1_000))  # what the power cut took
    with opened(after) as partial:
        assert not final.exists()
        assert partial.resume() == {IDS[1], IDS[2]}, "every claim is proven anew"
        partial.write(IDS[0], A)
        partial.commit(final, REVISION.data)
    assert_holds(final)


def test_what_was_flushed_counts_for_good(folder: ModelFolder) -> None:
    final = bring(folder)
    folder.flush("chat", REVISION.id)
    assert another_boot(folder).manifest("chat", REVISION.id) == REVISION.manifest
    assert {path.name for path in final.iterdir()} == {"model.gguf", "sub", MANIFEST}
    folder.flush("chat", REVISION.id)  # nothing to do


def test_a_machine_that_does_not_name_its_boots_proves_everything_anew(tmp_path: Path) -> None:
    nameless = ModelFolder(tmp_path, boot="")
    bring(nameless)
    assert nameless.manifest("chat", REVISION.id) is None


def test_a_revision_removed_while_it_is_flushed_is_nothing(folder: ModelFolder) -> None:
    folder.flush("chat", REVISION.id)


# Variants


def test_one_variant_is_put_together_and_known_as_that(folder: ModelFolder) -> None:
    q4, q8 = chunk_of(21), chunk_of(22)
    both = make_revision({"q4.gguf": [q4], "q8.gguf": [q8], "card.json": [A]})
    files = tuple(
        replace(entry, variant={"q4.gguf": "Q4", "q8.gguf": "Q8"}.get(entry.path, ""))
        for entry in both.manifest.files
    )
    data = encode(build("chat", files, {}))
    revision, manifest = revision_of(data), decode(data, revision_of(data))
    partial = PartialRevision(folder.partial("chat", revision, "Q8"), manifest, "Q8")
    folder.begin(partial, "chat", revision)
    for part in (q8, A):
        partial.write(hash_chunk(part), part)
    partial.commit(folder.path("chat", revision), data)
    partial.close()
    here = folder.manifest("chat", revision)
    assert here is not None
    assert [entry.path for entry in here.files] == ["q8.gguf", "card.json"]
    assert folder.variant("chat", revision) == "Q8"
    folder.partial("chat", revision, "Q4").mkdir()
    folder.keep_only("chat", {revision})
    assert folder.partial("chat", revision, "Q4").exists()
    folder.keep_only("chat", set())
    assert not folder.partial("chat", revision, "Q4").exists()


def test_a_revision_that_is_set_aside_is_hidden_until_it_is_put_back(folder: ModelFolder) -> None:
    path = bring(folder)
    aside = folder.set_aside("chat", REVISION.id)
    assert folder.revisions("chat") == []
    folder.partial("chat", REVISION.id).mkdir()  # a pull that failed
    folder.put_back("chat", REVISION.id, aside)
    assert folder.revisions("chat") == [REVISION.id]
    assert list(path.parent.iterdir()) == [path]


def test_what_was_set_aside_goes_where_the_revision_was_brought_anew(folder: ModelFolder) -> None:
    path = bring(folder)
    aside = folder.set_aside("chat", REVISION.id)
    bring(folder)
    folder.put_back("chat", REVISION.id, aside)
    assert list(path.parent.iterdir()) == [path]
    other = folder.set_aside("chat", "b" * 64)  # there is none
    folder.put_back("chat", "b" * 64, other)
    assert list(path.parent.iterdir()) == [path]


# Copying


def test_a_chunk_is_copied_to_all_its_places(folder: ModelFolder, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_bytes(b"before" + A + b"after")
    with opened(folder) as partial:
        assert partial.copy(IDS[0], seed, 6)
        assert partial.resume() == {IDS[0]}


@pytest.mark.parametrize("content", [b"", b"short", bytes(5_000)], ids=["none", "cut", "rotten"])
def test_a_seed_that_is_not_what_it_was_is_refused(
    folder: ModelFolder, tmp_path: Path, content: bytes
) -> None:
    seed = tmp_path / "seed"
    seed.write_bytes(content)
    with opened(folder) as partial:
        assert not partial.copy(IDS[0], seed, 0)
        assert not partial.copy(IDS[0], tmp_path / "missing", 0)
        assert partial.resume() == set()


# Bounds


def test_a_chunk_of_another_size_cannot_reach_over_its_place(folder: ModelFolder) -> None:
    data = chunk_of(9, 5_000)
    lie = FileEntry(
        path="m.gguf",
        size=101,
        sha256="a" * 64,
        role="weights",
        chunks=(ChunkRef(hash_chunk(data), 100), ChunkRef(hash_chunk(b"x"), 1)),
    )
    partial = PartialRevision(folder.partial("chat", "a" * 64), build("chat", (lie,), {}))
    partial.open()
    with pytest.raises(ManifestInvalidError, match="5000 B; its manifest says 100 B"):
        partial.write(hash_chunk(data), data)
    partial.close()
    assert (partial.folder / "m.gguf").read_bytes() == bytes(101)


def test_a_revision_that_does_not_fit_is_refused_at_once(folder: ModelFolder) -> None:
    free = shutil.disk_usage(folder.root).free
    refs = (ChunkRef(ChunkId("a" * 64), MAX_CHUNK_BYTES),) * (free // MAX_CHUNK_BYTES + 100)
    size = sum(ref.size for ref in refs)
    huge = FileEntry(path="m.gguf", size=size, sha256="a" * 64, role="weights", chunks=refs)
    partial = PartialRevision(folder.partial("chat", "a" * 64), build("chat", (huge,), {}))
    with pytest.raises(DiskFullError, match=f"needs {size} B more"):
        partial.open()
    partial.close()
    assert not (partial.folder / "m.gguf").exists()


def test_what_the_system_says_of_space_is_told_as_such(folder: ModelFolder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    partial = PartialRevision(folder.partial("chat", REVISION.id), REVISION.manifest)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(DiskFullError, match="mount a larger disk"):
            partial.open()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        partial.close()


def test_files_that_cannot_stand_beside_each_other_are_an_error_of_ours(
    folder: ModelFolder,
) -> None:
    clash = make_revision({"a": [A], "a/b": [B]})
    with pytest.raises(DiskError), opened(folder, clash):
        pass


def test_a_link_in_the_way_is_not_followed(folder: ModelFolder, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    inside = folder.partial("chat", REVISION.id)
    inside.mkdir(parents=True)
    (inside / "model.gguf").symlink_to(victim)
    with pytest.raises(DiskError), opened(folder):
        pass
    assert victim.read_bytes() == b"precious"


# One at a time


def test_a_folder_is_put_together_by_one_at_a_time(folder: ModelFolder) -> None:
    with opened(folder), pytest.raises(BusyError), opened(folder):
        pass
    with opened(folder):
        pass


def test_whoever_waited_for_a_folder_that_moved_away_gets_a_new_one(folder: ModelFolder) -> None:
    second = PartialRevision(folder.partial("chat", REVISION.id), REVISION.manifest)
    with opened(folder) as first:
        for name, data in REVISION.chunks.items():
            first.write(name, data)
        first.commit(folder.path("chat", REVISION.id), REVISION.data)
        second.open()  # the lock that ``first`` still holds is on what has moved away
        assert second.resume() == set()
        second.discard()
        second.close()
    assert_holds(folder.path("chat", REVISION.id))
    assert not folder.partial("chat", REVISION.id).exists()


def test_files_stay_open_for_whoever_is_still_at_work(folder: ModelFolder, tmp_path: Path) -> None:
    """A late write to a number that is another file's by now would go there."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    results: list[bool] = []
    with opened(folder) as partial:
        copy = threading.Thread(target=lambda: results.append(partial.copy(IDS[0], pipe, 0)))
        copy.start()
        writer = os.open(pipe, os.O_WRONLY)  # waits for the copy to open it too
        partial.close()
        held = open_files(folder.root)
        os.close(writer)
        if BITMAP not in held:  # then the copy was through already
            copy.join(30)
            assert not copy.is_alive()
        copy.join(30)
    assert results == [False]
    assert open_files(folder.root) == []
    with pytest.raises(DiskError, match="was closed"):
        partial.write(IDS[0], A)


# Set aside, to be pulled again


def test_what_is_set_aside_is_not_here_and_its_open_files_are_as_they_were(
    folder: ModelFolder,
) -> None:
    path = bring(folder)
    with (path / "model.gguf").open("rb") as running:
        aside = folder.set_aside("chat", REVISION.id)
        assert folder.manifest("chat", REVISION.id) is None
        assert folder.revisions("chat") == []
        bring(folder)
        folder.put_back("chat", REVISION.id, aside)
        assert running.read() == REVISION.files["model.gguf"]
    assert folder.manifest("chat", REVISION.id) is not None
    assert [p.name for p in path.parent.iterdir()] == [REVISION.id]


def test_what_did_not_come_again_is_put_back(folder: ModelFolder) -> None:
    path = bring(folder)
    aside = folder.set_aside("chat", REVISION.id)
    folder.put_back("chat", REVISION.id, aside)
    assert folder.manifest("chat", REVISION.id) is not None
    folder.set_aside("chat", REVISION.id)
    folder.recover("chat")  # as a process that starts after it died here
    assert folder.manifest("chat", REVISION.id) is not None
    assert [p.name for p in path.parent.iterdir()] == [REVISION.id]
    folder.recover("nothing-of-this-name")


def test_nothing_is_set_aside_where_nothing_is(folder: ModelFolder) -> None:
    aside = folder.set_aside("chat", REVISION.id)
    folder.put_back("chat", REVISION.id, aside)
    assert folder.revisions("chat") == []
