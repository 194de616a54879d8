"""An origin with tiny models, for edges to stand over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from origin.app import PUBLISHER
from origin.keys import PUBLISHER_KEY, load_key
from origin.offline import sign_revisions
from tests.fakes.gateway import MODEL, publish_tiny
from tests.fakes.source import MemorySource
from wire.chunk import Chunk
from wire.trust_bundle import REVISIONS, TrustLimits, decode_bundle


@dataclass(slots=True)
class Origin:
    """An origin that publishes tiny revisions."""

    folder: Path
    server: TestServer
    url: str
    revisions: list[str] = field(default_factory=list)

    async def publish(self, seed: int = 0) -> str:
        """Publish a tiny revision and roll ``stable`` to it."""
        source = MemorySource()
        revision = await asyncio.to_thread(publish_tiny, source, seed=seed)
        publisher = self.server.app[PUBLISHER]
        for data in source.chunks.values():
            await publisher.store.put_chunk(Chunk.of(data))
        manifest = source.manifests[revision]
        await publisher.store.put_manifest(revision, manifest)
        bundle = decode_bundle(publisher.repository.bundle(0), TrustLimits())
        key = load_key(self.folder / "keys" / PUBLISHER_KEY)
        added = [(MODEL, revision, len(manifest))]
        await publisher.publish(
            sign_revisions(bundle.roles[REVISIONS], key, added, now=time.time())
        )
        await publisher.roll(MODEL, "stable", revision)
        self.revisions.append(revision)
        return revision


StartEdge = Callable[..., Awaitable[TestClient[Any, Any]]]
