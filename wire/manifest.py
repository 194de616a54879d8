"""The manifest of a revision: its files, their chunks, and nothing that is not needed.

A manifest has exactly one byte form (sorted keys, no white space); the SHA-256 of those bytes names
the revision. Decoding refuses any other form, so two readers can never see two different manifests
under one name. It holds no time and no host, so publishing the same file twice gives the same
revision.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

import msgspec

from wire.chunk import MAX_CHUNK_BYTES, ChunkId, is_digest
from wire.errors import ManifestInvalidError, NotFoundError
from wire.paths import file_path, model_name, variant_name
from wire.static_file import MODEL, StaticFile, check_static_files

FORMAT = "headwater.manifest/1"
MAX_MANIFEST_BYTES = 64 * 1024 * 1024
MAX_FILES = 4_096
MAX_STATIC_FILES = 16_384
"""Of a static site, its compressed forms counted."""
MAX_CHUNKS = 524_288
"""Chunks in one revision; 4 TiB of full chunks."""

Kind = Literal["model", "static"]
"""What a revision is for: workers load models, browsers read static sites."""
FileRole = Literal["weights", "tokenizer", "model", "other"]
"""``tokenizer`` and ``model`` are the edge bundle: small, and all that an edge reads."""


class ChunkRef(msgspec.Struct, frozen=True, array_like=True):
    """A chunk of a file: its id and its size in bytes."""

    id: ChunkId
    size: int


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, cache_hash=True):
    """A file of a revision. The chunks, in order, are exactly its bytes."""

    path: str
    size: int
    sha256: str
    role: FileRole
    chunks: tuple[ChunkRef, ...]
    variant: str = ""
    """The variant of the weights that the file belongs to (``Q4_K_M``): a worker needs one of them,
    with all its parts, and every file without one."""
    static: StaticFile | None = None
    """How a browser is given the file; of static sites only."""

    def placed(self) -> Iterator[tuple[int, ChunkRef]]:
        """Each chunk with its offset (bytes) in the file."""
        offset = 0
        for ref in self.chunks:
            yield offset, ref
            offset += ref.size


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A revision of a model. Build it with :func:`build`, read it with :func:`decode`."""

    format: str
    model: str
    files: tuple[FileEntry, ...]
    metadata: dict[str, str]
    kind: Kind = MODEL
    """Not written where it is ``model``, so manifests from before there were kinds keep their
    names."""

    def file(self, path: str) -> FileEntry:
        """The file at ``path``.

        Raises:
            NotFoundError: the revision has no such file.
        """
        for entry in self.files:
            if entry.path == path:
                return entry
        raise NotFoundError(f"revision of {self.model} has no file {path!r}")

    def by_role(self, role: FileRole) -> tuple[FileEntry, ...]:
        """The files with this role, in manifest order."""
        return tuple(entry for entry in self.files if entry.role == role)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants, in manifest order; empty where the revision has none."""
        return tuple(dict.fromkeys(entry.variant for entry in self.files if entry.variant))

    def of_variant(self, variant: str) -> tuple[FileEntry, ...]:
        """The files that a worker with this variant needs, in manifest order.

        Raises:
            NotFoundError: the revision has no such variant; names those it has.
        """
        if variant and variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise NotFoundError(
                f"revision of {self.model} has no variant {variant!r}; it has {known}"
            )
        return tuple(entry for entry in self.files if entry.variant in ("", variant))

    def chunk_refs(self) -> dict[ChunkId, ChunkRef]:
        """Every chunk once, in first-use order."""
        return {ref.id: ref for entry in self.files for ref in entry.chunks}

    @property
    def size(self) -> int:
        """Bytes of all files, before sharing."""
        return sum(entry.size for entry in self.files)


_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder(Manifest)


def build(
    model: str, files: tuple[FileEntry, ...], metadata: dict[str, str], *, kind: Kind = MODEL
) -> Manifest:
    """A checked manifest.

    Raises:
        ManifestInvalidError: something is out of bounds or inconsistent.
    """
    manifest = Manifest(format=FORMAT, model=model, files=files, metadata=metadata, kind=kind)
    _check(manifest)
    return manifest


def encode(manifest: Manifest) -> bytes:
    """The manifest's only byte form."""
    return _encoder.encode(manifest)


def revision_of(data: bytes) -> str:
    """The revision that these manifest bytes name."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes, revision: str) -> Manifest:
    """Read manifest bytes that must be those of ``revision``.

    Raises:
        ManifestInvalidError: wrong hash, not canonical, or out of bounds.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ManifestInvalidError(f"manifest of {len(data)} B is over {MAX_MANIFEST_BYTES} B")
    if revision_of(data) != revision:
        raise ManifestInvalidError(f"manifest bytes are not those of revision {revision}")
    try:
        manifest = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ManifestInvalidError(f"manifest of {revision} is malformed: {error}") from error
    if encode(manifest) != data:
        raise ManifestInvalidError(f"manifest of {revision} is not in canonical form")
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    if manifest.format != FORMAT:
        raise ManifestInvalidError(f"manifest format {manifest.format!r} is not {FORMAT!r}")
    model_name(manifest.model)
    for variant in manifest.variants:
        variant_name(variant)
    most = MAX_FILES if manifest.kind == MODEL else MAX_STATIC_FILES
    if not 0 < len(manifest.files) <= most:
        raise ManifestInvalidError(f"manifest has {len(manifest.files)} files; 1..{most}")
    paths = [file_path(entry.path) for entry in manifest.files]
    if len(set(paths)) != len(paths):
        raise ManifestInvalidError("manifest names a file path twice")
    if sum(len(entry.chunks) for entry in manifest.files) > MAX_CHUNKS:
        raise ManifestInvalidError(f"manifest has more than {MAX_CHUNKS} chunks")
    sizes: dict[str, int] = {}
    for entry in manifest.files:
        _check_file(entry, sizes)
    if manifest.kind == MODEL:
        if any(entry.static is not None for entry in manifest.files):
            raise ManifestInvalidError("a model has no file of a static site")
    elif any(entry.role != "other" or entry.variant for entry in manifest.files):
        raise ManifestInvalidError("a static site has neither weights nor variants")
    else:
        check_static_files({entry.path: entry.static for entry in manifest.files})


def _check_file(entry: FileEntry, sizes: dict[str, int]) -> None:
    """``sizes`` remembers each chunk's size over the files: one id cannot have two."""
    if not is_digest(entry.sha256):
        raise ManifestInvalidError(f"{entry.path}: sha256 is not a digest")
    for ref in entry.chunks:
        if not is_digest(ref.id) or not 0 < ref.size <= MAX_CHUNK_BYTES:
            raise ManifestInvalidError(f"{entry.path}: chunk {ref.id[:80]!r} of {ref.size} B")
        if sizes.setdefault(ref.id, ref.size) != ref.size:
            raise ManifestInvalidError(f"{entry.path}: chunk {ref.id} stands with two sizes")
    if sum(ref.size for ref in entry.chunks) != entry.size:
        raise ManifestInvalidError(f"{entry.path}: chunks do not add up to {entry.size} B")
