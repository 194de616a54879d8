"""The images of revisions, made when they are asked for and found again by digest.

Nothing is stored: a digest is looked for by making the images of a revision again. What was made is
remembered within bounds, so that asking for digests that do not exist costs little.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from wire.bundle import CARD_PATH, MAX_CARD_BYTES, BundleInvalidError, ModelCard, decode_card
from wire.catalog import FacadeConfig
from wire.chat_sandbox import Turn
from wire.chat_template import ChatTemplate
from wire.errors import HeadwaterError
from wire.go_template import go_template
from wire.manifest import FileEntry, Manifest
from wire.registry import (
    BlobUnknownError,
    Image,
    ManifestUnknownError,
    model_pack,
    ollama_image,
)
from wire.revision_reader import RevisionReader

_IMAGES_HELD = 128


class Images:
    """Images of the revisions that a reader of revisions gives.

    All methods raise what ``RevisionReader.manifest`` and ``read`` raise.
    """

    def __init__(self, revisions: RevisionReader, config: FacadeConfig) -> None:
        self._revisions = revisions
        self._digests_held = config.digests_held
        self._images: OrderedDict[tuple[str, str], tuple[Image, ...]] = OrderedDict()
        self._digests: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._digest_count = 0

    async def of_variant(self, revision: str, variant: str) -> tuple[Image, ...]:
        """The images of a variant: ModelPack's, and Ollama's after it where it can have one."""
        manifest = await self._revisions.manifest(revision)  # asked every time: it may be gone
        held = self._images.get((revision, variant))
        if held is not None:
            self._images.move_to_end((revision, variant))
            return held
        card = await self._card(manifest)
        template = await asyncio.to_thread(ollama_template, card) if card is not None else None
        made = [model_pack(manifest, variant, card)]
        with suppress(ManifestUnknownError):  # there may be nothing in it that Ollama could load
            made.append(ollama_image(manifest, variant, card, template))
        held = self._images[revision, variant] = tuple(made)
        if len(self._images) > _IMAGES_HELD:
            self._images.popitem(last=False)
        return held

    async def of(self, revision: str) -> list[Image]:
        """All images of a revision."""
        manifest = await self._revisions.manifest(revision)
        images: list[Image] = []
        for variant in manifest.variants or ("",):
            images += await self.of_variant(revision, variant)
        return images

    def knows(self, revision: str) -> bool:
        """Whether :meth:`digests` needs nobody to be asked."""
        return revision in self._digests

    async def digests(self, revision: str) -> frozenset[str]:
        """The digests of everything that belongs to a revision."""
        held = self._digests.get(revision)
        if held is not None:
            self._digests.move_to_end(revision)
            return held
        manifest = await self._revisions.manifest(revision)
        found = {f"sha256:{entry.sha256}" for entry in manifest.files}
        for image in await self.of(revision):
            found |= {image.digest, *image.blobs}
        self._keep(revision, frozenset(found))
        return frozenset(found)

    async def blob(self, revision: str, digest: str) -> FileEntry | bytes:
        """A blob of a revision: a file, or the bytes of a small one.

        Raises:
            BlobUnknownError: the revision has none with this digest.
        """
        manifest = await self._revisions.manifest(revision)
        for entry in manifest.files:
            if digest == f"sha256:{entry.sha256}":
                return entry
        for image in await self.of(revision):
            if digest in image.blobs:
                return image.blobs[digest]
        raise BlobUnknownError(f"{manifest.model} has no blob {digest}")

    async def _card(self, manifest: Manifest) -> ModelCard | None:
        entry = next((e for e in manifest.by_role("model") if e.path == CARD_PATH), None)
        if entry is None:
            return None
        data = await self._revisions.read(entry, MAX_CARD_BYTES)
        try:
            return decode_card(data)
        except BundleInvalidError:
            return None

    def _keep(self, revision: str, digests: frozenset[str]) -> None:
        self._digest_count += len(digests) - len(self._digests.pop(revision, ()))
        self._digests[revision] = digests
        while self._digest_count > self._digests_held and len(self._digests) > 1:
            _, dropped = self._digests.popitem(last=False)
            self._digest_count -= len(dropped)


def ollama_template(card: ModelCard) -> str | None:
    """The card's chat template in Ollama's language, where it is understood. Takes its time."""
    if card.template != "exact":
        return None
    # The same image at any time of day: a template that shows the date is not understood.
    try:
        template = ChatTemplate(card, lambda: datetime(2001, 1, 1, tzinfo=UTC))
    except HeadwaterError:
        return None
    texts = {token.id: token.text for token in card.control_literals}

    def render(turns: Sequence[Turn]) -> str:
        pieces = template.render(turns)
        return "".join(piece if isinstance(piece, str) else texts[piece] for piece in pieces)

    try:
        return go_template(render)
    except HeadwaterError:
        return None
