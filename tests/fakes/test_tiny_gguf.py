"""The files that other tests stand on: a model that really decodes, and one that costs nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.llama_server import llama_server
from tests.fakes.tiny_gguf import train_vocabulary, write_sparse_gguf, write_tiny_gguf
from wire.gguf import read_gguf


def test_llama_cpp_loads_and_decodes_a_tiny_model(tmp_path: Path) -> None:
    with llama_server(write_tiny_gguf(tmp_path / "tiny.gguf")) as llama:
        answer = llama.post("/completion", {"prompt": "Hello", "n_predict": 4, "seed": 1})
        assert answer["tokens_predicted"] == 4
        assert llama.tokenize("<|im_start|>") == [train_vocabulary().id("<|im_start|>")]


def test_a_seed_gives_the_same_file_and_another_another(tmp_path: Path) -> None:
    one = write_tiny_gguf(tmp_path / "one.gguf", seed=1).read_bytes()
    assert write_tiny_gguf(tmp_path / "same.gguf", seed=1).read_bytes() == one
    assert write_tiny_gguf(tmp_path / "other.gguf", seed=2).read_bytes() != one


@pytest.mark.parametrize("size", [10_000, 2**20 + 1, 2**31])
def test_a_sparse_file_is_valid_and_takes_hardly_any_disk(tmp_path: Path, size: int) -> None:
    path = write_sparse_gguf(tmp_path / "sparse.gguf", size)
    assert path.stat().st_size == size
    assert path.stat().st_blocks * 512 < size // 32 + 2**20
    with path.open("rb") as stream:
        last = read_gguf(stream, size).tensors[-1]
    assert last.offset + last.size == size
