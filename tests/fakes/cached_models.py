"""Models in a source in memory, and the verified view that names them, for tests of the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from tests.fakes.source import MemorySource
from wire.channel import Canary, pointer_to
from wire.chunk import ChunkId
from wire.manifest import ChunkRef, FileEntry, build, encode
from wire.trust import TrustView

MODEL = "chat"
CARD = b"the card of the model"


def publish(
    source: MemorySource,
    weights: Mapping[str, Sequence[bytes]],
    *,
    model: str = MODEL,
    card: bytes = CARD,
) -> tuple[str, dict[str, list[ChunkId]]]:
    """Put a revision into the source: its id, and the chunks of each variant's weights.

    Args:
        weights: variant (or ``""``) → the chunks of its one file.
    """
    files = [_entry(source, "model.json", "model", "", [card])]
    ids: dict[str, list[ChunkId]] = {}
    for variant, chunks in weights.items():
        entry = _entry(source, f"model-{variant}.gguf", "weights", variant, chunks)
        files.append(entry)
        ids[variant] = [ref.id for ref in entry.chunks]
    body = encode(build(model, tuple(files), {}))
    return source.add_manifest(body), ids


def card_chunk(source: MemorySource, card: bytes = CARD) -> ChunkId:
    """The chunk of the small file that every revision has."""
    return source.add_chunk(card)


def view_of(
    *channels: tuple[str, str], model: str = MODEL, signed: Sequence[str] = (), canary: str = ""
) -> TrustView:
    """A view in which each (channel, revision) stands; ``signed`` are further revisions."""
    other = Canary(revision=canary, percent=10) if canary else None
    revisions = {revision for _, revision in channels} | set(signed) | ({canary} - {""})
    return TrustView(
        versions={},
        expires={"root": 4e9},
        channels={
            (model, channel): pointer_to(model, channel, revision, sequence=1, canary=other)
            for channel, revision in channels
        },
        refused={},
        revisions={(model, revision): 1 for revision in revisions},
    )


def _entry(
    source: MemorySource, path: str, role: str, variant: str, chunks: Sequence[bytes]
) -> FileEntry:
    data = b"".join(chunks)
    return FileEntry(
        path=path,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        role="weights" if role == "weights" else "model",
        chunks=tuple(ChunkRef(source.add_chunk(chunk), len(chunk)) for chunk in chunks),
        variant=variant,
    )
