"""A client of the trust metadata that knows no other source than an attacker's edge, and thieves
of keys."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile

from origin.documents import (
    DAY_S,
    expiry,
    sign_channels,
    sign_snapshot,
    sign_timestamp,
)
from origin.offline import sign_revisions
from origin.rotate import Changes, add_signatures, prepare_rotation
from origin.signing import Repository
from tests.fakes.hostile_edge import HostileEdge
from tests.fakes.revisions import signing_key
from wire.errors import (
    TrustError,
)
from wire.http_source import HttpSource
from wire.trust import TrustView
from wire.trust_bundle import (
    SNAPSHOT,
    TIMESTAMP,
    TrustBundle,
    TrustLimits,
)
from wire.trust_client import TrustClient
from wire.trust_store import TrustStore

NOW = 1_000_000_000.0
"""In 2001: whatever read the system's clock would find everything expired."""
FAR = 2**31
ONE, TWO, EVIL = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2", b"evil"))
ROOT, ROOT_2, ROOT_3, PUBLISHER, ONLINE, THIEF, NEXT = (signing_key(seed) for seed in range(7))
LIMITS = TrustLimits(bundle_bytes=4 << 20)


def published(*, now: float = NOW) -> Repository:
    """Two signed revisions, the channel on the first; a root of two keys in three."""
    repository = Repository.create(
        ROOT, PUBLISHER, ONLINE, now=now, more_root_keys=[ROOT_2, ROOT_3], root_threshold=2
    )
    signed = sign_revisions(
        repository.document("1.revisions.json"),
        PUBLISHER,
        [("chat", ONE, 100), ("chat", TWO, 200)],
        now=now,
    )
    repository = repository.accept_revisions(signed, now=now).repository
    repository = repository.set_channel("chat", "stable", ONE, now=now).repository
    return repository.set_channel("chat", "beta", TWO, now=now).repository


def rotated(repository: Repository, online: CryptoSigner, *, now: float = NOW) -> Repository:
    """The same with another online key, signed by two of the three root keys."""
    rotation = prepare_rotation(
        repository.bundle(0), repository.first_root, Changes(online=online.public_key), now=now
    )
    signed = add_signatures(rotation, repository.first_root, [ROOT, ROOT_3, PUBLISHER])
    return repository.accept(
        root=signed.root, targets=signed.targets, online_key=online, now=now
    ).repository


@asynccontextmanager
async def reaching(*edges: HostileEdge) -> AsyncIterator[list[HttpSource]]:
    with ThreadPoolExecutor(2) as pool:
        sources = [HttpSource(edge.url, pool) for edge in edges]
        yield sources
        for source in sources:
            await source.aclose()


@dataclass
class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@dataclass
class Victim:
    """A client with a state on disk, that knows no other source than the attacker's edge."""

    edge: HostileEdge
    source: HttpSource
    store: TrustStore
    clock: Clock

    @property
    def client(self) -> TrustClient:
        return TrustClient(self.source, self.store)

    @property
    def view(self) -> TrustView:
        """What the victim believes now."""
        view = self.store.view
        assert view is not None
        return view

    async def takes(self, bundle: TrustBundle) -> TrustView:
        self.edge.serve(bundle)
        return await self.client.refresh()

    async def refuses(
        self, bundle: TrustBundle, why: str, kind: type[TrustError] = TrustError
    ) -> None:
        before = self.client.view
        with pytest.raises(kind, match=why):
            await self.takes(bundle)
        assert self.client.view == before


@dataclass
class Thief:
    """Somebody with the online key of an origin, and so with what signs channels and snapshots."""

    bundle: TrustBundle
    key: CryptoSigner = ONLINE

    def forged(self, version: int = 1000, **changed: bytes) -> TrustBundle:
        """The published bundle with these roles, and a snapshot and timestamp that agree."""
        roles = {**self.bundle.roles, **changed}
        expires = expiry(NOW, DAY_S)
        roles[SNAPSHOT] = sign_snapshot(roles, version, self.key, expires)
        roles[TIMESTAMP] = sign_timestamp(roles[SNAPSHOT], version, version, self.key, expires)
        return TrustBundle(roles, self.bundle.roots)

    def channels(self, *targets: TargetFile, version: int = 1000) -> bytes:
        named = {target.path: target for target in targets}
        return sign_channels(named, version, self.key, expiry(NOW, DAY_S))


def with_role(bundle: TrustBundle, role: str, data: bytes) -> TrustBundle:
    return TrustBundle({**bundle.roles, role: data}, bundle.roots)
