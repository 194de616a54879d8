from __future__ import annotations

import io
import struct

from hypothesis import given
from hypothesis import strategies as st

from origin.quantize.kinds import TYPES_BY_NAME
from origin.quantize.layout import lay_out
from tests.fakes import raw_gguf
from wire.gguf import read_gguf

NAN = raw_gguf.key("a.nan", raw_gguf.F32, struct.pack("<I", 0x7FC0_1234))
TEXT = raw_gguf.text_key("general.name", "größer")
FILE_TYPE = raw_gguf.u32_key("general.file_type", 1)
VERSION = raw_gguf.u32_key("general.quantization_version", 1)
WORDS = raw_gguf.texts_key("tokenizer.ggml.tokens", ["a", "", "ü"])
ALIGNMENT = raw_gguf.u32_key("general.alignment", 64)
Q8, F32 = TYPES_BY_NAME["Q8_0"], TYPES_BY_NAME["F32"]


@given(st.permutations([NAN, TEXT, FILE_TYPE, VERSION, WORDS, ALIGNMENT]), st.integers(1, 6))
def test_metadata_keeps_its_bytes_and_its_order(keys: list[bytes], count: int) -> None:
    keys = keys[:count]
    alignment = 64 if ALIGNMENT in keys else 32
    tensors = [
        raw_gguf.tensor("blk.0.ffn_up.weight", (32, 3), 0, 0),
        raw_gguf.tensor("output_norm.weight", (5,), 0, 384),
    ]
    header = raw_gguf.header(keys, tensors, alignment=alignment)
    source = header + bytes(384 + 20)
    gguf = read_gguf(io.BytesIO(source), len(source))
    layout = lay_out(header, gguf, [Q8, F32], 7)
    made = read_gguf(io.BytesIO(layout.header + bytes(layout.size)), layout.size)

    new = {FILE_TYPE: raw_gguf.u32_key("general.file_type", 7)}
    new[VERSION] = raw_gguf.u32_key("general.quantization_version", 2)
    expected = [new.get(key, key) for key in keys] + [new[k] for k in new if k not in keys]
    start, stop = 24, 24 + sum(map(len, expected))
    assert layout.header[start:stop] == b"".join(expected)
    assert made.tensors == layout.tensors
    assert [(t.name, t.dims, t.type.name) for t in made.tensors] == [
        ("blk.0.ffn_up.weight", (32, 3), "Q8_0"),
        ("output_norm.weight", (5,), "F32"),
    ]
    assert layout.size % alignment == 0
    assert (made.alignment, made.version) == (alignment, gguf.version)
