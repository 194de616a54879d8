from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.fit import Row, fit_row
from gpu_worker.fit_needs import Ask, FitConfig
from gpu_worker.hardware import Gpu, Hardware
from gpu_worker.hardware_table import preset
from tests.fakes.shaped_gguf import GEMMA_12B, LLAMA_8B, LLAMA_70B, MIXTRAL, Shape, shape_of
from wire.errors import ConfigError

GB = 10**9
CONFIG = FitConfig()


def fit(
    shape: Shape, hardware: str | Hardware, variant: str = "Q4_K_M", *, ask: Ask | None = None
) -> Row:
    machine = preset(hardware).hardware() if isinstance(hardware, str) else hardware
    return fit_row(variant, shape_of(shape, variant), machine, ask or Ask(), CONFIG)


def machine(ram: float, *gpus: float, unified: bool = False) -> Hardware:
    """A machine of so many gigabytes, 100 and 1,000 GB/s."""
    cards = tuple(
        Gpu(name="G", memory_bytes=int(g * GB), free_bytes=int(g * GB), bandwidth=1e12)
        for g in gpus
    )
    size = int(ram * GB)
    return Hardware(
        name="M", ram_bytes=size, ram_free_bytes=size, ram_bandwidth=1e11, cores=16, gpus=cards,
        unified=unified,
    )  # fmt: skip


def test_an_8b_of_about_5_gb_fits_12_gb_with_4k_of_context() -> None:
    for slots in (1, 4):
        row = fit(LLAMA_8B, "rtx3060-12", ask=Ask(context_tokens=4_096, slots=slots))
        assert (row.where, row.whole) == ("gpu", True)
        assert (row.layers_on_gpu, row.layers, row.gpu_layers) == (32, 32, 33)
        assert row.weights_bytes == pytest.approx(4.92 * GB, rel=0.01)
        assert row.kv_bytes == slots * 4_096 * 131_072
        assert row.gpu_bytes < row.gpu_usable_bytes
        assert row.missing_bytes == row.short_bytes == 0


def test_a_70b_of_about_40_gb_is_split_on_24_gb() -> None:
    for slots, layers in ((1, 40), (4, 37)):
        row = fit(LLAMA_70B, "rtx4090", ask=Ask(slots=slots))
        assert (row.where, row.whole) == ("partial", False)
        assert (row.layers_on_gpu, row.layers) == (layers, 80)
        assert row.short_bytes > 18 * GB
        assert row.gpu_bytes <= row.gpu_usable_bytes
        assert row.ram_bytes <= row.ram_usable_bytes


@pytest.mark.parametrize(
    ("shape", "variant", "hardware", "where"),
    [
        (LLAMA_8B, "Q8_0", "rtx3060-12", "gpu"),
        (LLAMA_8B, "F16", "rtx3060-12", "partial"),
        (LLAMA_8B, "F16", "rtx4090", "gpu"),
        (LLAMA_70B, "Q4_K_M", "a100-80", "gpu"),
        (LLAMA_70B, "Q8_0", "a100-80", "partial"),
        (LLAMA_70B, "Q8_0", "h200", "gpu"),
        (LLAMA_70B, "Q4_K_M", "m2-max", "gpu"),
        (LLAMA_70B, "F16", "m4-max", "none"),
        (LLAMA_70B, "F16", "mi300x", "gpu"),
        (LLAMA_70B, "Q4_K_M", "cpu-desktop", "memory"),
        (LLAMA_70B, "Q4_K_M", "cpu-laptop", "none"),
        (MIXTRAL, "Q4_K_M", "rtx4090", "partial"),
        (MIXTRAL, "Q4_K_M", "l40s", "gpu"),
        (GEMMA_12B, "Q8_0", "rtx4090", "gpu"),
    ],
)
def test_known_cases(shape: Shape, variant: str, hardware: str, where: str) -> None:
    row = fit(shape, hardware, variant)
    assert row.where == where
    assert row.whole == (where in {"gpu", "memory"})


def test_speed_is_what_the_memory_gives() -> None:
    """Known to come out at about 145 and 35 tokens/s with llama.cpp."""
    assert fit(LLAMA_8B, "rtx4090").tokens_per_s == pytest.approx(145, rel=0.1)
    assert fit(LLAMA_70B, "h100").tokens_per_s == pytest.approx(35, rel=0.1)
    # Of a mixture two of eight experts are read, so it is faster than it is large.
    assert fit(MIXTRAL, "l40s").tokens_per_s > 2.5 * fit(LLAMA_70B, "a100-80").tokens_per_s
    split = fit(LLAMA_70B, "rtx4090").tokens_per_s
    assert fit(LLAMA_70B, "cpu-desktop").tokens_per_s < split < 4
    unknown = replace(machine(64), ram_bandwidth=0.0)
    assert fit(LLAMA_8B, unknown).tokens_per_s == 0.0


