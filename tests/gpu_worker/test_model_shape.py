from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.model_shape import ModelShape, ShapeLimits, model_shape
from tests.fakes import raw_gguf
from tests.fakes.scripted_gguf import write_scripted_gguf
from tests.fakes.shaped_gguf import (
    GEMMA_12B,
    LLAMA_8B,
    LLAMA_70B,
    MIXTRAL,
    QWEN_7B,
    Shape,
    shaped_gguf,
)
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.errors import GGUFInvalidError
from wire.gguf import GGUF, read_gguf


def header(keys: Sequence[bytes], tensors: Sequence[bytes] = ()) -> GGUF:
    data = raw_gguf.header(keys, tensors)
    return read_gguf(lambda offset, length: data[offset : offset + length], 1 << 50)


@pytest.mark.parametrize(
    ("shape", "variant", "gigabytes", "kv_per_token"),
    [
        # As their GGUFs on Hugging Face are, within 2 %.
        (LLAMA_8B, "Q4_K_M", 4.92, 131_072),
        (LLAMA_8B, "Q8_0", 8.54, 131_072),
        (LLAMA_8B, "F16", 16.07, 131_072),
        (LLAMA_70B, "Q4_K_M", 42.5, 327_680),
        (QWEN_7B, "Q4_K_M", 4.68, 57_344),
        (MIXTRAL, "Q4_K_M", 28.4, 131_072),
        (GEMMA_12B, "Q4_K_M", 7.30, 393_216),
    ],
)
def test_known_models_weigh_and_keep_what_they_do(
    shape: Shape, variant: str, gigabytes: float, kv_per_token: int
) -> None:
    found = model_shape(shaped_gguf(shape, variant))
    assert found.weights_bytes / 1e9 == pytest.approx(gigabytes, rel=0.02)
    kept = [layer.memory.keys + layer.memory.values for layer in found.layers]
    assert 2 * sum(kept) == kv_per_token
    assert found.estimates == ()
    assert (found.vocab, found.context) == (shape.vocab, shape.context)


def test_all_bytes_belong_somewhere() -> None:
    for shape in (LLAMA_8B, GEMMA_12B, MIXTRAL):
        file = shaped_gguf(shape, "Q6_K")
        found = model_shape(file)
        assert found.weights_bytes == sum(tensor.size for tensor in file.tensors)
        assert found.parameters == file.parameters


def test_of_a_mixture_only_the_experts_that_are_used_are_read() -> None:
    found = model_shape(shaped_gguf(MIXTRAL, "Q4_K_M"))
    layer = found.layers[0]
    assert (found.experts, found.experts_used) == (8, 2)
    assert 0.25 < layer.active_bytes / layer.bytes < 0.3
    assert found.feed_forward == 2 * 14_336
    dense = model_shape(shaped_gguf(LLAMA_8B))
    assert all(layer.active_bytes == layer.bytes for layer in dense.layers)
    unsaid = model_shape(shaped_gguf(replace(MIXTRAL, experts_used=0)))
    assert unsaid.layers[0].active_bytes == unsaid.layers[0].bytes
    assert unsaid.estimates == ("all 8 experts are used for every token",)


def test_a_tied_output_is_the_embedding() -> None:
    tied = model_shape(shaped_gguf(GEMMA_12B))
    assert tied.tied
    assert tied.output_bytes == tied.input_bytes > 0
    loose = model_shape(shaped_gguf(LLAMA_8B))
    assert not loose.tied
    assert loose.output_bytes != loose.input_bytes


def test_split_files_are_one_model() -> None:
    whole = shaped_gguf(LLAMA_8B)
    half = len(whole.tensors) // 2
    first = replace(whole, tensors=whole.tensors[:half])
    second = replace(whole, metadata={}, tensors=whole.tensors[half:])
    assert model_shape([first, second]) == model_shape(whole)


def test_files_that_llama_cpp_loads_are_understood(tmp_path: Path) -> None:
    for path in (
        write_tiny_gguf(tmp_path / "tiny.gguf"),
        write_scripted_gguf(tmp_path / "scripted.gguf"),
    ):
        with path.open("rb") as stream:
            found = model_shape(read_gguf(stream, path.stat().st_size))
        assert found.estimates == ()
        assert found.weights_bytes < path.stat().st_size


