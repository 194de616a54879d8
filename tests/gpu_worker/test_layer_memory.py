from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from gpu_worker.layer_memory import LayerMemory, layer_memory
from wire.errors import GGUFInvalidError


@dataclass
class Stated:
    """Numbers as a header would state them."""

    architecture: str = "llama"
    numbers: dict[str, int | tuple[int, ...]] = field(default_factory=dict)

    def number(self, name: str, default: int = 0, *, limit: int | None = None) -> int:
        return max(self.by_layer(name, limit=limit) or (default,))

    def by_layer(self, name: str, *, limit: int | None = None) -> tuple[int, ...]:
        found = self.numbers.get(name, ())
        return found if isinstance(found, tuple) else (found,)


HEADS: dict[str, int | tuple[int, ...]] = {"attention.head_count": 8, "attention.head_count_kv": 2}


def kept(stated: Stated, count: int = 6, recurrent: set[int] | None = None) -> list[LayerMemory]:
    return layer_memory(stated, count, 64, recurrent or set())[0]


def test_shared_heads_keep_less_than_the_embedding() -> None:
    assert kept(Stated(numbers=HEADS))[0] == LayerMemory(keys=16, values=16)
    alone = Stated(numbers={"attention.head_count": 8})
    assert kept(alone)[0] == LayerMemory(keys=64, values=64)


def test_heads_may_differ_by_layer_and_have_lengths_of_their_own() -> None:
    stated = Stated(
        numbers={
            **HEADS,
            "attention.head_count_kv": (1, 0, 4),
            "attention.key_length": 12,
            "attention.value_length": 10,
        }
    )
    assert [(m.keys, m.values) for m in kept(stated, 3)] == [(12, 10), (0, 0), (48, 40)]
    with pytest.raises(GGUFInvalidError, match="3 items for 4 layers"):
        kept(stated, 4)


@pytest.mark.parametrize(
    ("architecture", "more", "windows"),
    [
        ("gemma3", {}, [9, 9, 9, 9, 9, 0]),
        ("gemma2", {}, [9, 0, 9, 0, 9, 0]),
        ("gpt-oss", {"attention.sliding_window_pattern": 3}, [9, 9, 0, 9, 9, 0]),
        ("new", {"attention.sliding_window_pattern": (1, 0, 0)}, [9, 0, 0, 9, 0, 0]),
        ("cohere2", {"attention.sliding_window_pattern": 0}, [9] * 6),
        # Mistral states a window, which llama.cpp does not keep to.
        ("llama", {}, [0] * 6),
    ],
)
def test_windows_by_architecture_or_pattern(
    architecture: str, more: dict[str, int | tuple[int, ...]], windows: list[int]
) -> None:
    stated = Stated(architecture, {**HEADS, "attention.sliding_window": 9, **more})
    found, assumed = layer_memory(stated, 6, 64, set())
    assert [memory.window for memory in found] == windows
    assert assumed == []


def test_a_window_of_unknown_layers_is_not_counted_on() -> None:
    stated = Stated("new", {**HEADS, "attention.sliding_window": 9})
    found, assumed = layer_memory(stated, 2, 64, set())
    assert [memory.window for memory in found] == [0, 0]
    assert "window of 9" in assumed[0]


def test_windowed_layers_may_have_other_heads() -> None:
    stated = Stated("gemma2", {**HEADS, "attention.sliding_window": 9})
    stated.numbers |= {"attention.key_length_swa": 3, "attention.value_length_swa": 5}
    assert [(m.keys, m.values) for m in kept(stated, 2)] == [(6, 10), (16, 16)]


def test_latent_attention_keeps_one_key_and_no_value() -> None:
    stated = Stated("deepseek2", {"attention.head_count": 16, "attention.head_count_kv": 1})
    stated.numbers |= {
        "attention.key_length": 576,
        "attention.value_length": 512,
        "attention.key_length_mla": 192,
    }
    assert kept(stated)[0] == LayerMemory(keys=576, values=0)


def test_the_last_layers_may_share_what_earlier_ones_keep() -> None:
    stated = Stated("gemma3n", {**HEADS, "attention.shared_kv_layers": 4})
    assert [bool(memory.keys) for memory in kept(stated)] == [True, True, *[False] * 4]


MAMBA: dict[str, int | tuple[int, ...]] = {
    "ssm.inner_size": 128,
    "ssm.state_size": 16,
    "ssm.conv_kernel": 4,
    "ssm.group_count": 1,
}


def test_recurrent_layers_keep_a_state() -> None:
    state = 3 * (128 + 2 * 16) + 16 * 128
    alone = kept(Stated("mamba2", {**MAMBA, "attention.head_count": 0}), 2, {0, 1})
    assert alone == [LayerMemory(state=state)] * 2
    both = kept(Stated("falcon-h1", {**MAMBA, **HEADS}), 1, {0})
    assert both == [LayerMemory(keys=16, values=16, state=state)]
    jamba = Stated("jamba", {**MAMBA, **HEADS, "attention.head_count_kv": (0, 2)})
    assert [(m.keys, m.state) for m in kept(jamba, 2, {0})] == [(0, state), (16, 0)]
    linear = kept(Stated("qwen3next", {**MAMBA, **HEADS}), 4, {0, 1, 2})
    assert [(m.keys, m.state) for m in linear] == [(0, state)] * 3 + [(16, 0)]


def test_rwkv_and_short_convolutions_keep_a_state() -> None:
    assert kept(Stated("rwkv7", {"wkv.head_size": 8}), 1) == [LayerMemory(state=64 * 10)]
    stated = Stated("lfm2", {**HEADS, "attention.head_count_kv": (0, 2), "shortconv.l_cache": 3})
    assert kept(stated, 2) == [LayerMemory(state=128), LayerMemory(keys=16, values=16)]


def test_more_than_any_machine_holds_is_refused() -> None:
    stated = Stated(numbers={"attention.head_count": 1 << 14, "attention.key_length": 1 << 30})
    with pytest.raises(GGUFInvalidError, match="layer 0"):
        kept(stated)