def test_several_gpus_hold_it_together() -> None:
    assert fit(LLAMA_70B, machine(64, 24.5)).where == "partial"
    two = fit(LLAMA_70B, machine(64, 24.5, 24.5))
    assert two.layers_on_gpu > 2 * fit(LLAMA_70B, machine(64, 24.5)).layers_on_gpu * 0.9
    assert fit(LLAMA_70B, machine(64, 30, 30)).where == "gpu"


def test_unified_memory_is_counted_once() -> None:
    assert fit(LLAMA_8B, machine(16, 16, unified=True)).where == "gpu"
    tight = fit(LLAMA_8B, machine(9.7, 9.7, unified=True))
    # Three quarters for the GPU; what lies beside it is of the same memory.
    assert tight.where == "partial"
    assert tight.gpu_bytes + tight.ram_bytes <= 9.7 * GB
    assert fit(LLAMA_8B, machine(8, 8, unified=True)).where == "none"


def test_a_gpu_too_small_for_anything_leaves_it_all_to_main_memory() -> None:
    row = fit(LLAMA_70B, machine(64, 1))
    assert (row.where, row.gpu_layers, row.gpu_bytes) == ("memory", 0, 0)
    assert not row.whole


def test_layers_that_the_configuration_fixes_are_not_exceeded() -> None:
    ten = fit(LLAMA_8B, "rtx4090", ask=Ask(gpu_layers=10))
    assert (ten.gpu_layers, ten.where, ten.whole) == (10, "partial", True)
    none = fit(LLAMA_8B, "rtx4090", ask=Ask(gpu_layers=0))
    assert (none.gpu_layers, none.where, none.whole) == (0, "memory", True)
    too_many = fit(LLAMA_70B, "rtx4090", ask=Ask(gpu_layers=70))
    assert too_many.gpu_layers < 70
    assert not too_many.whole


def test_an_engine_without_gpu_support_has_main_memory_only() -> None:
    found = fit_row(
        "Q8_0", shape_of(LLAMA_8B), preset("h100").hardware(), Ask(), FitConfig(use_gpu="no")
    )
    assert (found.where, found.gpu_layers) == ("memory", 0)


def test_a_context_that_would_fit_is_told() -> None:
    row = fit(LLAMA_8B, machine(64, 12), ask=Ask(context_tokens=131_072, slots=1))
    assert not row.whole
    assert 0 < row.context_fits < 131_072
    ask = Ask(context_tokens=row.context_fits, slots=1)
    assert fit(LLAMA_8B, machine(64, 12), ask=ask).whole
    longer = Ask(context_tokens=row.context_fits + 256, slots=1)
    assert not fit(LLAMA_8B, machine(64, 12), ask=longer).whole


def test_keys_and_values_in_fewer_bits_need_less() -> None:
    small = fit(LLAMA_8B, "rtx4090", ask=Ask(key_type="q8_0", value_type="q8_0"))
    assert small.kv_bytes == pytest.approx(fit(LLAMA_8B, "rtx4090").kv_bytes * 34 / 64)
    with pytest.raises(ConfigError, match="q9"):
        fit(LLAMA_8B, "rtx4090", ask=Ask(key_type="q9"))


@given(
    ram=st.floats(0.1, 300),
    gpus=st.lists(st.floats(0.1, 200), max_size=4),
    context=st.integers(1, 300_000),
    slots=st.integers(1, 64),
    unified=st.booleans(),
)
def test_nothing_is_placed_where_it_has_no_room(
    ram: float, gpus: list[float], context: int, slots: int, unified: bool
) -> None:
    if unified:
        gpus = [ram]
    where = machine(ram, *gpus, unified=unified)
    row = fit(GEMMA_12B, where, ask=Ask(context_tokens=context, slots=slots))
    assert 0 <= row.gpu_layers <= row.layers + 1
    assert (row.missing_bytes > 0) == (row.where == "none")
    assert row.whole <= (row.where != "none")
    if row.where == "none":
        return
    assert row.gpu_bytes <= row.gpu_usable_bytes or not row.gpu_layers
    assert row.ram_bytes <= row.ram_usable_bytes
    more = replace(where, ram_bytes=where.ram_bytes * 2, ram_free_bytes=where.ram_free_bytes * 2)
    assert fit(GEMMA_12B, more, ask=Ask(context_tokens=context, slots=slots)).where != "none"
