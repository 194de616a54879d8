from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.errors import VariantUnknownError
from gpu_worker.variants import PREFERENCE, ManifestOnce, choose_variant
from tests.fakes.revisions import make_revision
from tests.fakes.source import MemorySource
from wire.errors import NotFoundError
from wire.source import Source

NAMES = st.lists(st.sampled_from([*PREFERENCE, "F16", "Q2_K"]), unique=True).map(tuple)


@pytest.mark.parametrize(
    ("variants", "wanted", "taken"),
    [
        ((), "", ""),
        ((), "Q8_0", ""),
        (("F16",), "", "F16"),
        (("F16", "Q2_K"), "", "F16"),
        (("F16", "Q4_0", "Q6_K"), "", "Q6_K"),
        (("Q8_0", "Q4_K_M"), "", "Q4_K_M"),
        (("Q8_0", "Q4_K_M", "Q5_K_M"), "", "Q5_K_M"),
        (("Q8_0", "Q4_K_M"), "Q8_0", "Q8_0"),
    ],
)
def test_the_configured_one_else_the_best_else_the_first(
    variants: tuple[str, ...], wanted: str, taken: str
) -> None:
    assert choose_variant(variants, wanted) == taken


@given(NAMES, st.permutations(range(8)))
def test_the_best_does_not_depend_on_the_order(variants: tuple[str, ...], order: list[int]) -> None:
    turned = tuple(
        sorted(variants, key=lambda name: order[[*PREFERENCE, "F16", "Q2_K"].index(name)])
    )
    known = [name for name in PREFERENCE if name in variants]
    if known:
        assert choose_variant(variants) == choose_variant(turned) == known[0]


def test_one_that_is_not_there_is_an_error_that_names_the_others() -> None:
    with pytest.raises(VariantUnknownError, match="no variant 'q4_0'; there is Q4_0, Q8_0"):
        choose_variant(("Q4_0", "Q8_0"), "q4_0")


async def test_a_manifest_is_fetched_once_and_all_else_is_handed_on() -> None:
    revision = make_revision({"a.gguf": [b"weights"]})
    inner = MemorySource()
    inner.add_manifest(revision.data)
    inner.chunks |= revision.chunks
    once: Source = ManifestOnce(inner)
    assert once.name == inner.name
    assert await once.manifest(revision.id) == revision.data
    inner.manifests.clear()
    assert await once.manifest(revision.id) == revision.data
    with pytest.raises(NotFoundError):
        await once.manifest("0" * 64)
    ref = revision.manifest.files[0].chunks[0]
    assert bytes((await once.chunk(ref.id)).data) == b"weights"
    with pytest.raises(NotFoundError):
        await once.channel("chat", "stable")
    await once.aclose()
    assert bytes((await inner.chunk(ref.id)).data) == b"weights"
