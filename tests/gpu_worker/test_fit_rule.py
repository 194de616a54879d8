from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_worker.fit import Row, fit_row
from gpu_worker.fit_needs import Ask, FitConfig
from gpu_worker.fit_rule import PREFERRED, Choice, choose, gb, is_last_resort, rank
from gpu_worker.hardware import Hardware
from gpu_worker.hardware_table import preset
from tests.fakes.shaped_gguf import LLAMA_8B, LLAMA_70B, MIXTRAL, Shape, shape_of

ALL = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
GB = 10**9


def rows(shape: Shape, hardware: Hardware, *variants: str, ask: Ask | None = None) -> list[Row]:
    return [
        fit_row(name, shape_of(shape, name), hardware, ask or Ask(), FitConfig())
        for name in variants
    ]


def chosen(
    shape: Shape, key: str, *variants: str, ask: Ask | None = None, wanted: str = ""
) -> Choice:
    machine = preset(key).hardware()
    found = rows(shape, machine, *variants, ask=ask)
    return choose(found, machine, ask or Ask(), wanted=wanted)


@pytest.mark.parametrize(
    ("shape", "key", "variants", "taken"),
    [
        (LLAMA_8B, "rtx4090", ALL, "Q8_0"),
        (LLAMA_8B, "rtx4090", ("F16", "Q6_K", "Q5_K_M", "Q4_K_M"), "Q6_K"),
        (LLAMA_8B, "rtx4090", ("Q5_K_M", "Q4_K_M"), "Q5_K_M"),
        # Unquantized ones, where they fit, over four bits.
        (LLAMA_8B, "rtx4090", ("F16", "Q4_K_M"), "F16"),
        (LLAMA_8B, "rtx3060-12", ("F16", "Q4_K_M"), "Q4_K_M"),
        (LLAMA_70B, "h200", ALL, "Q8_0"),
        (LLAMA_70B, "h100", ALL, "Q6_K"),
        (LLAMA_70B, "a100-80", ("Q8_0", "Q5_K_M", "Q4_K_M"), "Q5_K_M"),
        # Tight.
        (MIXTRAL, "rtx5090", ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"), "Q4_K_M"),
        # Three bits on the GPU over four bits in two places, two bits not.
        (LLAMA_70B, "l40s", ("Q4_K_M", "Q3_K_M"), "Q3_K_M"),
        (LLAMA_70B, "rtx5090", ("Q4_K_M", "Q2_K"), "Q4_K_M"),
        (LLAMA_70B, "rtx4090", ALL, "Q4_K_M"),
        (LLAMA_70B, "cpu-desktop", ("Q8_0", "Q4_K_M"), "Q4_K_M"),
        (LLAMA_70B, "cpu-laptop", ALL, "Q2_K"),
    ],
)
def test_the_rule(shape: Shape, key: str, variants: tuple[str, ...], taken: str) -> None:
    for order in (variants, variants[::-1]):
        choice = chosen(shape, key, *order)
        assert (choice.variant, choice.refused) == (taken, False), choice.reason


def test_a_70b_is_told_its_layers() -> None:
    choice = chosen(LLAMA_70B, "rtx4090", *ALL)
    assert choice.gpu_layers == 38
    assert choice.context_tokens == 4_096
    assert choice.reason == (
        "Q8_0, Q6_K, Q5_K_M and F16 do not fit wholly on the GPU; Q4_K_M: 37 of 80 layers go to "
        "the GPU (23.7 GB usable, 24.3 GB too few for all), 43 to the CPU and 26.4 GB of main "
        "memory"
    )


@pytest.mark.parametrize(
    ("variants", "ask", "reason"),
    [
        (("Q8_0",), Ask(), "Q8_0: all 32 layers go to the GPU, 10.8 GB of 11.9 GB usable"),
        (
            ("Q8_0", "Q4_K_M"),
            Ask(),
            "Q8_0 is the first choice: all 32 layers go to the GPU, 10.8 GB of 11.9 GB usable",
        ),
        (
            ("Q8_0", "Q4_K_M"),
            Ask(slots=8),
            "Q8_0 does not fit wholly on the GPU; Q4_K_M: all 32 layers go to the GPU, 9.6 GB of "
            "11.9 GB usable",
        ),
        (("Q8_0",), Ask(gpu_layers=0), "Q8_0: 11.5 GB of 63.2 GB usable in main memory"),
    ],
)
def test_it_says_why(variants: tuple[str, ...], ask: Ask, reason: str) -> None:
    assert chosen(LLAMA_8B, "rtx3060-12", *variants, ask=ask).reason == reason


def test_a_machine_without_a_gpu_says_so() -> None:
    choice = chosen(LLAMA_8B, "cpu-desktop", "Q8_0")
    assert choice.reason == (
        "Q8_0: 11.5 GB of 63.2 GB usable in main memory; there is no GPU to be used"
    )
    assert choice.gpu_layers == 0


def test_the_one_that_was_asked_for_is_taken_or_refused() -> None:
    choice = chosen(LLAMA_8B, "rtx4090", *ALL, wanted="Q3_K_M")
    assert choice.variant == "Q3_K_M"
    assert choice.reason.startswith("Q3_K_M was asked for; all 32 layers")
    split = chosen(LLAMA_70B, "rtx4090", *ALL, wanted="Q5_K_M")
    assert split.row is not None
    assert (split.variant, split.row.where) == ("Q5_K_M", "partial")
    refused = chosen(LLAMA_70B, "rtx4090", *ALL, wanted="F16")
    assert (refused.variant, refused.refused) == ("F16", True)


def test_a_refusal_says_what_is_missing_and_what_to_do() -> None:
    refused = chosen(LLAMA_70B, "cpu-laptop", "Q8_0", "Q4_K_M")
    assert refused.refused
    assert refused.variant == "Q4_K_M"
    assert refused.reason == (
        "nothing fits: Q4_K_M, the smallest, needs 48.7 GB with 4 x 4096 tokens, and 31.6 GB of "
        "main memory are usable; 17.1 GB are missing: ask for fewer slots, or publish a smaller "
        "variant, or take a machine with more memory"
    )
    long = chosen(LLAMA_8B, "cpu-laptop", "Q2_K", ask=Ask(slots=1, context_tokens=1 << 20))
    assert long.refused
    assert long.row is not None
    assert f"ask for a context of {long.row.context_fits} tokens" in long.reason
    assert "smaller variant" not in long.reason
    shorter = Ask(slots=1, context_tokens=long.row.context_fits)
    assert not chosen(LLAMA_8B, "cpu-laptop", "Q2_K", ask=shorter).refused
    assert "engine.prompt_cache_mib" not in long.reason
    tiny = Hardware(name="M", ram_bytes=GB // 2, ram_free_bytes=GB // 2)
    small = rows(Shape(), tiny, "F16")
    assert "set engine.prompt_cache_mib to 0" in choose(small, tiny, Ask()).reason
    with_gpu = chosen(LLAMA_70B, "rtx3060-12", "F16")
    assert "11.9 GB on the GPU and 63.2 GB of main memory are usable" in with_gpu.reason


def test_a_revision_without_variants_is_judged_too() -> None:
    machine = preset("rtx4090").hardware()
    row = replace(rows(LLAMA_8B, machine, "Q8_0")[0], variant="")
    choice = choose([row], machine, Ask())
    assert (choice.variant, choice.gpu_layers) == ("", 33)
    assert choice.reason.startswith("the model: all 32 layers")


NAMES = [
    "Q8_0", "Q6_K", "Q5_K_M", "Q5_1", "Q5_0", "my-q5_k_m", "BF16", "F32", "Q4_K_M", "UD-Q4_K_XL",
    "IQ4_XS", "MXFP4", "AWQ-INT4", "mobile", "IQ3_M", "Q3_K_S", "Q2_K", "TQ1_0", "IQ1_S",
]  # fmt: skip


@given(st.permutations(NAMES))
def test_names_are_ranked_whatever_their_order(names: list[str]) -> None:
    sizes = {name: 100 - NAMES.index(name) for name in NAMES}
    assert sorted(names, key=lambda name: rank(name, sizes[name])) == NAMES


def test_few_bits_are_a_last_resort() -> None:
    assert [name for name in NAMES if is_last_resort(name)] == ["Q2_K", "TQ1_0", "IQ1_S"]
    assert not is_last_resort("")


@given(st.lists(st.sampled_from(ALL), min_size=1, unique=True), st.floats(1, 200), st.floats(1, 90))
def test_something_is_taken_where_anything_fits(names: list[str], ram: float, gpu: float) -> None:
    card = replace(
        preset("rtx4090").hardware().gpus[0], memory_bytes=int(gpu * GB), free_bytes=int(gpu * GB)
    )
    size = int(ram * GB)
    machine = Hardware(name="M", ram_bytes=size, ram_free_bytes=size, gpus=(card,))
    found = rows(LLAMA_70B, machine, *names)
    choice = choose(found, machine, Ask())
    assert choice.refused == all(row.where == "none" for row in found)
    whole = {row.variant for row in found if row.whole}
    named = [name for name in PREFERRED if name in whole]
    if named and "F16" not in whole:
        assert choice.variant == named[0]


def test_sizes_are_said_in_powers_of_ten() -> None:
    assert [gb(n) for n in (1_230_000, 99_900_000, 100_000_000, 42_500_000_000)] == [
        "1.2 MB",
        "99.9 MB",
        "0.1 GB",
        "42.5 GB",
    ]
