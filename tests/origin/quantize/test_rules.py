"""The expected counts are those that llama.cpp prints when it loads its own quantized Llama 2 7B
("llama_model_loader: - type q4_K: 193 tensors" and so on)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from origin.quantize.errors import NoEngineError
from origin.quantize.kinds import QUANTIZATIONS, TYPES_BY_NAME
from origin.quantize.rules import choose_types
from wire.gguf_types import GGUF, Tensor, Value

ALL = frozenset(TYPES_BY_NAME)


def tensor(name: str, *dims: int, kind: str = "F16") -> Tensor:
    items = 1
    for dim in dims:
        items *= dim
    made = TYPES_BY_NAME[kind]
    return Tensor(name, dims, made, 0, items // made.block_items * made.block_bytes)


def model(tensors: list[Tensor], **keys: Value) -> GGUF:
    metadata: dict[str, Value] = {"general.architecture": "llama"}
    metadata |= {f"llama.{key}": value for key, value in keys.items()}
    return GGUF(3, metadata, 32, 0, tuple(tensors), 0)


def llama_7b(n_layers: int = 32, row: int = 4096, **keys: Value) -> GGUF:
    tensors = [tensor("token_embd.weight", row, 32_000), tensor("output.weight", row, 32_000)]
    for layer in range(n_layers):
        blk = f"blk.{layer}"
        tensors += [tensor(f"{blk}.attn_{x}.weight", row, 4096) for x in ("q", "k", "v", "output")]
        tensors += [tensor(f"{blk}.ffn_{x}.weight", row, 11_008) for x in ("gate", "up")]
        tensors += [tensor(f"{blk}.ffn_down.weight", 11_008, 4096)]
        tensors += [tensor(f"{blk}.{x}_norm.weight", row, kind="F32") for x in ("attn", "ffn")]
    tensors.append(tensor("output_norm.weight", row, kind="F32"))
    return model(tensors, block_count=n_layers, **keys)


def types(gguf: GGUF, quant: str) -> dict[str, str]:
    chosen = choose_types(gguf, QUANTIZATIONS[quant], ALL)
    return {t.name: kind.name for t, kind in zip(gguf.tensors, chosen, strict=True)}


@pytest.mark.parametrize(
    ("quant", "expected"),
    [
        ("Q4_0", {"Q4_0": 225, "Q6_K": 1}),
        ("Q5_0", {"Q5_0": 225, "Q6_K": 1}),
        ("Q8_0", {"Q8_0": 226}),
        ("Q3_K_S", {"Q3_K": 225, "Q6_K": 1}),
        ("Q3_K_M", {"Q3_K": 129, "Q4_K": 92, "Q5_K": 4, "Q6_K": 1}),
        ("Q3_K_L", {"Q3_K": 129, "Q5_K": 96, "Q6_K": 1}),
        ("Q4_K_S", {"Q4_K": 217, "Q5_K": 8, "Q6_K": 1}),
        ("Q4_K_M", {"Q4_K": 193, "Q6_K": 33}),
        ("Q5_K_S", {"Q5_K": 225, "Q6_K": 1}),
        ("Q5_K_M", {"Q5_K": 193, "Q6_K": 33}),
        ("Q6_K", {"Q6_K": 226}),
    ],
)
def test_a_7b_becomes_what_llama_cpp_makes_of_it(quant: str, expected: dict[str, int]) -> None:
    assert Counter(types(llama_7b(), quant).values()) == expected | {"F32": 65}


def test_the_order_of_the_table_does_not_matter() -> None:
    gguf = llama_7b()
    turned = replace(gguf, tensors=tuple(reversed(gguf.tensors)))
    assert types(turned, "Q4_K_M") == types(gguf, "Q4_K_M")


def test_embeddings_that_are_the_output_too_get_the_outputs_type() -> None:
    gguf = llama_7b()
    tied = replace(gguf, tensors=tuple(t for t in gguf.tensors if t.name != "output.weight"))
    assert types(gguf, "Q4_0")["token_embd.weight"] == "Q4_0"
    assert types(tied, "Q4_0")["token_embd.weight"] == "Q6_K"


def test_the_models_that_have_rules_of_their_own() -> None:
    assert types(llama_7b(80), "Q4_K_M")["blk.11.attn_v.weight"] == "Q5_K"  # a 70B
    experts = types(llama_7b(expert_count=8), "Q4_K_M")
    assert {experts["blk.5.attn_k.weight"], experts["blk.5.attn_v.weight"]} == {"Q8_0"}
    assert experts["blk.5.attn_output.weight"] == "Q5_K"
    falcon = model([tensor("output.weight", 4096, 9), tensor("token_embd.weight", 4096, 9)])
    falcon = replace(falcon, metadata={"general.architecture": "falcon"})
    assert types(falcon, "Q4_0") == {"output.weight": "Q8_0", "token_embd.weight": "Q4_0"}


@pytest.mark.parametrize(
    "kept",
    [
        tensor("blk.0.attn_norm.weight", 256, 2),
        tensor("blk.0.attn_q.bias", 256, 256),
        tensor("rope_freqs.weight", 256, kind="F32"),
        tensor("blk.0.ffn_up.weight", 256, 1),
        tensor("blk.0.ffn_gate_inp.weight", 256, 8, kind="F32"),
        tensor("token_types.weight", 256, 2),
        tensor("blk.0.ffn_up.weight", 40, 256, kind="BF16"),
        tensor("ids.weight", 256, 256, kind="I32"),
    ],
    ids=lambda t: t.name,
)
@pytest.mark.parametrize("quant", ["Q8_0", "Q4_0", "Q4_K_M"])
def test_what_is_small_odd_or_no_weight_stays_as_it_is(kept: Tensor, quant: str) -> None:
    assert types(model([kept]), quant) == {kept.name: kept.type.name}


@pytest.mark.parametrize(
    ("quant", "expected"),
    [("Q3_K_S", "IQ4_NL"), ("Q4_K_S", "Q5_0"), ("Q5_K_S", "Q5_1"), ("Q6_K", "Q8_0")],
)
def test_rows_that_are_no_whole_k_blocks_get_smaller_blocks(quant: str, expected: str) -> None:
    assert types(model([tensor("blk.0.ffn_up.weight", 64, 8)]), quant) == {
        "blk.0.ffn_up.weight": expected
    }


def test_a_type_that_cannot_be_written_is_replaced_or_told() -> None:
    gguf, legacy = llama_7b(1), frozenset({"Q4_0", "Q8_0"})
    chosen = choose_types(gguf, QUANTIZATIONS["Q4_0"], legacy)
    assert chosen[1].name == "Q8_0"
    with pytest.raises(NoEngineError, match="Q4_K"):
        choose_types(gguf, QUANTIZATIONS["Q4_K_M"], legacy)