def test_what_the_header_does_not_say_is_estimated_high_and_told() -> None:
    keys = [raw_gguf.text_key("general.architecture", "nobody-knows")]
    tensors = [
        raw_gguf.tensor("blk.0.ffn_up.weight", (256, 64)),
        raw_gguf.tensor("blk.2.ffn_up.weight", (512, 64), offset=65_536),
    ]
    found = model_shape(header(keys, tensors))
    assert [layer.bytes for layer in found.layers] == [65_536, 0, 131_072]
    assert all(layer.memory.keys == layer.memory.values == 512 for layer in found.layers)
    assert len(found.estimates) == 3
    assert model_shape(header([])).layers == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("block_count", 4_000_000_000),
        ("embedding_length", 4_000_000_000),
        ("attention.head_count", 100_000),
        ("attention.head_count_kv", 100_000),
        ("attention.key_length", 4_000_000_000),
        ("expert_count", 1_000_000),
        ("feed_forward_length", 4_000_000_000),
        ("ssm.inner_size", 4_000_000_000),
    ],
)
def test_numbers_that_cannot_be_are_refused_by_name(name: str, value: int) -> None:
    keys = [
        raw_gguf.text_key("general.architecture", "llama"),
        *([] if name == "block_count" else [raw_gguf.u32_key("llama.block_count", 2)]),
        raw_gguf.u32_key(f"llama.{name}", value),
    ]
    with pytest.raises(GGUFInvalidError, match=f"llama.{name}"):
        model_shape(header(keys))


def test_other_types_too_many_items_and_layers_that_are_not_are_refused() -> None:
    architecture = raw_gguf.text_key("general.architecture", "llama")
    two = raw_gguf.u32_key("llama.block_count", 2)
    many = raw_gguf.array(raw_gguf.U8, 2_000, bytes(2_000))
    for payload in (
        raw_gguf.text_key("llama.attention.head_count", "four"),
        raw_gguf.key("llama.attention.head_count", raw_gguf.I32, struct.pack("<i", -4)),
        raw_gguf.key("llama.attention.head_count", raw_gguf.F32, struct.pack("<f", 4.0)),
        raw_gguf.key("llama.attention.key_length", raw_gguf.ARRAY, many),
    ):
        with pytest.raises(GGUFInvalidError, match=r"llama\.attention"):
            model_shape(header([architecture, two, payload]))
    with pytest.raises(GGUFInvalidError, match="of no layer"):
        model_shape(header([architecture, two], [raw_gguf.tensor("blk.2.ffn_up.weight", (32,))]))
    far = raw_gguf.tensor("blk.999999.ffn_up.weight", (32,))
    with pytest.raises(GGUFInvalidError, match="1000000 layers"):
        model_shape(header([architecture], [far]))


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "block_count", "embedding_length", "attention.head_count", "expert_count",
                "attention.head_count_kv", "attention.key_length", "attention.value_length",
                "attention.sliding_window", "attention.sliding_window_pattern", "ssm.state_size",
                "ssm.inner_size", "ssm.conv_kernel", "wkv.head_size", "shortconv.l_cache",
                "full_attention_interval", "attention.shared_kv_layers", "expert_used_count",
            ]
        ),
        st.one_of(st.integers(0, 300), st.integers(0, 2**32 - 1)),
    ),
    st.sampled_from(["llama", "gemma3", "qwen3next", "mamba", "rwkv7", "x"]),
)  # fmt: skip
def test_whatever_the_numbers_are_they_are_refused_or_bounded(
    numbers: dict[str, int], architecture: str
) -> None:
    keys = [raw_gguf.text_key("general.architecture", architecture)]
    keys += [raw_gguf.u32_key(f"{architecture}.{name}", n) for name, n in numbers.items()]
    try:
        found = model_shape(header(keys))
    except GGUFInvalidError:
        return
    limits = ShapeLimits()
    assert len(found.layers) <= limits.layers
    assert _smallest(found) >= 0
    for layer in found.layers:
        assert layer.memory.keys + layer.memory.values + layer.memory.state <= 1 << 40


def _smallest(found: ModelShape) -> int:
    memories = [layer.memory for layer in found.layers]
    kept = [number for m in memories for number in (m.keys, m.values, m.window, m.state)]
    return min([found.width, found.feed_forward, found.query_width, *kept])
