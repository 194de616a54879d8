"""Which variant of a revision a machine takes: exactly one, because it loads exactly one.

The decision is :func:`choose_variant`, a pure function. What stands on this disk already is taken
up again without asking a source, so a worker also boots while no source answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gpu_worker.disk import ModelFolder
from gpu_worker.errors import VariantUnknownError
from wire.chunk import Chunk, ChunkId
from wire.manifest import Manifest, decode
from wire.source import Source

PREFERENCE = ("Q5_K_M", "Q4_K_M", "Q8_0", "Q6_K", "Q5_0", "Q4_0")
"""The best first, where nobody said which: near the original's quality at a third of its size."""


class ManifestOnce:
    """A source that is asked for each manifest once: what :func:`find_variant` has read, the pull
    after it need not fetch again. Lives as long as one pull."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._manifests: dict[str, bytes] = {}

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
        return await self._source.chunk(id, revalidate=revalidate, into=into)

    async def aclose(self) -> None:
        """Nothing: who made the source closes it."""


def choose_variant(variants: tuple[str, ...], wanted: str = "") -> str:
    """The variant to take of those that a revision has; empty where it has none.

    Args:
        variants: in manifest order.
        wanted: what the configuration names; empty: the best by :data:`PREFERENCE`, else the first.

    Raises:
        VariantUnknownError: the revision has variants, but not this one; names those it has.
    """
    if not variants:
        return ""
    if wanted and wanted not in variants:
        raise VariantUnknownError(f"there is no variant {wanted!r}; there is {', '.join(variants)}")
    preferred = (name for name in PREFERENCE if name in variants)
    return wanted or next(preferred, variants[0])


async def find_variant(
    model: str,
    revision: str,
    source: Source,
    folder: ModelFolder,
    blocking: Callable[[Callable[[], Manifest | None]], Awaitable[Manifest | None]],
    *,
    wanted: str = "",
) -> str:
    """The variant of a signed revision to pull; the one on this disk where it will do.

    Args:
        blocking: runs a function that may wait for the disk.

    Raises:
        VariantUnknownError: as :func:`choose_variant`.
        NotFoundError, SourceUnavailableError, ManifestInvalidError: the manifest was not to be
            had.
    """
    here = await blocking(lambda: folder.manifest(model, revision))
    if here is not None and (not here.variants or not wanted or wanted in here.variants):
        return choose_variant(here.variants, wanted)
    data = await source.manifest(revision)
    manifest = await blocking(lambda: decode(data, revision))
    return choose_variant(manifest.variants if manifest else (), wanted)
