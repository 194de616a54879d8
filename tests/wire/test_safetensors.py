"""The bounded safetensors reader: true files are read, hostile ones are refused."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.raw_safetensors import entry, joined, write
from wire.errors import SafetensorsInvalidError
from wire.safetensors import (
    DTYPE_BITS,
    MAX_HEADER_BYTES,
    Safetensors,
    SafetensorsLimits,
    read_index,
    read_safetensors,
)


def read(data: bytes, **limits: int) -> Safetensors:
    return read_safetensors(BytesIO(data), len(data), SafetensorsLimits(**limits))


def refused(header: object, data_bytes: int = 0, **limits: int) -> str:
    data = joined(header, bytes(data_bytes))
    with pytest.raises(SafetensorsInvalidError) as error:
        read(data, **limits)
    return error.value.message


def test_a_file_is_read() -> None:
    data = write({"b": ("F32", (2, 3)), "a": ("I8", (5,))}, metadata={"format": "pt"})
    found = read(data)
    assert found.metadata == {"format": "pt"}
    assert [(t.name, t.dtype, t.shape, t.size) for t in found.tensors] == [
        ("b", "F32", (2, 3), 24),
        ("a", "I8", (5,), 5),
    ]
    assert found.tensors[0].offset == found.data_offset
    assert found.tensors[1].offset == found.data_offset + 24
    assert found.file_size == len(data)


def test_a_function_that_reads_is_a_source_too() -> None:
    data = write({"a": ("F16", (4,))})
    asked: list[tuple[int, int]] = []

    def read_at(offset: int, length: int) -> bytes:
        asked.append((offset, length))
        return data[offset : offset + length]

    assert read_safetensors(read_at, len(data)).tensors[0].size == 8
    assert max(offset + length for offset, length in asked) < len(data), "tensors were read"


def test_a_header_may_be_padded_and_empty() -> None:
    assert read(joined("{ } \n\t ", b"")).tensors == ()
    assert read(joined("{}        ", b"")).metadata == {}


@pytest.mark.parametrize("dtype", sorted(DTYPE_BITS))
def test_every_type_has_its_size(dtype: str) -> None:
    found = read(write({"a": (dtype, (8, 3))}))
    assert found.tensors[0].size * 8 == 24 * DTYPE_BITS[dtype]


def test_a_tensor_may_be_a_scalar_or_empty() -> None:
    found = read(write({"scalar": ("F32", ()), "none": ("F32", (0, 7)), "after": ("I8", (3,))}))
    assert {t.name: t.size for t in found.tensors} == {"scalar": 4, "none": 0, "after": 3}


def test_names_and_metadata_may_hold_what_looks_like_structure() -> None:
    name = 'a{"b":[\\]}ü,'
    found = read(write({name: ("I8", (1,))}, metadata={"k{": '}},"x":{', "é": "\\"}))
    assert found.tensors[0].name == name
    assert found.metadata == {"k{": '}},"x":{', "é": "\\"}


names = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20).filter(
    lambda name: name != "__metadata__" and name.isprintable()
)
shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple)
tables = st.dictionaries(names, st.tuples(st.sampled_from(["F32", "BF16", "I8"]), shapes))


@given(tables, st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3))
@settings(deadline=None)
def test_what_was_written_is_read(
    table: Mapping[str, tuple[str, Sequence[int]]], metadata: dict[str, str]
) -> None:
    found = read(write(table, metadata=metadata))
    assert found.metadata == metadata
    assert {t.name: (t.dtype, t.shape) for t in found.tensors} == {
        name: (dtype, tuple(shape)) for name, (dtype, shape) in table.items()
    }
    assert sum(t.size for t in found.tensors) == found.file_size - found.data_offset


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_no_bytes_make_anything_but_a_refusal(data: bytes) -> None:
    for whole in (data, joined(data, b""), joined(b'{"a":' + data, b"")):
        try:
            found = read(whole)
        except SafetensorsInvalidError:
            continue
        assert found.data_offset <= found.file_size == len(whole)


@given(st.data())
@settings(deadline=None)
def test_a_flipped_byte_gives_a_sound_file_or_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(write({"a": ("F32", (2, 2)), "b": ("I8", (7,))}, metadata={"k": "v"}))
    whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(whole))
    except SafetensorsInvalidError:
        return
    assert sum(t.size for t in found.tensors) == len(whole) - found.data_offset


# What is refused


def test_truncated_files_are_refused_wherever_they_end() -> None:
    data = write({"a": ("F32", (3,))})
    for length in range(len(data)):
        with pytest.raises(SafetensorsInvalidError):
            read(data[:length])


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, MAX_HEADER_BYTES + 1, 33 * 2**20])
def test_an_enormous_header_is_refused_unread(length: int) -> None:
    def read_at(_offset: int, count: int) -> bytes:
        assert count == 8, "the header was read"
        return length.to_bytes(8, "little")

    start = time.thread_time()
    with pytest.raises(SafetensorsInvalidError, match="the limit is"):
        read_safetensors(read_at, 2**40)
    assert time.thread_time() - start < 1


def test_no_limit_lets_through_more_than_the_reference_reader_takes() -> None:
    with pytest.raises(SafetensorsInvalidError, match=f"the limit is {MAX_HEADER_BYTES} B"):
        read_safetensors(
            lambda *_: (MAX_HEADER_BYTES + 1).to_bytes(8, "little"),
            2**40,
            SafetensorsLimits(header_bytes=2**62),
        )


def test_what_stands_twice_is_refused() -> None:
    one = json.dumps(entry("I8", [1], 0, 1))
    assert "'a' stands twice" in refused(f'{{"a":{one},"a":{one}}}', 1)
    assert "'a' stands twice" in refused(f'{{"a":{one},"\\u0061":{one}}}', 1)
    assert "__metadata__ stands twice" in refused('{"__metadata__":{},"__metadata__":{}}')
    assert "key stands twice" in refused('{"__metadata__":{"a":"1","a":"2"}}')
    twice = '{"dtype":"I8","dtype":"I8","shape":[1],"data_offsets":[0,1]}'
    assert "key stands twice" in refused(f'{{"a":{twice}}}', 1)


@pytest.mark.parametrize(
    ("tensors", "data_bytes"),
    [
        ({"a": entry("I8", [4], 0, 4), "b": entry("I8", [4], 5, 9)}, 9),  # a gap
        ({"a": entry("I8", [4], 0, 4), "b": entry("I8", [4], 3, 7)}, 7),  # an overlap
        ({"a": entry("I8", [4], 0, 4), "b": entry("I8", [4], 0, 4)}, 4),  # the same bytes
        ({"a": entry("I8", [4], 1, 5)}, 5),  # not from the start
        ({"a": entry("I8", [4], 0, 4)}, 5),  # bytes are left over
        ({"a": entry("I8", [4], 0, 4)}, 3),  # bytes are missing
        ({}, 1),
    ],
)
def test_tensors_cover_the_data_exactly(tensors: dict[str, object], data_bytes: int) -> None:
    assert refused(tensors, data_bytes)


@pytest.mark.parametrize(
    ("tensor", "why"),
    [
        (entry("F33", [1], 0, 4), "unknown type"),
        (entry("F32", [2], 0, 4), "needs 64 bits"),
        (entry("F32", [2**63, 2], 0, 8), "more than 2^64"),
        (entry("F32", [2**40, 2**40, 0], 0, 0), "more than 2^64"),
        (entry("F32", [-1], 0, 4), "no shape"),
        (entry("F32", [1.0], 0, 4), "no shape"),
        (entry("F32", [True], 0, 4), "no shape"),
        (entry("F32", [2**64], 0, 4), "no shape"),
        (entry("F32", [1] * 17, 0, 4), "no shape"),
        (entry("F32", "1", 0, 4), "no shape"),
        (entry("F4", [3], 0, 2), "needs 12 bits"),
        (entry("F32", [1], 4, 0), "no data_offsets"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [0, 4, 8]}, "no data_offsets"),
        ({"dtype": "F32", "shape": [1], "data_offsets": 4}, "no data_offsets"),
        ({"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}, "unknown type"),
        ({"dtype": "F32", "shape": [1]}, "nothing else"),
        ({**entry("F32", [1], 0, 4), "more": 1}, "nothing else"),
    ],
)
def test_an_impossible_tensor_is_refused(tensor: object, why: str) -> None:
    assert why in refused({"a": tensor}, 4)


@pytest.mark.parametrize(
    "header",
    [
        "", "[]", "null", '"a"', "{", "}", '{"a"}', '{"a":}', '{"a":1}', '{"a":[]}', '{"a":{}',
        '{"a":{"dtype":{}}}', "{'a':{}}", '{"__metadata__":{"a":1}}', '{"__metadata__":null}',
        '{} x', '{}{}', '{"__metadata__":{},}', '{"":{}}', '{"a\\u0000":{}}', '{"\\ud800":{}}',
        '{"__metadata__":{"a":"\n"}}', '{"__metadata__":{"a":NaN}}', "\ufeff{}",
    ],
)  # fmt: skip
def test_a_malformed_header_is_refused(header: str) -> None:
    assert refused(header)


def test_a_header_that_is_no_utf8_is_refused() -> None:
    assert "not UTF-8" in refused(b'{"__metadata__":{"a":"\xff"}}')


def test_counts_and_lengths_have_limits() -> None:
    many = {f"t{index}": entry("I8", [0], 0, 0) for index in range(9)}
    assert "more than 8 tensors" in refused(many, tensors=8)
    assert "512" not in refused({"n" * 600: entry("I8", [0], 0, 0)})
    long = '{"a":{"dtype":"I8","shape":[0],"data_offsets":[0,0]' + " " * 5_000 + "}}"
    assert "not 4096" in refused(long)
    assert "not 99" in refused({"__metadata__": {"a": "x" * 100}}, metadata_bytes=99)


@pytest.mark.parametrize(
    "header",
    [
        '{"a":' + "[" * 2**20,
        '{"a":{"shape":' + "[" * 2**20 + "]" * 2**20 + "}}",
        '{"a":{' + '"x":[],' * 2**18 + '"y":[]}}',
        "{" + '"' + "\\" * 2**20 + '":',
        '{"' + "a" * 2**20,
        "{" + "\n" * 2**20,
        '{"a":{' + "x" * 2**20,
        '{"a":{"b":"' + '\\"' * 2**19,
    ],
    ids=range(8),
)
def test_a_hostile_header_costs_little(header: str) -> None:
    data = joined(header, b"")
    tracemalloc.start()
    start = time.thread_time()
    try:
        with pytest.raises(SafetensorsInvalidError):
            read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.thread_time() - start < 2
    assert peak < 16 * 2**20


# The index


def test_an_index_names_the_file_of_each_tensor() -> None:
    index = {"metadata": {"total_size": 5}, "weight_map": {"a": "m-00001-of-00002.safetensors"}}
    assert read_index(json.dumps(index).encode()) == {"a": "m-00001-of-00002.safetensors"}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"weight_map":{}}', b'{"weight_map":{"a":1}}', b"[" * 10**6]
)
def test_an_index_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(SafetensorsInvalidError):
        read_index(data)


def test_an_index_has_limits() -> None:
    index = json.dumps({"weight_map": {"a": "x", "b": "x"}}).encode()
    for limits in (SafetensorsLimits(index_bytes=10), SafetensorsLimits(tensors=1)):
        with pytest.raises(SafetensorsInvalidError):
            read_index(index, limits)
