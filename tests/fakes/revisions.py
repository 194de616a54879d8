"""Revisions made on the spot, and a source that signs what it serves."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from origin.documents import (
    expiry,
    pointer_target,
    sign_channels,
    sign_snapshot,
    sign_timestamp,
)
from origin.offline import sign_revisions
from origin.signing import Repository
from tests.fakes.source import MemorySource
from wire.channel import Canary, pointer_to
from wire.chunk import Chunk, ChunkId
from wire.golden import GOLDEN_PATH
from wire.manifest import (
    ChunkRef,
    FileEntry,
    FileRole,
    Manifest,
    build,
    decode,
    encode,
    revision_of,
)
from wire.trust_bundle import CHANNELS, SNAPSHOT, TIMESTAMP, TrustBundle, encode_bundle


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision with all its bytes."""

    model: str
    data: bytes
    """The manifest's bytes."""
    chunks: dict[ChunkId, bytes]
    files: dict[str, bytes]

    @property
    def id(self) -> str:
        return revision_of(self.data)

    @property
    def manifest(self) -> Manifest:
        return decode(self.data, self.id)

    @property
    def unique_bytes(self) -> int:
        """Bytes of the chunks, each counted once."""
        return sum(map(len, self.chunks.values()))


def make_revision(
    files: Mapping[str, Sequence[bytes]], *, model: str = "chat", role: FileRole = "weights"
) -> Revision:
    """A revision of files that are given as their chunks."""
    chunks: dict[ChunkId, bytes] = {}
    entries = []
    for path, parts in files.items():
        named = [Chunk.of(part) for part in parts]
        chunks |= {chunk.id: bytes(chunk.data) for chunk in named}
        whole = b"".join(parts)
        entries.append(
            FileEntry(
                path=path,
                size=len(whole),
                sha256=hashlib.sha256(whole).hexdigest(),
                role="other" if path == GOLDEN_PATH else role,
                chunks=tuple(ChunkRef(chunk.id, len(chunk)) for chunk in named),
            )
        )
    data = encode(build(model, tuple(entries), {}))
    whole_files = {path: b"".join(parts) for path, parts in files.items()}
    return Revision(model, data, chunks, whole_files)


def chunk_of(seed: int, size: int = 1_000) -> bytes:
    """Bytes that are like no other seed's."""
    return hashlib.shake_128(seed.to_bytes(8, "big")).digest(size)


def signing_key(seed: int) -> CryptoSigner:
    """An Ed25519 key that is the same every time."""
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY = (signing_key(seed) for seed in (1, 2, 3))


class SignedSource(MemorySource):
    """A MemorySource with a signed repository: what it was told to publish and where to point."""

    def __init__(self, name: str = "memory", *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name)
        self.clock = clock
        self.forged: bytes | None = None
        self.repository = Repository.create(ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, now=clock())

    @property
    def root(self) -> bytes:
        """The root that clients are installed with."""
        return self.repository.first_root

    def add(self, revision: Revision) -> None:
        """Hold a revision's bytes, unsigned."""
        self.add_manifest(revision.data)
        self.chunks |= revision.chunks

    def publish(self, revision: Revision, *, channel: str | None = "stable") -> str:
        """Hold a revision, sign it, and point a channel at it."""
        self.add(revision)
        if (revision.model, revision.id) not in self.repository.view.revisions:
            current = self.repository.trusted.bundle.roles["revisions"]
            added = [(revision.model, revision.id, len(revision.data))]
            kind = revision.manifest.kind
            signed = sign_revisions(current, PUBLISHER_KEY, added, kind=kind, now=self.clock())
            self.repository = self.repository.accept_revisions(signed, now=self.clock()).repository
        if channel is not None:
            self.roll(revision, channel=channel)
        return revision.id

    def roll(
        self, revision: Revision, *, channel: str = "stable", canary: Canary | None = None
    ) -> None:
        """Point a channel at a signed revision, and perhaps a share of the workers at another."""
        self.repository = self.repository.set_channel(
            revision.model, channel, revision.id, canary=canary, now=self.clock()
        ).repository

    def betray(self, revision: Revision) -> None:
        """Point ``stable`` at what the publisher never signed, as a thief of the online key can."""
        pointer = pointer_to(revision.model, "stable", revision.id, sequence=9_000)
        target = pointer_target(pointer)
        expires = expiry(self.clock(), 86_400)
        roles = dict(self.repository.trusted.bundle.roles)
        roles[CHANNELS] = sign_channels({target.path: target}, 9_000, ONLINE_KEY, expires)
        roles[SNAPSHOT] = sign_snapshot(roles, 9_000, ONLINE_KEY, expires)
        roles[TIMESTAMP] = sign_timestamp(roles[SNAPSHOT], 9_000, 9_000, ONLINE_KEY, expires)
        self.forged = encode_bundle(TrustBundle(roles))

    async def trust_bundle(self, root_version: int) -> bytes:
        self.bundle = self.forged or self.repository.bundle(root_version)
        return await super().trust_bundle(root_version)

    async def channel(self, model: str, channel: str) -> bytes:
        await self._enter(f"channel:{model}@{channel}")
        return self.repository.pointer(model, channel)
