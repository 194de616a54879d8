from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from origin.quantize.kinds import TYPES_BY_NAME
from origin.quantize.rows import GgmlRows, GgufRows, RowQuantizer, to_floats

Floats = npt.NDArray[np.float32]
LEGACY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
WORST = {  # of a normal distribution with a deviation of 1: the largest error of any weight
    "Q8_0": 0.03, "Q6_K": 0.15, "Q5_K": 0.25, "Q5_1": 0.2, "Q5_0": 0.4,
    "Q4_K": 0.5, "Q4_1": 0.4, "Q4_0": 0.7, "IQ4_NL": 0.7, "Q3_K": 1.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def ggml() -> GgmlRows:
    return GgmlRows()


def numbers(seed: int = 0, count: int = 4096) -> Floats:
    return np.random.default_rng(seed).standard_normal(count).astype(np.float32)


def back(rows: RowQuantizer, values: Floats, name: str) -> Floats:
    blocks = rows.quantize(values, TYPES_BY_NAME[name])
    found = gguf.dequantize(blocks.reshape(1, -1), gguf.GGMLQuantizationType[name])
    return np.asarray(found, np.float32).reshape(-1)


@pytest.mark.parametrize("name", LEGACY)
def test_numpy_and_ggml_write_the_same_bytes(ggml: GgmlRows, name: str) -> None:
    for values in (numbers(1), numbers(2) * 1e-6, np.zeros(256, np.float32)):
        kind = TYPES_BY_NAME[name]
        assert np.array_equal(GgufRows().quantize(values, kind), ggml.quantize(values, kind))


@pytest.mark.parametrize("name", WORST)
def test_numbers_come_back_nearly(ggml: GgmlRows, name: str) -> None:
    error = np.abs(back(ggml, numbers(), name) - numbers())
    assert error.max() < WORST[name]
    assert np.sqrt(np.mean(error**2)) < WORST[name] / 4


def test_what_each_can_write(ggml: GgmlRows) -> None:
    assert set(WORST) < ggml.types
    assert {*LEGACY, "F16"} < GgufRows.types
    assert "Q6_K" not in GgufRows.types


@pytest.mark.parametrize("name", WORST)
def test_a_tensor_may_be_given_in_pieces(ggml: GgmlRows, name: str) -> None:
    kind, values = TYPES_BY_NAME[name], numbers(3)
    pieces = [ggml.quantize(part, kind) for part in np.split(values, [256, 1024])]
    assert np.array_equal(np.concatenate(pieces), ggml.quantize(values, kind))


def test_floats_are_read_from_all_three_types() -> None:
    values = np.array([0.0, 1.5, -2.25, 65_280.0], np.float32)
    assert np.array_equal(to_floats(values.tobytes(), TYPES_BY_NAME["F32"]), values)
    half = values.astype(np.float16).tobytes()
    assert np.array_equal(to_floats(half, TYPES_BY_NAME["F16"]), values)
    brain = (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    assert np.array_equal(to_floats(brain, TYPES_BY_NAME["BF16"]), values)
