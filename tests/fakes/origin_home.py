"""A real origin's folder, to start from, to look into and to spoil."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp.test_utils import TestServer
from securesystemslib.signer import CryptoSigner

from origin.config import OriginConfig
from origin.keys import ONLINE_KEY, PUBLISHER_KEY, ROOT_FILE, load_key
from origin.offline import sign_revisions
from origin.signing import Repository
from origin.store import ObjectStore
from tests.fakes.revisions import Revision
from wire.chunk import Chunk

REPOSITORY_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Home:
    """Where an origin lives: its store, keys and token, made by ``origin.init``."""

    folder: Path
    config: OriginConfig

    @property
    def store_folder(self) -> Path:
        return Path(self.config.store)

    @property
    def token(self) -> str:
        return self.config.admin_token_file.read_text()

    @property
    def publisher_key(self) -> CryptoSigner:
        return load_key(self.config.keys_dir / PUBLISHER_KEY)

    @property
    def root(self) -> bytes:
        return (self.config.keys_dir / ROOT_FILE).read_bytes()

    def chunk_file(self, chunk: str) -> Path:
        return self.store_folder / "chunks" / chunk[:2] / chunk

    def open_store(self) -> ObjectStore:
        return ObjectStore(self.config.store)

    async def load(self, store: ObjectStore | None = None) -> Repository:
        """The repository, as an origin that starts now would find it."""
        documents = await (store or self.open_store()).trust_documents()
        return Repository.load(documents, load_key(self.config.keys_dir / ONLINE_KEY))

    async def fill(self, store: ObjectStore, revision: Revision) -> None:
        """Store a revision's objects, unsigned."""
        for data in revision.chunks.values():
            await store.put_chunk(Chunk.of(data))
        await store.put_manifest(revision.id, revision.data)

    def sign(self, repository: Repository, *revisions: Revision) -> bytes:
        """The list of revisions with these added."""
        current = repository.trusted.bundle.roles["revisions"]
        added = [(r.model, r.id, len(r.data)) for r in revisions]
        return sign_revisions(current, self.publisher_key, added, now=time.time())


@dataclass(slots=True)
class OriginProcess:
    """An origin in a process of its own."""

    process: asyncio.subprocess.Process
    url: str

    async def kill(self) -> None:
        """SIGKILL: no goodbye."""
        self.process.kill()
        await self.process.wait()


class StartOrigin(Protocol):
    async def __call__(self, config: OriginConfig | None = None) -> TestServer: ...


StartProcess = Callable[[], Awaitable[OriginProcess]]
