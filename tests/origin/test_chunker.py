"""Chunk boundaries: they cover the file, follow its structure, and stay where nothing changed."""

from __future__ import annotations

import hashlib
import resource
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.chunker import ChunkerConfig, Run, layer_of, plan, scan
from tests.fakes.tiny_gguf import write_sparse_gguf, write_tiny_gguf
from wire.chunk import MAX_CHUNK_BYTES, Chunk, hash_chunk
from wire.errors import ConfigError, ConflictError, NameInvalidError, SourceUnavailableError
from wire.gguf import GGUF, read_gguf
from wire.gguf_types import TENSOR_TYPES, Tensor
from wire.manifest import FileEntry

KIB = 1024
MIB = 1024 * KIB
SMALL = ChunkerConfig(max_chunk_bytes=4_096, small_tensor_bytes=512, group_bytes=512)
I8 = TENSOR_TYPES[24]


def layout(
    tensors: list[tuple[str, int]], *, header: int = 640, gap: int = 0, tail: int = 0
) -> GGUF:
    """A file of these tensors (name, size), padded to 32, ``gap`` bytes between them."""
    placed = []
    offset = header
    for name, size in tensors:
        placed.append(Tensor(name, (size,), I8, offset, size))
        offset += -(-size // 32) * 32 + gap
    return GGUF(
        version=3, metadata={}, alignment=32, data_offset=header, tensors=tuple(placed),
        file_size=offset + tail,
    )  # fmt: skip


def assert_covers(runs: list[Run], size: int, config: ChunkerConfig) -> None:
    position = 0
    for run in runs:
        assert run.offset == position
        assert 0 < run.size <= config.max_chunk_bytes
        position = run.end
    assert position == size


def touching(runs: list[Run], start: int, end: int) -> list[Run]:
    return [run for run in runs if run.offset < end and run.end > start]


names = st.one_of(
    st.builds("blk.{}.{}.weight".format, st.integers(0, 3), st.sampled_from(["a", "b"])),
    st.sampled_from(["token_embd.weight", "output.weight", "v.blk.1.ln.bias"]),
)
layouts = st.builds(
    layout,
    st.lists(st.tuples(names, st.integers(1, 10_000)), max_size=30),
    header=st.integers(1, 400).map(lambda blocks: 32 * blocks),
    gap=st.sampled_from([0, 0, 32, 6_400]),
    tail=st.sampled_from([0, 0, 5, 9_999]),
)


@given(layouts)
@settings(deadline=None)
def test_a_plan_covers_the_file_exactly(gguf: GGUF) -> None:
    assert_covers(plan(gguf, gguf.file_size, SMALL), gguf.file_size, SMALL)


@given(layouts)
@settings(deadline=None)
def test_no_chunk_holds_parts_of_a_large_tensor_and_of_anything_else(gguf: GGUF) -> None:
    runs = plan(gguf, gguf.file_size, SMALL)
    for tensor in gguf.tensors:
        if tensor.size >= SMALL.small_tensor_bytes:
            own = touching(runs, tensor.offset, tensor.offset + tensor.size)
            padding = 31
            assert own[0].offset == tensor.offset
            assert own[-1].end <= tensor.offset + tensor.size + padding
            assert {run.size for run in own[:-1]} <= {own[0].size}


@given(layouts)
@settings(deadline=None)
def test_small_tensors_are_never_cut_and_share_only_within_a_layer(gguf: GGUF) -> None:
    runs = plan(gguf, gguf.file_size, SMALL)
    layers: dict[Run, set[str]] = {}
    for tensor in gguf.tensors:
        if tensor.size < SMALL.small_tensor_bytes - 32:
            (run,) = touching(runs, tensor.offset, tensor.offset + tensor.size)
            assert run.size <= SMALL.group_bytes
            layers.setdefault(run, set()).add(layer_of(tensor.name))
    assert all(len(found) == 1 for found in layers.values())


@given(layouts, st.data())
@settings(deadline=None)
def test_a_resized_tensor_moves_no_boundary_of_another_layer(
    gguf: GGUF, data: st.DataObject
) -> None:
    if not gguf.tensors:
        return
    chosen = data.draw(st.sampled_from(gguf.tensors))
    sizes = [(t.name, t.size) for t in gguf.tensors]
    resized = [(t.name, 9_999 if t is chosen else t.size) for t in gguf.tensors]

    def shapes(tensors: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
        """Each chunk as the first tensor in it, its start in that tensor, and its size."""
        found = layout(tensors)
        return [
            (t.name, run.offset - t.offset, run.size)
            for run in plan(found, found.file_size, SMALL)
            for t in found.tensors
            if layer_of(t.name) != layer_of(chosen.name)
            and t.offset <= run.offset < t.offset + t.size
        ]

    assert shapes(sizes) == shapes(resized)


@given(st.integers(0, 20_000), st.integers(100, 5_000))
@settings(deadline=None)
def test_other_files_are_cut_at_fixed_size(size: int, limit: int) -> None:
    config = ChunkerConfig(max_chunk_bytes=limit, small_tensor_bytes=1, group_bytes=1)
    runs = plan(None, size, config)
    assert_covers(runs, size, config)
    assert all(run.size == limit for run in runs[:-1])


def test_the_header_is_one_run_until_it_is_too_large() -> None:
    small = layout([("a", 600)], header=4_096)
    assert plan(small, small.file_size, SMALL)[0] == Run(0, 4_096)
    large = layout([("a", 600)], header=4_128)
    assert plan(large, large.file_size, SMALL)[:2] == [Run(0, 2_064), Run(2_064, 2_064)]


def test_a_large_tensor_is_cut_into_equal_pieces_from_its_own_start() -> None:
    gguf = layout([("a", 10_000)])
    assert plan(gguf, gguf.file_size, SMALL)[1:] == [
        Run(640, 3_339), Run(3_979, 3_339), Run(7_318, 3_338),
    ]  # fmt: skip


def test_norms_between_matrices_share_a_chunk_and_padding_goes_with_what_precedes_it() -> None:
    gguf = layout([("blk.0.q", 1_000), ("blk.0.n1", 100), ("blk.0.n2", 90), ("blk.0.k", 1_000)])
    assert plan(gguf, gguf.file_size, SMALL)[1:] == [
        Run(640, 1_024), Run(1_664, 128 + 96), Run(1_888, 1_024),
    ]  # fmt: skip


def test_layers_do_not_share_chunks() -> None:
    gguf = layout([("blk.0.a", 64), ("blk.0.b", 64), ("blk.1.a", 64), ("out", 64), ("norm", 64)])
    assert [run.size for run in plan(gguf, gguf.file_size, SMALL)[1:]] == [128, 64, 128]


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("blk.7.attn_norm.weight", "blk.7"), ("v.blk.12.ln1.bias", "v.blk.12"),
        ("blk.1.ffn.3.weight", "blk.1"), ("token_embd.weight", ""), ("output_norm.weight", ""),
        ("conv1.weight", ""), ("", ""),
    ],
)  # fmt: skip
def test_the_layer_of_a_name(name: str, layer: str) -> None:
    assert layer_of(name) == layer


