"""Which chunks stay whatever comes: those of the revisions that the channels point at now.

Only for models that this edge serves: somebody asked for a manifest of one of their signed
revisions here, or an operator told the edge to keep them. What the channels say is read from
verified metadata, and a pin brings nothing in; it keeps what is here, and what comes, within
``StoreConfig.pinned_share``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec
import structlog

from edge_tier.cache.documents import DocumentStore
from edge_tier.cache.store import ChunkStore
from wire.channel import ChannelPointer
from wire.chunk import ChunkId
from wire.errors import HeadwaterError
from wire.manifest import Manifest, decode
from wire.paths import channel_key, revision_key
from wire.source import ChunkServer
from wire.trust import TrustView

_log = structlog.get_logger("pins")

PinMode = Literal["serving", "none"]
_KEPT = "kept"
_CURRENT, _PREVIOUS = "current:", "previous:"
_Wanted = tuple[tuple[str, ...], tuple[str, ...] | None]
"""Revisions, and the variants of them; None: all files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PinConfig:
    """What is pinned."""

    pin: PinMode = "serving"
    """``none``: only what an operator told the edge to keep."""
    keep_previous: int = 0
    """Revisions before the current one that stay pinned after a roll: 0 or 1."""


class Kept(msgspec.Struct, frozen=True):
    """A channel that an operator told this edge to keep. No variant: all files."""

    model: str
    channel: str
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rolled:
    """A channel of a served model that names a revision it did not name before, as the current one
    or as a canary."""

    model: str
    channel: str
    revision: str
    before: str
    """The current revision until now."""


class Pins:
    """Keeps the pins of a chunk store as the channels say.

    Args:
        server: gives manifests, and knows what was taken down.
        documents: the manifests that are here, and what an operator told us to keep.
    """

    def __init__(
        self, server: ChunkServer, store: ChunkStore, documents: DocumentStore, config: PinConfig
    ) -> None:
        self._server = server
        self._store = store
        self._documents = documents
        self._config = config
        self._kept: dict[str, Kept] = {}
        self._applied: dict[str, _Wanted] = {}
        self._named: dict[str, tuple[str, ...]] = {}
        self._previous: dict[str, str] = {}
        self._updating = asyncio.Lock()

    async def start(self) -> None:
        """Read what an earlier life was told to keep."""
        document = await self._documents.get(_KEPT)
        if document is not None:
            kept = msgspec.json.decode(document.body, type=list[Kept])
            self._kept = {channel_key(one.model, one.channel): one for one in kept}

    def kept(self) -> tuple[Kept, ...]:
        """What an operator told this edge to keep."""
        return tuple(self._kept.values())

    async def keep(self, model: str, channel: str, variant: str = "") -> None:
        """Pin what the channel points at, now and after each roll; a variant adds to others."""
        key = channel_key(model, channel)
        known = self._kept.get(key)
        variants: tuple[str, ...] = (variant,) if variant else ()
        if known is not None and variants:
            # All files stay all files.
            variants = tuple(sorted({*known.variants, variant})) if known.variants else ()
        self._kept[key] = Kept(model, channel, variants)
        await self._save()

    async def release(self, model: str, channel: str) -> bool:
        """Keep a channel no longer; whether it was kept."""
        found = self._kept.pop(channel_key(model, channel), None) is not None
        await self._save()
        return found

    async def update(self, view: TrustView) -> list[Rolled]:
        """Pin what the channels point at now; the channels that moved since the last time."""
        async with self._updating:
            serving = self._serving(view)
            pointers = {
                channel_key(p.model, p.channel): p
                for p in view.pointers()
                if p.model in serving or channel_key(p.model, p.channel) in self._kept
            }
            rolled = self._moved(pointers)
            await self._apply(self._wanted(pointers))
            return rolled

    def _serving(self, view: TrustView) -> set[str]:
        here = set(self._documents.keys("revision:"))
        return {model for model, revision in view.revisions if revision_key(revision) in here}

    def _moved(self, pointers: Mapping[str, ChannelPointer]) -> list[Rolled]:
        moved: list[Rolled] = []
        for key, pointer in pointers.items():
            before = self._named.get(key, ())
            self._named[key] = pointer.revisions
            if before and before[0] != pointer.revision:
                self._previous[key] = before[0]
            moved += [
                Rolled(pointer.model, pointer.channel, revision, before[0])
                for revision in pointer.revisions
                if before and revision not in before
            ]
        for key in self._named.keys() - pointers.keys():
            del self._named[key]
            self._previous.pop(key, None)
        return moved

    def _wanted(self, pointers: Mapping[str, ChannelPointer]) -> dict[str, _Wanted]:
        """Owner of a pin → what it keeps; what is current comes first."""
        wanted: dict[str, _Wanted] = {}
        for key, pointer in pointers.items():
            kept = self._kept.get(key)
            if self._config.pin == "serving":
                wanted[_CURRENT + key] = (pointer.revisions, None)
            elif kept is not None:
                wanted[_CURRENT + key] = (pointer.revisions, kept.variants or None)
        for key in pointers if self._config.keep_previous else ():
            before = self._previous.get(key)
            if before is not None and _CURRENT + key in wanted:
                wanted[_PREVIOUS + key] = ((before,), wanted[_CURRENT + key][1])
        return wanted

    async def _apply(self, wanted: Mapping[str, _Wanted]) -> None:
        for owner in self._applied.keys() - wanted.keys():
            self._store.unpin(owner)
            del self._applied[owner]
        for owner, (revisions, variants) in wanted.items():
            if self._applied.get(owner) == (revisions, variants):
                continue
            try:
                ids = [
                    id
                    for revision in revisions
                    for id in chunks_of(await self._manifest(revision), variants)  # noqa: A001
                ]
            except HeadwaterError as error:
                # Taken down, or not to be had now; what was pinned stays until we know better.
                _log.info("not pinned", owner=owner, code=error.code, reason=error.message)
                continue
            self._store.pin(owner, ids)
            self._applied[owner] = (revisions, variants)

    async def _manifest(self, revision: str) -> Manifest:
        body = await self._server.manifest(revision)
        return await asyncio.to_thread(decode, body, revision)

    async def _save(self) -> None:
        await self._documents.put(_KEPT, msgspec.json.encode(list(self._kept.values())))


def chunks_of(manifest: Manifest, variants: tuple[str, ...] | None) -> list[ChunkId]:
    """Every chunk once, of all files or of those that somebody with these variants needs."""
    files = [
        entry
        for entry in manifest.files
        if variants is None or not entry.variant or entry.variant in variants
    ]
    return list(dict.fromkeys(ref.id for entry in files for ref in entry.chunks))


def chunks_to_preheat(
    before: Manifest, now: Manifest, is_here: Callable[[ChunkId], bool]
) -> list[ChunkId]:
    """What those who use the revision before will ask for: the small files that edges read, and of
    the weights the variants of which something is here."""
    used = {
        entry.variant
        for entry in before.files
        if entry.role == "weights" and any(is_here(ref.id) for ref in entry.chunks)
    }
    files = [entry for entry in now.files if entry.role != "weights" or entry.variant in used]
    return list(dict.fromkeys(ref.id for entry in files for ref in entry.chunks))
