"""A disk that fails on demand, and the types of what opens a cache in a test."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from edge_tier.cache.disk import write_file
from edge_tier.cache.fill import CachingSource
from edge_tier.cache.store import ChunkStore
from wire.chunk import Buffer

StoreFactory = Callable[..., AbstractAsyncContextManager[ChunkStore]]
EdgeFactory = Callable[..., AbstractAsyncContextManager[CachingSource]]


class FaultyDisk:
    """A writer that writes half of the bytes and then fails, while ``error`` is set."""

    def __init__(self) -> None:
        self.error: int | None = None
        self.writes = 0

    def fill_up(self) -> None:
        self.error = errno.ENOSPC

    def __call__(self, path: Path, data: Buffer, fsync: bool) -> None:
        self.writes += 1
        if self.error is None:
            write_file(path, data, fsync)
            return
        write_file(path, memoryview(data)[: len(data) // 2], fsync)
        raise OSError(self.error, os.strerror(self.error))
