from __future__ import annotations

from dataclasses import replace

import pytest

from gpu_worker.fit_needs import KV_TYPES, Ask, FitConfig, Needs, check_ask, compute_bytes, kv_bytes
from gpu_worker.layer_memory import LayerMemory
from gpu_worker.model_shape import model_shape
from tests.fakes.shaped_gguf import GEMMA_12B, LLAMA_8B, MIXTRAL, shaped_gguf
from wire.errors import ConfigError

ONE = Ask(slots=1)


def test_keys_and_values_of_every_slot() -> None:
    layer = LayerMemory(keys=1_024, values=512)
    assert kv_bytes(layer, ONE) == 4_096 * 1_536 * 2
    assert kv_bytes(layer, replace(ONE, slots=3)) == 3 * kv_bytes(layer, ONE)
    # A slot's tokens are padded to whole cells.
    assert kv_bytes(layer, replace(ONE, context_tokens=1_000)) == 1_024 * 1_536 * 2


def test_their_types_have_their_sizes() -> None:
    layer = LayerMemory(keys=1_024, values=1_024)
    half = kv_bytes(layer, replace(ONE, key_type="q8_0", value_type="q8_0"))
    assert half / kv_bytes(layer, ONE) == pytest.approx(34 / 64)
    assert KV_TYPES["q4_0"] == 18 / 32


def test_a_window_and_a_state_do_not_grow() -> None:
    window = LayerMemory(keys=8, values=8, window=128)
    # The window and a batch, in whole cells; or the context, where that is less.
    assert kv_bytes(window, ONE) == 768 * 16 * 2
    assert kv_bytes(window, replace(ONE, context_tokens=512)) == 512 * 16 * 2
    assert kv_bytes(LayerMemory(state=100), replace(ONE, slots=2)) == 800


def test_what_nobody_could_ask_is_refused() -> None:
    check_ask(Ask())
    for ask in (
        Ask(key_type="f12"),
        Ask(value_type=""),
        Ask(slots=0),
        Ask(context_tokens=0),
        Ask(context_tokens=1 << 40),
        Ask(slots=1 << 30),
        Ask(batch_tokens=0),
    ):
        with pytest.raises(ConfigError):
            check_ask(ask)


def test_buffers_grow_with_batch_and_context() -> None:
    shape = model_shape(shaped_gguf(LLAMA_8B))
    usual = compute_bytes(shape, ONE)
    # llama.cpp says 140 MB of this shape: 3 x 14,336 and 5 x 4,096 numbers, and the mask.
    assert usual / 1e6 == pytest.approx(135, rel=0.05)
    assert compute_bytes(shape, replace(ONE, batch_tokens=64)) < usual / 7
    assert compute_bytes(shape, replace(ONE, context_tokens=65_536)) - usual == 61_440 * 512 * 2
    mixture = model_shape(shaped_gguf(MIXTRAL))
    assert compute_bytes(mixture, ONE) > usual
    windows = compute_bytes(model_shape(shaped_gguf(GEMMA_12B)), ONE)
    assert windows > 512 * 2 * (4_096 + 1_536)


def test_all_weights_are_in_the_parts_once() -> None:
    for shaped in (LLAMA_8B, GEMMA_12B):
        shape = model_shape(shaped_gguf(shaped))
        needs = Needs.of(shape, Ask(), FitConfig())
        parts = sum(needs.units) - sum(needs.kv) + needs.embedding - needs.copied
        assert parts == shape.weights_bytes
        assert len(needs.units) == len(shape.layers) + 1
