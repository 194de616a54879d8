"""The bounded GGUF reader: true files are read, hostile ones are refused in time and memory."""

from __future__ import annotations

import contextlib
import struct
import time
import tracemalloc
from io import BytesIO
from pathlib import Path

import gguf as reference
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.raw_gguf import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    U64,
    array,
    header,
    key,
    tensor,
    text,
    text_key,
    texts_key,
    u32_key,
)
from tests.fakes.tiny_gguf import write_sparse_gguf, write_tiny_gguf
from wire.errors import GGUFInvalidError, GGUFTruncatedError
from wire.gguf import GGUF, GGUFLimits, is_gguf, read_gguf

ALIGNMENT = "general.alignment"


def read(data: bytes, limits: GGUFLimits | None = None) -> GGUF:
    return read_gguf(BytesIO(data), len(data), limits or GGUFLimits())


def refused(data: bytes, limits: GGUFLimits | None = None) -> str:
    """The message of the refusal."""
    with pytest.raises(GGUFInvalidError) as caught:
        read(data, limits)
    assert caught.value.status == 422
    return caught.value.message


def two_tensors(*, second_offset: int = 32, second_name: str = "b") -> bytes:
    tensors = [tensor("a", (8,), 0, 0), tensor(second_name, (8,), 0, second_offset)]
    return header([], tensors) + bytes(64)


def test_reads_what_the_reference_writer_wrote(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    with path.open("rb") as stream:
        found = read_gguf(stream, path.stat().st_size)
    expected = reference.GGUFReader(path)
    assert found.version == 3
    assert found.alignment == expected.alignment
    assert found.data_offset == expected.data_offset
    assert [(t.name, t.offset, t.size, t.type.name) for t in found.tensors] == [
        (t.name, t.data_offset, t.n_bytes, t.tensor_type.name) for t in expected.tensors
    ]
    fields = {k: f for k, f in expected.fields.items() if not k.startswith("GGUF.")}
    assert set(found.metadata) == set(fields)
    for name, field in fields.items():
        value = field.contents()
        assert found.metadata[name] == (tuple(value) if isinstance(value, list) else value)


def test_reads_through_a_callable_and_never_the_tensors(tmp_path: Path) -> None:
    path = write_sparse_gguf(tmp_path / "big.gguf", 2**30)
    asked = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    found = read_gguf(read_at, 2**30, GGUFLimits(window_bytes=4096))
    assert found.file_size == 2**30
    assert found.tensors[-1].offset + found.tensors[-1].size == 2**30
    assert max(offset + length for offset, length in asked) < 8192


def test_version_2_is_read_and_others_are_not() -> None:
    assert read(header(version=2)).version == 2
    assert "version 1 is not supported" in refused(header(version=1))
    assert "version 4 is not supported" in refused(header(version=4))
    assert "big-endian" in refused(header(version=3 << 24))


def test_a_file_that_is_not_gguf_is_refused() -> None:
    assert "does not start with 'GGUF'" in refused(b"PK\x03\x04" + bytes(60))
    assert is_gguf(b"GGUF\x03")
    assert not is_gguf(b"GGM")


@pytest.mark.parametrize("count", [2**64 - 1, 2**63, 2**40, 70_000])
@pytest.mark.parametrize("which", ["n_keys", "n_tensors"])
def test_a_count_near_the_end_of_64_bits_costs_nothing(which: str, count: int) -> None:
    data = header(n_keys=count) if which == "n_keys" else header(n_tensors=count)
    tracemalloc.start()
    began = time.thread_time()
    message = refused(data + bytes(1000))
    assert time.thread_time() - began < 1
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    assert str(count) in message


@pytest.mark.parametrize("kind", [U8, F32, STRING, BOOL])
@pytest.mark.parametrize("count", [2**64 - 1, 2**61, 2_000_000])
def test_an_array_longer_than_the_file_is_refused(kind: int, count: int) -> None:
    message = refused(header([key("a", ARRAY, array(kind, count, b""))]))
    assert "'a'" in message


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**33, 100])
def test_a_string_longer_than_the_file_is_refused(length: int) -> None:
    message = refused(header([key("a", STRING, struct.pack("<Q", length))]))
    assert "the value of 'a'" in message


@pytest.mark.parametrize("alignment", [0, 1, 4, 13, 24, 2**31])
def test_an_impossible_alignment_is_refused(alignment: int) -> None:
    assert f"{ALIGNMENT} is {alignment}" in refused(header([u32_key(ALIGNMENT, alignment)]))


@pytest.mark.parametrize(
    "entry",
    [
        text_key(ALIGNMENT, "32"),
        key(ALIGNMENT, U64, struct.pack("<Q", 32)),
        key(ALIGNMENT, I32, struct.pack("<i", 32)),
        key(ALIGNMENT, ARRAY, array(U32, 1, struct.pack("<I", 32))),
    ],
)
def test_an_alignment_of_another_type_is_refused(entry: bytes) -> None:
    assert f"{ALIGNMENT} is of value type" in refused(header([entry]))