def test_impossible_configurations_are_refused() -> None:
    for config in (
        {"max_chunk_bytes": 0}, {"max_chunk_bytes": MAX_CHUNK_BYTES + 1},
        {"small_tensor_bytes": 0}, {"small_tensor_bytes": 512 * KIB},
        {"max_chunk_bytes": 1_000},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            ChunkerConfig(**config)


def chunk_ids(path: Path) -> list[str]:
    return [ref.id for ref in scanned(path).chunks]


def scanned(path: Path) -> FileEntry:
    with path.open("rb") as stream:
        gguf = read_gguf(stream, path.stat().st_size)
    return scan(path, plan(gguf, gguf.file_size), role="weights")


def test_a_new_template_costs_the_header_alone(tmp_path: Path) -> None:
    one = write_tiny_gguf(tmp_path / "one.gguf", n_layer=3)
    other = write_tiny_gguf(tmp_path / "other.gguf", n_layer=3, chat_template="{{ messages }}" * 9)
    before, after = chunk_ids(one), chunk_ids(other)
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_a_new_layer_costs_the_header_and_the_layer(tmp_path: Path) -> None:
    three = chunk_ids(write_tiny_gguf(tmp_path / "three.gguf", n_layer=3))
    four = chunk_ids(write_tiny_gguf(tmp_path / "four.gguf", n_layer=4))
    assert set(three[1:]) <= set(four)


def test_an_edit_in_one_tensor_costs_only_its_chunk(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", n_embd=256)
    before = chunk_ids(path)
    with path.open("r+b") as stream:
        gguf = read_gguf(stream, path.stat().st_size)
        edited = next(t for t in gguf.tensors if t.name == "blk.1.ffn_up.weight")
        stream.seek(edited.offset + edited.size // 2)
        stream.write(b"edit")
    after = chunk_ids(path)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


def test_scan_names_the_file_and_its_chunks(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    data = bytes(range(256)) * 40
    path.write_bytes(data)
    chunks: list[tuple[str, bytes]] = []
    steps: list[tuple[str, int, int]] = []

    def keep(chunk: Chunk) -> None:
        chunks.append((chunk.id, bytes(chunk.data)))

    entry = scan(
        path, plan(None, len(data), SMALL), role="other", path="sub/name.bin", sink=keep,
        progress=lambda *step: steps.append(step),
    )  # fmt: skip
    assert entry.sha256 == hashlib.sha256(data).hexdigest()
    assert (entry.path, entry.size, entry.role) == ("sub/name.bin", len(data), "other")
    assert b"".join(part for _, part in chunks) == data
    assert [ref.id for ref in entry.chunks] == [hash_chunk(part) for _, part in chunks]
    assert steps == [("scan", 4_096, 10_240), ("scan", 8_192, 10_240), ("scan", 10_240, 10_240)]


def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.touch()
    entry = scan(path, plan(None, 0), role="other")
    assert (entry.size, entry.chunks) == (0, ())
    assert entry.sha256 == hashlib.sha256().hexdigest()


def test_a_file_that_changes_under_the_scan_is_a_conflict(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with pytest.raises(ConflictError, match="shrank"):
        scan(path, [Run(0, 101)], role="other")
    with pytest.raises(ConflictError, match="grew"):
        scan(path, [Run(0, 99)], role="other")


def test_a_missing_file_and_an_impossible_path_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match=r"cannot open .*absent"):
        scan(tmp_path / "absent", [], role="other")
    with pytest.raises(NameInvalidError):
        scan(tmp_path / "absent", [], role="other", path="../absent")


def test_a_large_file_is_scanned_in_bounded_memory(tmp_path: Path) -> None:
    path = write_sparse_gguf(tmp_path / "big.gguf", 160 * MIB, tensor_bytes=20 * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    entry = scanned(path)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB
    assert grown < 40 * MIB
    assert entry.size == 160 * MIB
    assert len({ref.id for ref in entry.chunks}) == len(entry.chunks) == 1 + 8 * 3


def test_a_layout_of_another_size_is_not_trusted_beyond_the_file() -> None:
    gguf = replace(layout([("a", 600)]), file_size=5_000)
    assert_covers(plan(gguf, 5_000, SMALL), 5_000, SMALL)
