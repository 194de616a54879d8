from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import pytest
from msgspec import structs

from gpu_worker.disk import MANIFEST, VARIANT, ModelFolder
from gpu_worker.errors import NotAModelError, VariantUnknownError
from gpu_worker.fit_needs import Ask
from gpu_worker.fit_rule import Choice
from gpu_worker.hardware import Hardware
from gpu_worker.judge import Judge
from gpu_worker.variants import ManifestOnce, candidates, find_variant
from tests.fakes import raw_gguf
from tests.fakes.revisions import Revision, make_revision
from tests.fakes.shaped_gguf import Shape, shaped_header
from tests.fakes.sites import make_site
from tests.fakes.source import MemorySource
from wire.errors import GGUFInvalidError, NotFoundError, SourceUnavailableError
from wire.manifest import encode
from wire.source import Source

T = TypeVar("T")
SMALL = Shape(layers=4, embd=512, ff=2_048, vocab=4_096)
"""19 million numbers: 39 MB in F16, 21 MB in Q8_0, 12 MB in Q4_K_M."""


@lru_cache
def revision_of(*variants: str, shape: Shape = SMALL) -> Revision:
    """A revision whose weights are a header, and zeros that nobody should ask for."""
    files: dict[str, list[bytes]] = {}
    for name in variants or ("Q8_0",):
        head, size = shaped_header(shape, name)
        zeros = [bytes(1 << 20)] * ((size - len(head)) >> 20)
        rest = bytes((size - len(head)) % (1 << 20))
        files[f"m-{name}.gguf"] = [head, *zeros, *([rest] if rest else [])]
    made = make_revision(files)
    if not variants:
        return made
    entries = tuple(structs.replace(e, variant=e.path[2:-5]) for e in made.manifest.files)
    return replace(made, data=encode(structs.replace(made.manifest, files=entries)))


@dataclass
class Bench:
    """A folder, a source, and a machine of so much memory."""

    folder: ModelFolder
    source: MemorySource

    async def find(
        self,
        revision: Revision,
        megabytes: float | None = 1_000,
        *,
        wanted: str = "",
    ) -> Choice:
        judge = None
        if megabytes is not None:
            size = int(megabytes * 1e6 / 0.92) + 1
            ask = Ask(slots=1, context_tokens=256, batch_tokens=1, prompt_cache_bytes=0)
            machine = Hardware(name="M", ram_bytes=size, ram_free_bytes=size)
            judge = Judge(hardware=machine, ask=ask)
        return await find_variant(
            "chat",
            revision.id,
            ManifestOnce(self.source),
            self.folder,
            _at_once,
            wanted=wanted,
            judge=judge,
        )

    def hold(self, revision: Revision) -> Revision:
        self.source.add_manifest(revision.data)
        self.source.chunks |= revision.chunks
        return revision

    def put_on_disk(self, revision: Revision, variant: str) -> None:
        place = self.folder.path("chat", revision.id)
        place.mkdir(parents=True)
        path = f"m-{variant}.gguf"
        (place / path).write_bytes(revision.files[path])
        (place / MANIFEST).write_bytes(revision.data)
        if revision.manifest.variants:
            (place / VARIANT).write_text(variant)

    @property
    def asked(self) -> int:
        """Chunks that the source was asked for."""
        return sum(key.startswith("chunk:") for key in self.source.calls.elements())


async def _at_once(work: Callable[[], T], /) -> T:
    return work()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(ModelFolder(tmp_path, boot="b"), MemorySource())


ALL = ("Q4_K_M", "Q8_0", "F16")
OVERHEAD_MB = 66
"""The process, names of tokens, buffers, keys and values."""


@pytest.mark.parametrize(
    ("megabytes", "taken", "headers"),
    [(25, "Q8_0", 1), (16, "Q4_K_M", 3)],
)
async def test_the_best_that_fits_is_taken_by_its_header_alone(
    bench: Bench, megabytes: int, taken: str, headers: int
) -> None:
    revision = bench.hold(revision_of(*ALL))
    choice = await bench.find(revision, OVERHEAD_MB + megabytes)
    assert (choice.variant, choice.refused, choice.gpu_layers) == (taken, False, 0)
    assert bench.asked == headers
    assert choice.row is not None


async def test_where_nothing_fits_the_choice_says_so(bench: Bench) -> None:
    choice = await bench.find(bench.hold(revision_of(*ALL)), 10)
    assert choice.refused
    assert choice.variant == "Q4_K_M"
    assert "are missing" in choice.reason


async def test_the_one_that_is_named_is_judged_alone(bench: Bench) -> None:
    revision = bench.hold(revision_of(*ALL))
    choice = await bench.find(revision, wanted="F16")
    assert (choice.variant, bench.asked) == ("F16", 1)
    assert (await bench.find(revision, OVERHEAD_MB, wanted="F16")).refused
    with pytest.raises(VariantUnknownError, match="no variant 'q4_0'; there is Q4_K_M, Q8_0, F16"):
        await bench.find(revision, wanted="q4_0")


async def test_a_revision_without_variants_is_judged_too(bench: Bench) -> None:
    revision = bench.hold(revision_of())
    assert (await bench.find(revision)).variant == ""
    assert (await bench.find(revision, wanted="Q8_0")).variant == ""
    assert (await bench.find(revision, 10)).refused


