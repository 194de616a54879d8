"""Objects as files of a local folder.

A name appears only when its bytes are flushed: obstore renames before, and a power cut could then
leave a name without its bytes. Nothing is read through a symbolic link below the folder, so
whoever can only add names to it cannot make the origin send another file.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from origin.errors import StoreError
from origin.stores.objects import Stat, Tag
from wire.chunk import Buffer
from wire.errors import ConflictError, NotFoundError, TooLargeError
from wire.files import sync_folder

_STAGING = "staging"
_LOCK = "lock"
_ANY_SIZE = sys.maxsize
"""Of what this store wrote itself."""
_ABSENT = {errno.ENOENT, errno.ELOOP}


class FolderObjects:
    """A folder, which is made where it is missing.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def remote(self) -> bool:
        return False

    def put(self, key: str, data: Buffer) -> None:
        try:
            _write_whole(self._folder / key, data, self._folder / _STAGING)
        except OSError as error:
            raise StoreError(f"cannot write {key}: {error.strerror}") from error

    def swap(self, key: str, data: bytes, tag: Tag | None) -> Tag:
        with self._locked():
            try:
                found = self.get_tagged(key, _ANY_SIZE)
            except NotFoundError:
                found = None
            if (found[1] if found is not None else None) != tag:
                raise ConflictError(f"{key} was changed by somebody else")
            self.put(key, data)
        return _tag(data)

    def get(self, key: str, limit_bytes: int) -> Buffer:
        try:
            file = os.open(self._checked(key), os.O_RDONLY | os.O_NOFOLLOW)
            try:
                found = os.fstat(file)
                if not stat.S_ISREG(found.st_mode):
                    raise StoreError(f"cannot read {key}: it is no file")
                if found.st_size > limit_bytes:
                    raise TooLargeError(f"{key} has {found.st_size} B, over {limit_bytes} B")
                with os.fdopen(file, "rb", closefd=False) as stream:
                    return stream.read(found.st_size)
            finally:
                os.close(file)
        except OSError as error:
            if error.errno in _ABSENT:
                raise NotFoundError(f"not in the store: {key}") from error
            raise StoreError(f"cannot read {key}: {error.strerror}") from error

    def get_tagged(
        self, key: str, limit_bytes: int, known: Tag | None = None
    ) -> tuple[bytes, Tag] | None:
        data = bytes(self.get(key, limit_bytes))
        tag = _tag(data)
        return None if known == tag else (data, tag)

    def stat(self, key: str) -> Stat | None:
        try:
            found = self._checked(key).lstat()
        except OSError as error:
            if error.errno in _ABSENT:
                return None
            raise StoreError(f"cannot look up {key}: {error.strerror}") from error
        if not stat.S_ISREG(found.st_mode):
            return None
        return Stat(key, found.st_size, found.st_mtime)

    def pages(self, prefix: str) -> Iterator[list[Stat]]:
        """A page is a folder's files; links are no objects."""
        folders = [prefix.rstrip("/")]
        while folders:
            here = folders.pop()
            page = []
            try:
                with os.scandir(self._folder / here) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(f"{here}/{entry.name}")
                        elif entry.is_file(follow_symlinks=False):
                            with suppress(FileNotFoundError):  # removed since it was seen
                                found = entry.stat(follow_symlinks=False)
                                name = f"{here}/{entry.name}"
                                page.append(Stat(name, found.st_size, found.st_mtime))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise StoreError(f"cannot list {here}: {error.strerror}") from error
            if page:
                yield page

    def remove(self, keys: Sequence[str]) -> None:
        for key in keys:
            try:
                self._checked(key).unlink(missing_ok=True)
            except OSError as error:
                raise StoreError(f"cannot remove {key}: {error.strerror}") from error

    def move(self, old: str, new: str) -> None:
        source, target = self._checked(old), self._folder / new
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            source.rename(target)
        except FileNotFoundError as error:
            raise NotFoundError(f"not in the store: {old}") from error
        except OSError as error:
            raise StoreError(f"cannot move {old}: {error.strerror}") from error

    def path(self, key: str) -> Path | None:
        return self._folder / key

    def sweep(self) -> None:
        shutil.rmtree(self._folder / _STAGING, ignore_errors=True)

    def _checked(self, key: str) -> Path:
        """The path of an object. Raises ``OSError`` where its folder is a link."""
        path = self._folder / key
        if path.parent.is_symlink():
            raise OSError(errno.ELOOP, "its folder is a symbolic link")
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone among the processes that use the folder."""
        try:
            handle = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StoreError(f"cannot lock the store: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _tag(data: bytes) -> Tag:
    return {"sha256": hashlib.sha256(data).hexdigest()}


def _write_whole(path: Path, data: Buffer, staging: Path) -> None:
    """Write a file that appears whole, and is there to stay once this returns."""
    staging.mkdir(parents=True, exist_ok=True)
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent.parent)
    temporary = staging / uuid.uuid4().hex
    try:
        with temporary.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
