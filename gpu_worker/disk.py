"""Revisions on a worker's disk: whole ones, and those still being pulled.

``MODEL/REVISION/`` holds a whole revision with its ``.manifest.json``, or one variant of it, named
in ``.variant``; it appears by one rename.
``MODEL/.partial-REVISION/`` holds its files at full length and a bitmap of the chunks written so
far. The bitmap is a claim, not a proof: after a crash every claimed chunk is hashed again before it
counts, so neither a kill nor a power cut can smuggle a torn chunk into a model. The bitmap is also
the lock: who has it locked puts the revision together, and the kernel lets go when a process dies.
It stays in a whole revision until that is flushed (``gpu_worker.flush``).
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec.structs import replace

from gpu_worker.copying import copy_proven, hash_range
from gpu_worker.disk_files import disk_error, is_locked, lock, open_file, write_all
from gpu_worker.errors import DiskError, DiskFullError
from gpu_worker.flush import boot_id, flush, mark, may_be_torn
from gpu_worker.mounts import IN_MEMORY, file_system
from wire.chunk import Buffer, ChunkId
from wire.errors import ManifestInvalidError, NotFoundError
from wire.manifest import ChunkRef, Manifest, decode
from wire.paths import model_name, revision_id

MANIFEST = ".manifest.json"
"""Begins with a dot, as no file of a revision can."""
VARIANT = ".variant"
BITMAP = ".chunks"
_PARTIAL = ".partial-"
_ASIDE = ".aside-"
_OF_VARIANT = "+"


class ModelFolder:
    """All revisions of all models below one folder.

    Args:
        boot: names this boot of the machine (``flush.boot_id``).
        room: bytes that may still be written where that is less than the file system says: one in
            memory does not know what else needs the memory.
    """

    def __init__(
        self, root: Path, *, boot: str | None = None, room: Callable[[], int] | None = None
    ) -> None:
        self.root = root
        self._boot = boot_id() if boot is None else boot
        self._room = room

    def path(self, model: str, revision: str) -> Path:
        """Where a whole revision stands (or will)."""
        return self.root / model_name(model) / revision_id(revision)

    def partial(self, model: str, revision: str, variant: str = "") -> Path:
        """Where a revision, or one variant of it, is put together."""
        name = f"{_PARTIAL}{revision_id(revision)}"
        return self.root / model_name(model) / (name + (variant and _OF_VARIANT + variant))

    def partials(self, model: str, revision: str) -> list[Path]:
        """Where this revision, or variants of it, are being put together."""
        return sorted((self.root / model_name(model)).glob(f"{_PARTIAL}{revision_id(revision)}*"))

    def manifest(self, model: str, revision: str) -> Manifest | None:
        """The manifest of a whole revision, cut to the files of the variant that is here; None
        where it is not here, where a file of it has been lost or cut since, or where a power cut
        may have torn it."""
        folder = self.path(model, revision)
        if may_be_torn(folder, self._boot):
            return None
        try:
            whole = decode((folder / MANIFEST).read_bytes(), revision)
            manifest = of_variant(whole, self.variant(model, revision))
            sizes = [(folder / entry.path).stat().st_size for entry in manifest.files]
        except (OSError, ManifestInvalidError, NotFoundError):
            return None
        return manifest if sizes == [entry.size for entry in manifest.files] else None

    def begin(self, partial: PartialRevision, model: str, revision: str) -> None:
        """Open a revision to put it together, from what a power cut may have left of it.

        Raises:
            BusyError, DiskFullError, DiskError: as ``PartialRevision.open``.
        """
        whole = self.path(model, revision)
        if may_be_torn(whole, self._boot):
            with suppress(OSError):  # somebody else was first; or there is a partial one too
                whole.rename(partial.folder)
        partial.open(self._boot, room=self._room)

    def flush(self, model: str, revision: str) -> None:
        """Bring a whole revision to the disk, so that a power cut costs nothing any more.

        Raises:
            DiskError: the disk failed; what is marked stays marked.
        """
        folder = self.path(model, revision)
        manifest = self.manifest(model, revision)
        names = [entry.path for entry in manifest.files] if manifest is not None else []
        try:
            flush(folder, [folder / name for name in (*names, MANIFEST)])
            (folder / BITMAP).unlink(missing_ok=True)
        except FileNotFoundError:
            return  # removed meanwhile
        except OSError as error:
            raise disk_error(folder, error) from error

    def variant(self, model: str, revision: str) -> str:
        """The variant of a whole revision that is here; empty where it has none."""
        try:
            return (self.path(model, revision) / VARIANT).read_text()
        except FileNotFoundError:
            return ""

    def revisions(self, model: str) -> list[str]:
        """Whole revisions of a model, the newest last."""
        folder = self.root / model_name(model)
        found = [p for p in folder.glob(f"*/{MANIFEST}") if not p.parent.name.startswith(".")]
        return [p.parent.name for p in sorted(found, key=lambda p: p.stat().st_mtime_ns)]

    def set_aside(self, model: str, revision: str) -> Path:
        """Hide a whole revision, so that it is pulled again; an engine that has its files open
        keeps them. Undone, or made final, by :meth:`put_back`."""
        path = self.path(model, revision)
        aside = path.with_name(f"{_ASIDE}{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        with suppress(FileNotFoundError):
            path.rename(aside)
        return aside

    def put_back(self, model: str, revision: str, aside: Path) -> None:
        """Show a revision again that was set aside, unless it has been pulled anew; what was
        pulled of it in vain is removed then."""
        path = self.path(model, revision)
        if not path.exists() and aside.exists():
            aside.rename(path)
            for rest in path.parent.glob(f"{_PARTIAL}{revision}*"):
                if not is_locked(rest / BITMAP):
                    shutil.rmtree(rest, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)

    def recover(self, model: str) -> None:
        """Put back what was set aside when a process died."""
        for aside in (self.root / model_name(model)).glob(f"{_ASIDE}*"):
            self.put_back(model, aside.name.removeprefix(_ASIDE), aside)

    def keep_only(self, model: str, keep: set[str]) -> None:
        """Remove every other revision of the model, whole or partial, but not under the hands of
        somebody who is pulling it."""
        folder = self.root / model_name(model)
        for path in folder.iterdir() if folder.is_dir() else ():
            revision = path.name.removeprefix(_PARTIAL).partition(_OF_VARIANT)[0]
            if revision not in keep and not is_locked(path / BITMAP):
                shutil.rmtree(path, ignore_errors=True)


class PartialRevision:
    """A revision being put together: chunks are written at their places, in any order.

    Blocking; call it from worker threads, after :meth:`open`. Different chunks may be written at
    the same time. ``close`` may be called at any time: who is still writing finishes first.

    Args:
        manifest: of the whole revision.
        variant: put only the files of this variant together.

    Raises:
        NotFoundError: the revision has no such variant.
    """

    def __init__(self, folder: Path, manifest: Manifest, variant: str = "") -> None:
        manifest = of_variant(manifest, variant)
        self.folder = folder
        self._variant = variant
        self._manifest = manifest
        self._order = {chunk: i for i, chunk in enumerate(manifest.chunk_refs())}
        self._places = _places(manifest)
        self._files: dict[str, int] = {}
        self._bitmap = -1
        self._guard = threading.Lock()
        self._users = 0
        self._closed = False

    def open(self, boot: str = "", *, room: Callable[[], int] | None = None) -> None:
        """Take the folder and lay out the files at full length.

        Args:
            boot: names this boot of the machine.
            room: as of ``ModelFolder``.

        Raises:
            BusyError: somebody else has it.
            DiskFullError: the revision does not fit.
        """
        with self._use():
            self._bitmap = lock(self.folder / BITMAP)
            mark(self.folder, boot)
            self._check_space(room)
            # In memory, what is reserved is filled with zeros first: as much work as the pull.
            reserve = file_system(self.folder) not in IN_MEMORY
            for entry in self._manifest.files:
                path = self.folder / entry.path
                self._files[entry.path] = open_file(path, entry.size, reserve=reserve)

    def resume(self) -> set[ChunkId]:
        """The chunks already here, each hashed again."""
        with self._use():
            claimed = os.pread(self._bitmap, len(self._order), 0)
            return {
                chunk
                for chunk, i in self._order.items()
                if i < len(claimed) and claimed[i] == 1 and self._holds(chunk)
            }

    def write(self, chunk: ChunkId, data: Buffer) -> None:
        """Write a verified chunk wherever it belongs, then claim it.

        Raises:
            ManifestInvalidError: it has another size than the manifest says, so that it would
                reach over its place.
            DiskFullError, DiskError: it could not be written.
        """
        with self._use():
            for path, offset, size in self._places[chunk]:
                if len(data) != size:
                    raise ManifestInvalidError(
                        f"chunk {chunk} has {len(data)} B; its manifest says {size} B"
                    )
                write_all(self._files[path], memoryview(data), offset)
            self._claim(chunk)

    def copy(self, chunk: ChunkId, source: Path, offset: int) -> bool:
        """Copy a chunk from a file on this machine, proven on the way; its blocks are shared where
        the file system can (``gpu_worker.copying``).

        Returns:
            False where the bytes there are not the chunk's (any more).
        """
        with self._use():
            try:
                proven = self._copy(chunk, source, offset)
            except OSError:
                return False
            if proven:
                self._claim(chunk)
            return proven

    def commit(self, final: Path, manifest_bytes: bytes) -> None:
        """Make the revision appear whole at ``final``, not flushed yet (``ModelFolder.flush``)."""
        with self._use():
            (self.folder / MANIFEST).write_bytes(manifest_bytes)
            if self._variant:
                (self.folder / VARIANT).write_text(self._variant)
            if final.exists():
                shutil.rmtree(final)
            self.folder.rename(final)

    def discard(self) -> None:
        """Remove the folder: the revision is whole already."""
        with self._use():
            shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Close the files and let go of the folder; may be called twice."""
        with self._guard:
            self._closed = True
            if self._users == 0:
                self._close_all()

    @contextmanager
    def _use(self) -> Iterator[None]:
        """Keep the files open while a thread works on them. A number of a closed file would soon be
        the number of another one, and a late write would go there."""
        self._enter()
        try:
            yield
        except OSError as error:
            raise disk_error(self.folder, error) from error
        finally:
            self._leave()

    def _enter(self) -> None:
        with self._guard:
            if self._closed:
                raise DiskError(f"{self.folder} was closed")
            self._users += 1

    def _leave(self) -> None:
        with self._guard:
            self._users -= 1
            if self._closed and self._users == 0:
                self._close_all()

    def _close_all(self) -> None:
        for handle in self._files.values():
            os.close(handle)
        self._files.clear()
        if self._bitmap >= 0:
            os.close(self._bitmap)
            self._bitmap = -1

    def _holds(self, chunk: ChunkId) -> bool:
        """Whether the bytes at the chunk's places are the chunk's."""
        return all(
            hash_range(self._files[path], offset, size) == chunk
            for path, offset, size in self._places[chunk]
        )

    def _copy(self, chunk: ChunkId, source: Path, offset: int) -> bool:
        handle = os.open(source, os.O_RDONLY)
        try:
            return all(
                copy_proven(handle, self._files[path], offset, at, size, write=write_all) == chunk
                for path, at, size in self._places[chunk]
            )
        finally:
            os.close(handle)

    def _claim(self, chunk: ChunkId) -> None:
        os.pwrite(self._bitmap, b"\x01", self._order[chunk])

    def _check_space(self, room: Callable[[], int] | None) -> None:
        paths = (self.folder / entry.path for entry in self._manifest.files)
        used = sum(path.stat().st_blocks * 512 for path in paths if path.is_file())
        disk = os.statvfs(self.folder)
        available = disk.f_bavail * disk.f_frsize
        needed = self._manifest.size - used
        if room is not None and needed > (spare := room()):
            raise DiskFullError(
                f"{self.folder} needs {needed} B more and the memory has {spare} B to spare; "
                "take a smaller variant, keep fewer revisions, or weights_in_memory = false"
            )
        if needed > available:
            raise DiskFullError(
                f"{self.folder} needs {needed} B more and the disk has {available} B free; "
                "remove old models or mount a larger disk"
            )


def of_variant(manifest: Manifest, variant: str) -> Manifest:
    """The manifest cut to the files of one variant; itself where it has none. Raises as
    ``Manifest.of_variant``."""
    return replace(manifest, files=manifest.of_variant(variant)) if manifest.variants else manifest


def locate_chunks(manifest: Manifest, folder: Path) -> Iterator[tuple[ChunkRef, Path, int]]:
    """Every chunk of a whole revision with its file and offset (bytes)."""
    for entry in manifest.files:
        for offset, ref in entry.placed():
            yield ref, folder / entry.path, offset


def _places(manifest: Manifest) -> dict[ChunkId, list[tuple[str, int, int]]]:
    places: dict[ChunkId, list[tuple[str, int, int]]] = {}
    for entry in manifest.files:
        for offset, ref in entry.placed():
            places.setdefault(ref.id, []).append((entry.path, offset, ref.size))
    return places
