from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.fakes.facades import make_model
from tests.fakes.revisions import Revision, make_revision
from tests.fakes.source import MemorySource
from wire.catalog import FacadeConfig
from wire.errors import GoneError
from wire.images import Images
from wire.manifest import FileEntry
from wire.paths import revision_key
from wire.registry import OCI_MANIFEST, BlobUnknownError, digest_of
from wire.revision_reader import RevisionReader

MODEL = make_model("chat", variants=("Q8_0", "Q4_K_M"))
OTHER = make_model("chat", seed=1)
BARE = make_revision({"model.safetensors": [b"x" * 64]})


@pytest.fixture
def source() -> MemorySource:
    source = MemorySource()
    for model in (MODEL, OTHER, BARE):
        source.add_manifest(model.data)
        source.chunks |= model.chunks
    return source


@pytest.fixture
def images(source: MemorySource, executor: ThreadPoolExecutor) -> Images:
    return Images(RevisionReader(source, executor, 1_000_000), FacadeConfig(digests_held=12))


async def everything(images: Images, revision: Revision) -> set[str]:
    """Digests of all files, manifests and made blobs."""
    made = await images.of(revision.id)
    small = {digest for image in made for digest in image.blobs}
    files = {digest_of(data) for data in revision.files.values()}
    return files | small | {image.digest for image in made}


async def test_a_revision_has_two_images_for_each_variant(images: Images) -> None:
    made = await images.of(MODEL.id)
    assert len({image.digest for image in made}) == 4
    assert [image.media_type == OCI_MANIFEST for image in made] == [True, False] * 2
    assert await images.digests(MODEL.id) == await everything(images, MODEL)


async def test_what_ollama_cannot_load_has_only_the_other(images: Images) -> None:
    (image,) = await images.of(BARE.id)
    assert image.media_type == OCI_MANIFEST


async def test_every_digest_leads_to_its_bytes(images: Images) -> None:
    manifests = {image.digest for image in await images.of(MODEL.id)}
    for digest in await images.digests(MODEL.id) - manifests:
        blob = await images.blob(MODEL.id, digest)
        found = MODEL.files[blob.path] if isinstance(blob, FileEntry) else blob
        assert digest_of(found) == digest
    with pytest.raises(BlobUnknownError):
        await images.blob(MODEL.id, digest_of(b"nothing"))


async def test_only_so_many_digests_are_remembered(images: Images) -> None:
    await images.digests(BARE.id)
    await images.digests(MODEL.id)
    assert images.knows(MODEL.id)
    assert not images.knows(BARE.id)
    await images.digests(OTHER.id)
    assert not images.knows(MODEL.id)


async def test_a_revision_that_was_taken_down_has_no_images(
    images: Images, source: MemorySource
) -> None:
    await images.of(MODEL.id)
    source.gone.add(revision_key(MODEL.id))
    with pytest.raises(GoneError):
        await images.of_variant(MODEL.id, "Q8_0")
