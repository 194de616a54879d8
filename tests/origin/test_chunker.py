"""Chunk boundaries: they cover the file, follow its structure, and stay where nothing changed."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.chunker import ChunkerConfig, Run, layer_of, plan, scan
from tests.fakes import raw_gguf
from tests.fakes.raw_safetensors import write as write_safetensors
from tests.fakes.tiny_gguf import write_sparse_gguf, write_tiny_gguf
from wire.chunk import MAX_CHUNK_BYTES, Chunk, hash_chunk
from wire.errors import ConfigError, ConflictError, NameInvalidError, SourceUnavailableError
from wire.gguf import GGUF, read_gguf
from wire.gguf_types import TENSOR_TYPES, Tensor
from wire.manifest import FileEntry
from wire.safetensors import Safetensors, read_safetensors

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
        {"max_chunk_bytes": 1_000}, {"header_part_bytes": 0},
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


# The header of a GGUF


VOCABULARY_TOKENS = 150_000
LARGE_KEYS = [
    raw_gguf.texts_key(
        "tokenizer.ggml.tokens", [f"token{index:06d}" for index in range(VOCABULARY_TOKENS)]
    ),
    raw_gguf.key(
        "tokenizer.ggml.scores",
        raw_gguf.ARRAY,
        raw_gguf.array(raw_gguf.F32, VOCABULARY_TOKENS, bytes(4 * VOCABULARY_TOKENS)),
    ),
    raw_gguf.key(
        "tokenizer.ggml.token_type",
        raw_gguf.ARRAY,
        raw_gguf.array(raw_gguf.I32, VOCABULARY_TOKENS, b"\x01\0\0\0" * VOCABULARY_TOKENS),
    ),
    raw_gguf.texts_key(
        "tokenizer.ggml.merges", [f"to ken{index:06d}" for index in range(VOCABULARY_TOKENS)]
    ),
]
"""What the tokenizer of a current model takes: 8.3 MB."""


def header(
    tensors: Sequence[tuple[str, int]], *, name: str = "one", template: str = "t" * 6_000
) -> bytes:
    """A header with a large vocabulary between small keys, and a table of I8 tensors."""
    entries, offset = [], 0
    for tensor, size in tensors:
        entries.append(raw_gguf.tensor(tensor, (size,), 24, offset))
        offset += -(-size // 32) * 32
    keys = [
        raw_gguf.text_key("general.architecture", "llama"),
        raw_gguf.text_key("general.name", name),
        *LARGE_KEYS,
        raw_gguf.text_key("tokenizer.chat_template", template),
        raw_gguf.u32_key("general.quantization_version", 2),
    ]
    return raw_gguf.header(keys, entries)


def layers(count: int, tensor_bytes: int, per_layer: int = 9) -> list[tuple[str, int]]:
    tensors = [("token_embd.weight", tensor_bytes), ("output_norm.weight", 4_096)]
    for layer in range(count):
        tensors.append((f"blk.{layer}.attn_norm.weight", 4_096))
        tensors += [(f"blk.{layer}.part{part}.weight", tensor_bytes) for part in range(per_layer)]
    return tensors


def as_chunks(head: bytes, size: int) -> tuple[set[tuple[str, int]], list[Run], GGUF]:
    """The chunks of a file whose tensors never change: a header's by their bytes, the others by
    their place in the data."""
    gguf = read_gguf(BytesIO(head), size)
    runs = plan(gguf, size)
    assert_covers(runs, size, ChunkerConfig())
    found: set[tuple[str, int]] = set()
    for run in runs:
        if run.end <= len(head):
            found.add((hash_chunk(head[run.offset : run.end]), run.size))
        else:
            assert run.offset >= len(head), "a chunk holds header and tensor"
            found.add((f"data {run.offset - gguf.data_offset}", run.size))
    return found, runs, gguf


@pytest.mark.parametrize(
    "edit",
    [
        {"template": "x" * 6_000},
        {"template": "t" * 6_001},
        {"template": "t" * 9_999},
        {"name": "another name, longer by far"},
        {"name": ""},
    ],
)
def test_a_metadata_edit_of_two_gib_costs_a_thousandth_of_it_at_most(edit: dict[str, str]) -> None:
    tensors = layers(24, 10 * MIB + 512)
    size = sum(-(-size // 32) * 32 for _, size in tensors)
    before, after = header(tensors), header(tensors, **edit)
    assert len(before) > 7 * 10**6
    old, _, _ = as_chunks(before, len(before) + size)
    new, runs, _ = as_chunks(after, len(after) + size)
    assert sum(run.size for run in runs) > 2 * 1024 * MIB
    refetched = sum(size for _, size in new - old)
    print(f"{edit.keys()}: {refetched} B of {len(after) + size} B are new")
    assert 0 < refetched < 64 * KIB < 0.001 * 2 * 1024 * MIB


def test_another_vocabulary_costs_its_own_array() -> None:
    tensors = layers(2, MIB)
    size = sum(-(-size // 32) * 32 for _, size in tensors)
    before = header(tensors)
    after = before.replace(b"token149999", b"token!!!!!!")
    old, _, _ = as_chunks(before, len(before) + size)
    new, _, _ = as_chunks(after, len(after) + size)
    tokens = len(LARGE_KEYS[0])
    assert sum(size for _, size in new - old) == tokens


def test_a_fine_tune_of_two_layers_costs_them_and_a_hundredth(tmp_path: Path) -> None:
    tensors = layers(24, 320 * KIB)
    paths = [tmp_path / "base.gguf", tmp_path / "tuned.gguf"]
    changed = 0
    for path, name in zip(paths, ("base", "base, tuned for something else"), strict=True):
        tuned = path is paths[1]
        with path.open("wb") as stream:
            stream.write(header(tensors, name=name, template="u" * 7_000 if tuned else "t" * 100))
            for tensor, size in tensors:
                differs = tuned and layer_of(tensor) in ("blk.7", "blk.19")
                seed = f"{tensor}{differs}".encode()
                stream.write(hashlib.shake_128(seed).digest(size) + bytes(-size % 32))
                changed += size if differs else 0
    base, tuned_entry = (scanned(path) for path in paths)
    known = {ref.id for ref in base.chunks}
    moved = sum(ref.size for ref in tuned_entry.chunks if ref.id not in known)
    print(f"{moved} B to move for {changed} B that changed")
    assert changed <= moved <= 1.01 * changed


def test_a_small_header_stays_one_run(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    with path.open("rb") as stream:
        gguf = read_gguf(stream, path.stat().st_size)
    runs = plan(gguf, gguf.file_size)
    assert len(gguf.entries) > 10
    assert [run for run in runs if run.end <= gguf.data_offset] == [Run(0, gguf.data_offset)]


@given(st.lists(st.integers(1, 3_000), max_size=12), st.integers(1, 4_000))
@settings(deadline=None)
def test_a_header_is_covered_whatever_its_parts(sizes: list[int], limit: int) -> None:
    keys = [raw_gguf.text_key(f"k{index}", "x" * size) for index, size in enumerate(sizes)]
    data = raw_gguf.header(keys, [raw_gguf.tensor("a", (40,), 24)]) + bytes(64)
    gguf = read_gguf(BytesIO(data), len(data))
    config = ChunkerConfig(header_part_bytes=limit)
    runs = plan(gguf, len(data), config)
    assert_covers(runs, len(data), config)
    own = {Run(start, end - start) for start, end in gguf.entries.values() if end - start >= limit}
    assert own <= set(runs)


# safetensors


def read_layout(data: bytes) -> Safetensors:
    return read_safetensors(BytesIO(data), len(data))


def test_safetensors_are_cut_at_tensors() -> None:
    data = write_safetensors(
        {
            "model.layers.0.norm1": ("I8", (100,)),
            "model.layers.0.norm2": ("I8", (90,)),
            "model.layers.0.q": ("I8", (1_000,)),
            "model.layers.1.norm": ("I8", (50,)),
            "none": ("I8", (0,)),
            "model.layers.1.w": ("I8", (9_000,)),
        }
    )
    layout = read_layout(data)
    start = layout.data_offset
    assert plan(layout, len(data), SMALL) == [
        Run(0, start), Run(start, 190), Run(start + 190, 1_000), Run(start + 1_190, 50),
        Run(start + 1_240, 3_000), Run(start + 4_240, 3_000), Run(start + 7_240, 3_000),
    ]  # fmt: skip


@given(st.lists(st.tuples(names, st.integers(0, 9_000)), max_size=20, unique_by=lambda t: t[0]))
@settings(deadline=None)
def test_a_plan_covers_safetensors_exactly(tensors: list[tuple[str, int]]) -> None:
    data = write_safetensors({name: ("I8", (size,)) for name, size in tensors})
    assert_covers(plan(read_layout(data), len(data), SMALL), len(data), SMALL)


def test_a_changed_tensor_of_safetensors_costs_itself() -> None:
    table = {f"model.layers.{layer}.w": ("I8", (6_000,)) for layer in range(6)}
    one = write_safetensors(table)
    other = one[:-5] + b"other"
    more = write_safetensors({"a.new": ("I8", (300,)), **table})
    known = cut(one)
    assert len(cut(other) - known) == 1
    assert sum(size for _, size in cut(more) - known) == read_layout(more).data_offset + 300


def cut(data: bytes) -> set[tuple[str, int]]:
    runs = plan(read_layout(data), len(data), SMALL)
    return {(hash_chunk(data[run.offset : run.end]), run.size) for run in runs}
