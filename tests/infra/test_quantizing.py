"""The demo model as the real one: F16 in, variants out, and llama.cpp loads each of them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import pytest
from rich.console import Console

from infra import demo_models
from infra.perplexity import PerplexityConfig
from infra.quantizing import (
    Quantization,
    QuantizingConfig,
    quantized,
    shared_bytes,
    variant_path,
)
from origin.chunker import plan, scan
from origin.offer import LocalFile
from origin.quantize.engines import ENGINES, Engine
from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.produce import read_source
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.chunk import ChunkId
from wire.errors import NameInvalidError
from wire.gguf import read_gguf
from wire.gguf_types import GGUF

SMALL = demo_models.path("edge-small-r1")
GGML, NUMPY = ENGINES[2:]
UNMEASURED = QuantizingConfig(measure=False)
MEASURED = QuantizingConfig(perplexity=PerplexityConfig(max_tokens=48))


def make(
    folder: Path,
    types: Sequence[str],
    *,
    file: Path = SMALL,
    engines: Sequence[Engine] = (GGML,),
    config: QuantizingConfig = UNMEASURED,
) -> Quantization:
    offered = LocalFile(file=file, path="edge-small-f16.gguf")
    return quantized(offered, types, folder, engines=engines, config=config)


def layout(file: Path) -> GGUF:
    with file.open("rb") as stream:
        return read_gguf(stream, file.stat().st_size)


def numbers(file: Path) -> dict[str, np.ndarray]:
    reader = gguf.GGUFReader(file)
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Quantization:
    return make(tmp_path_factory.mktemp("work"), ["q4_k_m", "Q4_0", "Q5_0", "Q8_0"])


def test_llama_cpp_is_about_as_surprised_by_every_variant(tmp_path: Path) -> None:
    types = ["Q8_0", "Q5_0", "Q4_0", "Q4_K_M"]
    report = make(tmp_path, types, engines=(NUMPY, GGML), config=MEASURED).report
    original = report.original_perplexity.value
    assert original is not None
    limits = {"Q8_0": 0.03, "Q5_0": 0.15, "Q4_K_M": 0.3, "Q4_0": 0.4}
    for variant in report.variants:
        assert variant.perplexity.value is not None, variant.perplexity.why
        away = abs(math.log(variant.perplexity.value / original))
        assert away < limits[variant.name], variant


def test_the_weights_come_back_nearly(made: Quantization) -> None:
    before = numbers(SMALL)
    # A step is the largest of a block over 8, 16 or 127; the formats of -8 to 7 and -16 to 15 cut
    # off a whole one, the other rounds to half of one.
    for file, worst in zip(made.files[1:], (1 / 8, 1 / 16, 1 / 254), strict=True):
        after = numbers(file.file)
        assert after.keys() == before.keys()
        for name, values in before.items():
            error = np.abs(after[name] - values.astype(np.float32))
            assert error.max() <= 1.05 * worst * np.abs(values).max(), (file.variant, name)
            assert error.mean() <= 2 * worst * np.abs(values).mean(), (file.variant, name)
            assert after[name].shape == values.shape


def test_the_files_are_offered_as_variants_of_one_revision(made: Quantization) -> None:
    assert [(f.path, f.role, f.variant) for f in made.files] == [
        (f"edge-small-{name}.gguf", "weights", name) for name in ("Q4_K_M", "Q4_0", "Q5_0", "Q8_0")
    ]
    source = layout(SMALL)
    for file in made.files:
        found = layout(file.file)
        assert [(t.name, t.dims) for t in found.tensors] == [
            (t.name, t.dims) for t in source.tensors
        ]
        assert found.texts("tokenizer.ggml.tokens") == source.texts("tokenizer.ggml.tokens")


def test_chunks_that_variants_share_are_stored_once(made: Quantization) -> None:
    entries = [
        scan(f.file, plan(layout(f.file), f.file.stat().st_size), role="weights")
        for f in made.files
    ]
    sizes: dict[ChunkId, int] = {}
    total = 0
    for entry in entries:
        once = {ref.id: ref.size for ref in entry.chunks}
        total += sum(once.values())
        sizes |= once
    assert made.report.shared_bytes == total - sum(sizes.values())
    # Q4_0 and Q5_0 both have the tied embedding at Q6_K, and all keep the tokenizer.
    _, q4, q5, q8 = ({ref.id: ref.size for ref in entry.chunks} for entry in entries)
    embedding = layout(made.files[1].file).tensors[0]
    assert sum(q4[i] for i in q4.keys() & q5.keys()) >= embedding.size
    assert q4.keys() & q5.keys() & q8.keys()


def test_norms_between_large_tensors_are_chunks_of_all_variants(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "big.gguf", n_embd=1024, n_layer=1)
    made = make(tmp_path, ["Q5_0", "Q8_0"], file=source, engines=[NUMPY])
    found = []
    for file in made.files:
        gguf_file = layout(file.file)
        norms = {t.offset: t.name for t in gguf_file.tensors if t.name.endswith("_norm.weight")}
        entry = scan(file.file, plan(gguf_file, gguf_file.file_size), role="weights")
        found.append({norms[at]: ref.id for at, ref in entry.placed() if at in norms})
    assert found[0] == found[1]
    assert set(found[0]) == {
        "blk.0.attn_norm.weight",
        "blk.0.ffn_norm.weight",
        "output_norm.weight",
    }


def test_the_report_says_what_was_saved(tmp_path: Path) -> None:
    report = make(tmp_path, ["Q4_K_M", "Q8_0"], config=MEASURED).report
    document = report.as_dict()
    assert document["original"]["size"] == SMALL.stat().st_size
    assert document["original"]["bits_per_weight"] == pytest.approx(16, abs=0.1)
    q4, q8 = document["variants"]
    assert (q4["variant"], q4["engine"], q4["reused"]) == ("Q4_K_M", "headwater with ggml", False)
    assert q4["size"] == next(tmp_path.rglob("Q4_K_M.gguf")).stat().st_size
    assert q4["reduction"] == pytest.approx(0.68, abs=0.02)
    assert q4["bits_per_weight"] < 5.2 < 8.5 < q8["bits_per_weight"] < 8.6
    assert q8["perplexity_tokens"] == 47
    text = io.StringIO()
    report.show(Console(file=text, width=80))
    shown = text.getvalue()
    for word in ("original", "Q4_K_M", "68%", "8.52", "stored once", "headwater with ggml"):
        assert word in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_repeated_publish_finds_what_was_made(tmp_path: Path) -> None:
    first, second = (make(tmp_path, ["Q8_0"], engines=[NUMPY]) for _ in range(2))
    assert second.files == first.files
    assert [v.reused for v in (*first.report.variants, *second.report.variants)] == [False, True]
    assert second.report.original_perplexity.why == "not asked for"


def test_what_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoEngineError, match="nothing here makes Q4_K_M"):
        make(tmp_path, ["Q4_K_M"], engines=[NUMPY])
    with pytest.raises(QuantizeError, match="unknown quantization"):
        make(tmp_path, ["Q4_K_M", "F13"])
    with pytest.raises(QuantizeError, match="holds Q8_0 tensors"):
        make(tmp_path, ["Q4_0"], file=demo_models.path("cloud-large"))


def test_files_without_common_chunks_share_nothing(tmp_path: Path) -> None:
    small = read_source(SMALL)
    tiny = read_source(write_tiny_gguf(tmp_path / "tiny.gguf"))
    assert shared_bytes([small, tiny]) == 0
    assert shared_bytes([small, small]) == sum({r.id: r.size for r in small.refs}.values())


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("model-f16.gguf", "model-Q8_0.gguf"),
        ("gguf/Llama.BF16.gguf", "gguf/Llama-Q8_0.gguf"),
        ("model.gguf", "model-Q8_0.gguf"),
        ("f16.gguf", "f16-Q8_0.gguf"),
        ("weights", "weights-Q8_0.gguf"),
    ],
)
def test_where_a_variant_stands(path: str, expected: str) -> None:
    assert variant_path(path, "Q8_0") == expected


def test_a_path_that_climbs_is_refused() -> None:
    with pytest.raises(NameInvalidError):
        variant_path("../model.gguf", "Q8_0")
