from __future__ import annotations

import io
from pathlib import Path

import gguf
import numpy as np
import pytest

from origin.quantize.errors import QuantizeError
from origin.quantize.kinds import QUANTIZATIONS
from origin.quantize.rows import GgufRows
from origin.quantize.writer import PIECE_ITEMS, write_quantized
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.errors import GGUFInvalidError
from wire.gguf import read_gguf
from wire.gguf_types import TensorType

WIDE = PIECE_ITEMS + 64
"""A tensor of this many numbers is written in two pieces."""


def one_tensor(path: Path, values: np.ndarray, name: str = "blk.0.ffn_up.weight") -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.attn_norm.weight", np.arange(5, dtype=np.float32))
    writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def written(source: Path, quant: str = "Q8_0", *, threads: int = 2) -> bytes:
    target, told = io.BytesIO(), []
    write_quantized(
        source,
        target,
        QUANTIZATIONS[quant],
        GgufRows(),
        threads=threads,
        progress=lambda done, total: told.append((done, total)),
    )
    data = target.getvalue()
    assert told == sorted(told)
    assert told[-1] == (len(data), len(data))
    return data


def read_back(data: bytes, folder: Path) -> dict[str, np.ndarray]:
    (folder / "made.gguf").write_bytes(data)
    reader = gguf.GGUFReader(folder / "made.gguf")
    return {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}


def test_a_large_tensor_is_written_in_pieces(tmp_path: Path) -> None:
    values = np.random.default_rng(0).standard_normal((2, WIDE // 2)).astype(np.float16)
    data = written(one_tensor(tmp_path / "a.gguf", values))
    found = read_back(data, tmp_path)
    assert np.array_equal(found["blk.0.attn_norm.weight"], np.arange(5))
    assert found["blk.0.ffn_up.weight"].shape == values.shape
    assert np.abs(found["blk.0.ffn_up.weight"] - values).max() < 0.03
    whole = GgufRows().quantize(values.astype(np.float32), read_kind(data))
    at = read_gguf(io.BytesIO(data), len(data)).tensors[1].offset
    assert data[at : at + whole.size] == whole.tobytes()


def read_kind(data: bytes) -> TensorType:
    return read_gguf(io.BytesIO(data), len(data)).tensors[1].type


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_do_not_change_the_bytes(tmp_path: Path, threads: int) -> None:
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    assert written(source, "Q5_0", threads=threads) == written(source, "Q5_0", threads=3)


def test_all_that_is_not_quantized_stays_to_the_byte(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "tiny.gguf")
    data = written(source, "Q4_0")
    before, after = (read_gguf(io.BytesIO(d), len(d)) for d in (source.read_bytes(), data))
    assert after.metadata == before.metadata | {
        "general.file_type": 2,
        "general.quantization_version": 2,
    }
    assert [t.name for t in after.tensors] == [t.name for t in before.tensors]
    assert {t.type.name for t in after.tensors} == {"F32", "Q4_0", "Q8_0"}
    for old, new in zip(before.tensors, after.tensors, strict=True):
        if new.type.name == "F32":
            kept = source.read_bytes()[old.offset : old.offset + old.size]
            assert data[new.offset : new.offset + new.size] == kept


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70_000.0])
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, bad: float) -> None:
    values = np.zeros((2, 64), np.float32)
    values[1, 40] = bad
    with pytest.raises(QuantizeError, match=r"blk\.0\.ffn_up"):
        written(one_tensor(tmp_path / "bad.gguf", values))


def test_a_hostile_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 40)
    with pytest.raises(GGUFInvalidError):
        written(tmp_path / "bad.gguf")