def test_the_files_alignment_places_the_data() -> None:
    data = header([u32_key(ALIGNMENT, 256)], [tensor("a", (8,))], alignment=256) + bytes(32)
    found = read(data)
    assert found.data_offset % 256 == 0
    assert found.tensors[0].offset == found.data_offset


def test_duplicates_are_refused() -> None:
    assert "key 'a' stands twice" in refused(header([u32_key("a", 1), u32_key("a", 2)]))
    assert "tensor 'a' stands twice" in refused(two_tensors(second_name="a"))


def test_tensors_lie_apart_aligned_and_inside() -> None:
    assert [t.size for t in read(two_tensors()).tensors] == [32, 32]
    assert "overlap at byte" in refused(two_tensors(second_offset=0))
    assert "not a multiple of 32" in refused(two_tensors(second_offset=33))
    assert "goes beyond the file" in refused(two_tensors(second_offset=64))
    assert "goes beyond the file" in refused(two_tensors(second_offset=2**64 - 32))
    assert "goes beyond the file" in refused(two_tensors()[:-1])


def test_one_tensor_inside_another_is_an_overlap() -> None:
    tensors = [tensor("outer", (64,), 0, 0), tensor("inner", (8,), 0, 64)]
    assert "'outer' and 'inner' overlap" in refused(header([], tensors) + bytes(256))


@pytest.mark.parametrize(
    ("dims", "reason"),
    [
        ((2**32, 2**32), "more than 2^63 - 1"),
        ((2**62, 2, 2), "more than 2^63 - 1"),
        ((2**64 - 1,), "more than 2^63 - 1"),
        ((0,), "is empty"),
        ((8, 0), "is empty"),
        ((), "has 0 dimensions"),
        ((1, 1, 1, 1, 1), "has 5 dimensions"),
    ],
)
def test_impossible_dimensions_are_refused(dims: tuple[int, ...], reason: str) -> None:
    assert reason in refused(header([], [tensor("t", dims)]) + bytes(64))


def test_rows_are_whole_blocks() -> None:
    q4_k = 12
    assert "whole blocks of 256" in refused(header([], [tensor("t", (128,), q4_k)]) + bytes(200))
    found = read(header([], [tensor("t", (256, 2), q4_k)]) + bytes(288))
    assert (found.tensors[0].size, found.tensors[0].items) == (288, 512)
    assert found.parameters == 512


@pytest.mark.parametrize("kind", [4, 5, 31, 36, 43, 2**31])
def test_unknown_tensor_types_are_refused(kind: int) -> None:
    assert f"unknown type {kind}" in refused(header([], [tensor("t", (8,), kind)]) + bytes(64))


@pytest.mark.parametrize("kind", [13, 99, 2**32 - 1])
def test_unknown_value_types_are_refused(kind: int) -> None:
    assert f"value type {kind}" in refused(header([key("a", kind, bytes(8))]))
    assert f"value type {kind}" in refused(header([key("a", ARRAY, array(kind, 1, bytes(8)))]))


def test_arrays_of_arrays_are_refused() -> None:
    inner = array(U8, 1, b"\0")
    assert "value type 9" in refused(header([key("a", ARRAY, array(ARRAY, 1, inner))]))