async def test_without_a_machine_the_best_name_is_taken_unread(bench: Bench) -> None:
    revision = bench.hold(revision_of(*ALL))
    choice = await bench.find(revision, None)
    assert (choice.variant, choice.gpu_layers, bench.asked) == ("Q8_0", -1, 0)


async def test_what_is_on_this_disk_is_taken_up_without_a_source(bench: Bench) -> None:
    revision = revision_of(*ALL)
    bench.put_on_disk(revision, "Q4_K_M")
    bench.source.down = SourceUnavailableError("away")
    assert (await bench.find(revision)).variant == "Q4_K_M"
    # It does not fit any more, and nobody can say whether another one would.
    assert (await bench.find(revision, 10)).refused
    with pytest.raises(SourceUnavailableError):
        await bench.find(revision, wanted="Q8_0")


async def test_what_is_on_this_disk_makes_way_where_it_does_not_fit(bench: Bench) -> None:
    revision = bench.hold(revision_of(*ALL))
    bench.put_on_disk(revision, "F16")
    assert (await bench.find(revision, OVERHEAD_MB + 45)).variant == "F16"
    assert bench.asked == 0
    assert (await bench.find(revision, OVERHEAD_MB + 16)).variant == "Q4_K_M"
    assert (await bench.find(revision, OVERHEAD_MB + 16, wanted="F16")).refused


async def test_weights_that_are_no_gguf_are_left_to_the_engine(bench: Bench) -> None:
    revision = bench.hold(make_revision({"model.safetensors": [b"x"]}))
    choice = await bench.find(revision, 1)
    assert (choice.variant, choice.gpu_layers, choice.refused) == ("", -1, False)


@pytest.mark.parametrize(
    "data", [b"no model", raw_gguf.header([raw_gguf.u32_key(".block_count", 1 << 31)])]
)
async def test_a_header_that_cannot_be_ends_it(bench: Bench, data: bytes) -> None:
    revision = bench.hold(make_revision({"m.gguf": [data]}))
    with pytest.raises(GGUFInvalidError):
        await bench.find(revision)


async def test_the_parts_of_a_header_are_asked_for_at_the_same_time(bench: Bench) -> None:
    """One round trip for the first, one for the others."""
    head, _ = shaped_header(replace(SMALL, tokens=True), "Q8_0")
    pieces = [head[at : at + 9_000] for at in range(0, len(head), 9_000)]
    assert 5 < len(pieces) < 9
    revision = bench.hold(make_revision({"m.gguf": [*pieces, *[bytes(8 << 20)] * 4]}))
    bench.source.gate = asyncio.Event()
    finding = asyncio.create_task(bench.find(revision))
    for calls in (1, 2, 1 + len(pieces)):  # the manifest, the first, all others
        await bench.source.until_called(calls)
        held, bench.source.gate = bench.source.gate, asyncio.Event()
        held.set()
    bench.source.gate.set()
    assert (await finding).variant == ""
    # A piece of the first tensor may be among them; the pull will want it.
    assert bench.asked - len(pieces) in {0, 1}


async def test_a_header_that_never_ends_is_not_followed(bench: Bench) -> None:
    revision = bench.hold(make_revision({"m.gguf": [b"GGUF", *[b"\3"] * 300]}))
    with pytest.raises(GGUFInvalidError):
        await bench.find(revision)


def test_candidates_are_in_order_of_the_rule() -> None:
    made = revision_of(*ALL).manifest
    assert candidates(made) == ("Q8_0", "F16", "Q4_K_M")
    assert candidates(made, "F16") == ("F16",)
    assert candidates(revision_of().manifest, "F16") == ("",)


async def test_what_was_read_is_not_fetched_again_and_all_else_is_handed_on() -> None:
    revision = make_revision({"a.gguf": [b"header", b"weights"]})
    inner = MemorySource()
    inner.add_manifest(revision.data)
    inner.chunks |= revision.chunks
    kept = ManifestOnce(inner)
    once: Source = kept
    assert once.name == inner.name
    assert await once.manifest(revision.id) == revision.data
    first, second = revision.manifest.files[0].chunks
    assert bytes((await kept.peek(first.id)).data) == b"header"
    assert bytes((await once.chunk(second.id)).data) == b"weights"
    inner.manifests.clear()
    inner.chunks.clear()
    assert await once.manifest(revision.id) == revision.data
    assert bytes((await once.chunk(first.id)).data) == b"header"
    for lost in (once.manifest("0" * 64), once.chunk(second.id), once.channel("chat", "stable")):
        with pytest.raises(NotFoundError):
            await lost
    with pytest.raises(NotFoundError):  # asked for anew
        await once.chunk(first.id, revalidate=True)
    await once.aclose()
    assert not inner.closed


async def test_a_static_site_is_no_model(bench: Bench) -> None:
    site = bench.hold(make_site({"index.html": b"page"}, model="chat"))
    with pytest.raises(NotAModelError, match="static site, not a model: edges serve it at /assets"):
        await bench.find(site)
    place = bench.folder.path("chat", site.id)
    place.mkdir(parents=True)
    (place / MANIFEST).write_bytes(site.data)
    (place / "index.html").write_bytes(b"page")
    with pytest.raises(NotAModelError):
        await bench.find(site, None)
