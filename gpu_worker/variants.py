"""Which variant of a revision a machine takes: exactly one, because it loads exactly one.

The rule is ``gpu_worker.fit_rule``'s. Here the headers that it needs are read: the best variant's
first, and no further ones once one fits wholly, because then none of them would be taken. What
stands on this disk already is taken up again without asking a source, so a worker also boots while
no source answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from gpu_worker.disk import ModelFolder
from gpu_worker.errors import NotAModelError, VariantUnknownError
from gpu_worker.fit import Row
from gpu_worker.fit_rule import Choice, is_last_resort, rank
from gpu_worker.judge import HeaderSoFar, Judge, loaded_files
from wire.chunk import Buffer, Chunk, ChunkId
from wire.errors import GGUFInvalidError, HeadwaterError
from wire.gguf import GGUF, read_gguf
from wire.manifest import ChunkRef, FileEntry, Manifest, decode
from wire.paths import ASSETS
from wire.source import Source
from wire.static_file import STATIC

MAX_HEADER_CHUNKS = 256
_HELD_BYTES = 64 * 1024 * 1024
_AT_ONCE = 8
_AT_ONCE_BYTES = 12 * 1024 * 1024
"""More than a vocabulary, less than that and a piece of the first tensor."""
T = TypeVar("T")


class Blocking(Protocol):
    """Runs a function that may wait for the disk."""

    async def __call__(self, work: Callable[[], T], /) -> T: ...


Local = Callable[[ChunkId, Mapping[str, bytes]], Awaitable[Chunk | None]]


class ManifestOnce:
    """A source that is asked for each manifest and each header once: what :func:`find_variant` has
    read, the pull after it need not fetch again. Lives as long as one pull.

    Args:
        local: gives a chunk that lies on this disk, or None (``gpu_worker.seeds.LocalChunks``).
    """

    def __init__(self, source: Source, local: Local | None = None) -> None:
        self._source = source
        self._local = local
        self._manifests: dict[str, bytes] = {}
        self._held: dict[ChunkId, Chunk] = {}
        self._room = _HELD_BYTES

    @property
    def name(self) -> str:
        return self._source.name

    async def trust_bundle(self, root_version: int) -> bytes:
        return await self._source.trust_bundle(root_version)

    async def channel(self, model: str, channel: str) -> bytes:
        return await self._source.channel(model, channel)

    async def manifest(self, revision: str) -> bytes:
        if revision not in self._manifests:
            self._manifests[revision] = await self._source.manifest(revision)
        return self._manifests[revision]

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        if id in self._held and not revalidate:
            return self._held[id]
        return await self._source.chunk(id, revalidate=revalidate, into=into)

    async def peek(self, id: ChunkId) -> Chunk:  # noqa: A002
        """A chunk that will be asked for again: it is kept, within bounds."""
        here = await self._local(id, self._manifests) if self._local is not None else None
        found = here or await self.chunk(id)
        if id not in self._held and len(found) <= self._room:
            self._held[id] = found
            self._room -= len(found)
        return found

    async def aclose(self) -> None:
        """Nothing: who made the source closes it."""


def candidates(manifest: Manifest, wanted: str = "") -> tuple[str, ...]:
    """The variants that may be taken, the best first; the empty one where there are none.

    Args:
        wanted: the one that the configuration names; it alone, where there are any.

    Raises:
        VariantUnknownError: the revision has variants, but not this one; names those it has.
    """
    variants = manifest.variants
    if not variants:
        return ("",)
    if wanted and wanted not in variants:
        raise VariantUnknownError(f"there is no variant {wanted!r}; there is {', '.join(variants)}")
    sizes = {name: sum(e.size for e in manifest.files if e.variant == name) for name in variants}
    return (wanted,) if wanted else tuple(sorted(variants, key=lambda v: rank(v, sizes[v])))


async def find_variant(
    model: str,
    revision: str,
    source: ManifestOnce,
    folder: ModelFolder,
    blocking: Blocking,
    *,
    wanted: str = "",
    judge: Judge | None = None,
    alone: bool = True,
) -> Choice:
    """The variant of a signed revision to pull, and how much of it goes to GPUs; the one on this
    disk where it will do. Where nothing fits, the choice says so (``refused``).

    Args:
        wanted: the variant that the configuration names.
        judge: the machine; where there is none, the best by its name is taken, and no header is
            read.
        alone: whether the only one that there is is judged, too: it is to be loaded.

    Raises:
        VariantUnknownError: as :func:`candidates`.
        NotAModelError: it is to be loaded, and is a static site.
        GGUFInvalidError: a file whose header cannot be; nothing may load it.
        NotFoundError, SourceUnavailableError, ChunkMismatchError, ManifestInvalidError: the
            manifest or a header was not to be had.
    """
    here = await blocking(lambda: folder.manifest(model, revision))
    if here is not None and alone:
        _require_model(here)
    if here is not None and (not here.variants or not wanted or wanted in here.variants):
        place = folder.path(model, revision)
        judge = judge if alone or here.variants else None
        choice = await blocking(lambda: _choose_here(here, place, judge, wanted))
        if not choice.refused or wanted or not here.variants:
            return choice
        try:  # what was right for another machine, or for another context
            return await _choose_there(revision, source, blocking, judge, wanted)
        except HeadwaterError:
            return choice
    return await _choose_there(revision, source, blocking, judge, wanted, alone=alone)


def _choose_here(manifest: Manifest, folder: Path, judge: Judge | None, wanted: str) -> Choice:
    """Of the one variant that is on this disk. Blocking."""
    variant = candidates(manifest, wanted)[0]
    files = loaded_files(manifest, variant)
    if judge is None or not files:
        return _unjudged(variant)
    headers = [_read(folder / entry.path) for entry in files]
    return judge.choose([judge.row(variant, headers)], wanted=wanted)


async def _choose_there(
    revision: str,
    source: ManifestOnce,
    blocking: Blocking,
    judge: Judge | None,
    wanted: str,
    *,
    alone: bool = True,
) -> Choice:
    """Of what a source has, by the headers alone."""
    data = await source.manifest(revision)
    manifest = await blocking(lambda: decode(data, revision))
    if alone:
        _require_model(manifest)
    names = candidates(manifest, wanted)
    if judge is None or not (alone or manifest.variants):
        return _unjudged(names[0])
    rows: list[Row] = []
    for variant in names:
        files = loaded_files(manifest, variant)
        if not files:
            return _unjudged(variant)
        headers = [await read_header(entry, source, blocking) for entry in files]
        rows.append(await blocking(partial(judge.row, variant, headers)))
        if rows[-1].whole and not is_last_resort(variant):
            break
    return judge.choose(rows, wanted=wanted)


async def read_header(entry: FileEntry, source: ManifestOnce, blocking: Blocking) -> GGUF:
    """A file's header from its first chunks; nothing else is fetched.

    Raises:
        GGUFInvalidError: it has none, or one beyond the limits.
        HeadwaterError: as ``Source.chunk``.
    """
    so_far, rest = HeaderSoFar(entry.size), list(entry.chunks[:MAX_HEADER_CHUNKS])
    batch = rest[:1]
    while batch:
        del rest[: len(batch)]
        found = await asyncio.gather(
            *(source.peek(ref.id) for ref in batch), return_exceptions=True
        )
        header = await blocking(partial(so_far.feed, *map(_data, found)))
        if header is not None:
            return header
        batch = _together(rest)
    raise GGUFInvalidError(f"{entry.path}: no header in its first {MAX_HEADER_CHUNKS} chunks")


def _require_model(manifest: Manifest) -> None:
    if manifest.kind == STATIC:
        raise NotAModelError(
            f"{manifest.model} is a static site, not a model: edges serve it at "
            f"{ASSETS}/{manifest.model}/, and no worker can load it"
        )


def _data(found: Chunk | BaseException) -> Buffer:
    if isinstance(found, BaseException):
        raise found
    return found.data


def _together(rest: Sequence[ChunkRef]) -> list[ChunkRef]:
    """The chunks to ask for at the same time. A header that is not one chunk has a few of them
    (``docs/adr/0010``); where a source is far, each by itself would cost its round trip."""
    taken = list(rest[:_AT_ONCE])
    while len(taken) > 1 and sum(ref.size for ref in taken) > _AT_ONCE_BYTES:
        taken.pop()
    return taken


def _unjudged(variant: str) -> Choice:
    return Choice(variant=variant, reason="not judged: no GGUF, or nobody said for which machine")


def _read(path: Path) -> GGUF:
    try:
        with path.open("rb") as stream:
            return read_gguf(stream, path.stat().st_size)
    except OSError as error:
        raise GGUFInvalidError(f"cannot read {path.name}: {error.strerror}") from error