def test_a_bool_is_zero_or_one() -> None:
    flags = read(header([key("a", BOOL, b"\1"), key("b", ARRAY, array(BOOL, 2, b"\0\1"))]))
    assert flags.metadata == {"a": True, "b": (False, True)}
    assert "bool other than 0 and 1" in refused(header([key("a", BOOL, b"\2")]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (header([text_key("a", b"\xff")]), "the value of 'a' is not UTF-8"),
        (header([u32_key("", 1)]), "key 0 is empty"),
        (header([u32_key("a\0b", 1)]), "holds a NUL"),
        (header([key(b"\xc3", U32, bytes(4))]), "key 0 is not UTF-8"),
        (header([], [tensor("", (8,))]) + bytes(32), "name is empty"),
        (header([], [tensor("a\0b", (8,))]) + bytes(32), "holds a NUL"),
        (header([], [tensor("n" * 64, (8,))]) + bytes(32), "64 B long; the limit is 63"),
    ],
)
def test_bad_names_and_texts_are_refused(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def test_a_broken_text_inside_an_array_is_named() -> None:
    data = header([key("a", ARRAY, array(STRING, 2, text("ok") + text(b"\xff")))])
    assert "item 1 of the value of 'a' is not UTF-8" in refused(data)


def test_every_limit_holds() -> None:
    two_keys = header([u32_key("a", 1), u32_key("b", 1)])
    names = header([texts_key("a", ["x"] * 20)])
    assert "limit is 1" in refused(two_keys, GGUFLimits(keys=1))
    assert "limit is 1" in refused(two_tensors(), GGUFLimits(tensors=1))
    assert "limit is 2 B" in refused(header([u32_key("abc", 1)]), GGUFLimits(key_bytes=2))
    assert "limit is 2 B" in refused(header([text_key("a", "xyz")]), GGUFLimits(string_bytes=2))
    long_item = header([texts_key("a", ["x", "xyz"])])
    assert "item 1" in refused(long_item, GGUFLimits(string_bytes=2))
    assert "limit is 19 items" in refused(names, GGUFLimits(array_items=19))
    assert "19 in all arrays" in refused(names, GGUFLimits(total_array_items=19))
    assert "128 header bytes" in refused(names, GGUFLimits(header_bytes=128, window_bytes=16))
    aligned = header([u32_key(ALIGNMENT, 64)], alignment=64)
    assert "from 8 to 32" in refused(aligned, GGUFLimits(alignment_bytes=32))


@pytest.mark.parametrize("window_bytes", [1, 7, 64, 4096])
def test_the_window_does_not_change_what_is_read(window_bytes: int) -> None:
    keys = [
        text_key("t", "grüße" * 9), texts_key("list", [f"item {i}" for i in range(50)]),
        key("numbers", ARRAY, array(F32, 3, struct.pack("<3f", 1, 2.5, -3))), u32_key("n", 7),
    ]  # fmt: skip
    data = header(keys, [tensor("a", (8,))]) + bytes(32)
    assert read(data, GGUFLimits(window_bytes=window_bytes)) == read(data)


def test_a_truncated_header_is_refused_wherever_it_ends() -> None:
    keys = [text_key("a", "text"), texts_key("b", ["one", "two"]), u32_key("c", 3)]
    data = header(keys, [tensor("t", (8,))]) + bytes(32)
    for length in range(len(data)):
        assert refused(data[:length])


def test_a_file_shorter_than_it_claims_is_refused() -> None:
    data = header([text_key("a", "text")])
    with pytest.raises(GGUFTruncatedError, match="shorter than"):
        read_gguf(BytesIO(data[:30]), len(data))


def test_a_vocabulary_of_150_000_tokens_is_read_quickly() -> None:
    tokens = [f"token{i}" for i in range(150_000)]
    merges = [f"tok{i} en{i}" for i in range(280_000)]
    types = array(I32, len(tokens), struct.pack(f"<{len(tokens)}i", *([1] * len(tokens))))
    data = header([
        texts_key("tokenizer.ggml.tokens", tokens), texts_key("tokenizer.ggml.merges", merges),
        key("tokenizer.ggml.token_type", ARRAY, types),
    ])  # fmt: skip
    began = time.thread_time()
    found = read(data)
    assert time.thread_time() - began < 2
    assert found.texts("tokenizer.ggml.tokens") == tuple(tokens)
    assert found.texts("tokenizer.ggml.merges")[-1] == merges[-1]
    assert len(found.integers("tokenizer.ggml.token_type")) == 150_000


_VALID = (
    header(
        [
            text_key("general.architecture", "llama"), u32_key(ALIGNMENT, 32),
            texts_key("tokens", ["a", "b", "ü"]), key("flag", BOOL, b"\1"),
            key("scores", ARRAY, array(F32, 2, bytes(8))),
        ],
        [tensor("a", (8, 2), 0, 0), tensor("b", (32,), 8, 64)],
    )
    + bytes(98)
)  # fmt: skip
_EDGES = st.sampled_from([0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid file after a few strokes of bad luck or bad will."""
    data = bytearray(_VALID)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 9))
        stroke = draw(st.sampled_from(["flip", "number", "cut", "insert", "delete"]))
        if stroke == "flip":
            data[at] ^= draw(st.integers(1, 255))
        elif stroke == "number":
            data[at : at + 8] = struct.pack("<Q", draw(_EDGES | st.integers(0, 2**64 - 1)))
        elif stroke == "cut":
            del data[max(at, 16) :]
        elif stroke == "insert":
            data[at:at] = draw(st.binary(max_size=16))
        else:
            del data[at : at + draw(st.integers(1, 8))]
        data.extend(bytes(max(0, 16 - len(data))))
    return bytes(data)


@given(damaged())
@settings(deadline=None)
def test_a_damaged_file_is_read_or_refused_but_never_worse(data: bytes) -> None:
    began = time.thread_time()
    try:
        found = read(data)
    except GGUFInvalidError:
        pass
    else:
        ends = [t.offset + t.size for t in found.tensors]
        assert all(end <= len(data) for end in ends)
    assert time.thread_time() - began < 1


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_noise_after_the_magic_is_never_worse_than_refused(noise: bytes) -> None:
    data = b"GGUF" + struct.pack("<I", 3) + noise
    with contextlib.suppress(GGUFInvalidError):
        read(data)


def test_it_is_told_where_every_key_and_the_table_stand(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    found = read_gguf(BytesIO(data), len(data))
    assert list(found.entries) == list(found.metadata)
    spans = list(found.entries.values())
    assert spans[0][0] == 24
    assert [end for _, end in spans] == [*(start for start, _ in spans[1:]), found.table[0]]
    for name, (start, end) in found.entries.items():
        assert data[start:end].startswith(text(name))
    assert data[found.table[0] : found.table[1]].startswith(text(found.tensors[0].name))
    assert found.table[1] <= found.data_offset < found.table[1] + found.alignment
