from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.engines.llamacpp import LlamaCppConfig
from gpu_worker.fit_needs import Ask, FitConfig
from gpu_worker.hardware import Hardware
from gpu_worker.hardware_table import preset
from gpu_worker.judge import HeaderSoFar, Judge, ask_of, hardware_for, loaded_files
from tests.fakes import raw_gguf
from tests.fakes.revisions import make_revision
from tests.fakes.shaped_gguf import LLAMA_8B, shaped_gguf, shaped_header
from wire.errors import ConfigError, GGUFInvalidError
from wire.manifest import FileEntry, Manifest

HEAD, SIZE = shaped_header(replace(LLAMA_8B, layers=2))


def test_an_engine_asks_what_it_is_configured_for() -> None:
    config = LlamaCppConfig(
        slots=2, context_tokens=8_192, batch_tokens=128, prompt_cache_mib=1, gpu_layers=7
    )
    assert ask_of(config) == Ask(
        context_tokens=8_192, slots=2, batch_tokens=128, prompt_cache_bytes=1 << 20, gpu_layers=7
    )
    assert ask_of(LlamaCppConfig()) == Ask()


def test_a_judge_gives_rows_and_the_choice() -> None:
    judge = Judge(hardware=preset("rtx4090").hardware())
    rows = [judge.row(name, [shaped_gguf(LLAMA_8B, name)]) for name in ("Q4_K_M", "Q8_0")]
    assert judge.choose(rows).variant == "Q8_0"
    assert judge.choose(rows, wanted="Q4_K_M").variant == "Q4_K_M"


def test_what_cannot_be_asked_or_configured_is_refused_at_once() -> None:
    machine = preset("l4").hardware()
    for ask, config, why in (
        (Ask(slots=0), FitConfig(), "0 slots"),
        (Ask(), FitConfig(memory_share=1.5), "memory_share is 1.5"),
        (Ask(), FitConfig(memory_share=-0.5), "memory_share"),
        (Ask(), FitConfig(process_bytes=-1), "below 0"),
    ):
        with pytest.raises(ConfigError, match=why):
            Judge(hardware=machine, ask=ask, config=config)


def test_the_machine_is_this_one_or_one_of_the_table() -> None:
    assert hardware_for(FitConfig(hardware="h100")).gpus[0].name == "NVIDIA H100 80GB HBM3"
    assert hardware_for(FitConfig()).ram_bytes > 0
    with pytest.raises(ConfigError, match="abacus"):
        hardware_for(FitConfig(hardware="abacus"))


def test_gpus_count_where_an_engine_can_use_them() -> None:
    def read() -> Hardware:
        return preset("l4").hardware()

    blind = hardware_for(FitConfig(), read=read, offloads=lambda: False)
    assert blind.gpus == ()
    assert "NVIDIA L4 is not used" in blind.note
    assert hardware_for(FitConfig(), read=read, offloads=lambda: True) == read()
    # Who says so is believed, and nobody is asked.
    assert hardware_for(FitConfig(use_gpu="yes"), read=read, offloads=_never) == read()
    no_gpu = preset("cpu-server").hardware()
    assert hardware_for(FitConfig(), read=lambda: no_gpu, offloads=_never) == no_gpu


def _never() -> bool:
    raise AssertionError("nobody should ask")


def manifest(*paths: str, variant: str = "", role: str = "weights") -> Manifest:
    made = make_revision({path: [b"x"] for path in paths}).manifest
    entries = tuple(_with(entry, variant, role) for entry in made.files)
    return Manifest(format=made.format, model=made.model, files=entries, metadata={})


def _with(entry: FileEntry, variant: str, role: str) -> FileEntry:
    return FileEntry(
        path=entry.path, size=entry.size, sha256=entry.sha256, role=role,  # type: ignore[arg-type]
        chunks=entry.chunks, variant=variant,
    )  # fmt: skip


def test_the_files_that_an_engine_loads() -> None:
    def names(found: Manifest, variant: str = "") -> list[str]:
        return [entry.path for entry in loaded_files(found, variant)]

    assert names(manifest("b.gguf", "a.gguf")) == ["a.gguf"]
    split = ("m-00002-of-00003.gguf", "m-00001-of-00003.gguf", "m-00003-of-00003.gguf")
    assert names(manifest(*split, "z.gguf")) == sorted(split)
    assert names(manifest("a.gguf", variant="Q8_0")) == []
    assert names(manifest("a.gguf", variant="Q8_0"), "Q8_0") == ["a.gguf"]
    assert names(manifest("a.safetensors")) == []
    assert names(manifest("a.gguf", role="other")) == []


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@given(st.lists(st.integers(1, 400), max_size=8))
def test_a_header_is_whole_when_it_is_and_not_before(sizes: list[int]) -> None:
    so_far, seen = HeaderSoFar(SIZE), 0
    for part in cut(HEAD, sizes):
        found = so_far.feed(part)
        seen += len(part)
        if found is not None:
            break
    assert found == shaped_gguf(replace(LLAMA_8B, layers=2))
    # What is left of it is the padding before the first tensor.
    assert len(HEAD) - seen < 32


def test_a_beginning_that_is_no_header_is_refused_at_once() -> None:
    with pytest.raises(GGUFInvalidError, match="not a GGUF file"):
        HeaderSoFar(SIZE).feed(b"PK" + bytes(100))
    with pytest.raises(GGUFInvalidError, match="the file ends inside"):
        HeaderSoFar(len(HEAD) // 2).feed(HEAD[: len(HEAD) // 2])


def test_a_header_beyond_its_limit_is_not_waited_for() -> None:
    key = raw_gguf.key("x", raw_gguf.STRING, (1 << 60).to_bytes(8, "little"))
    with pytest.raises(GGUFInvalidError, match="the limit is"):
        HeaderSoFar(1 << 62).feed(raw_gguf.header([key]))
