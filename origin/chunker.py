"""Where the chunks of a file begin and end, and one pass over the file that names them.

Boundaries follow the file's own structure, so an edit costs only what it changed and no rolling
hash is needed. Adjacent small tensors of one layer share a chunk; a larger tensor is cut into equal
pieces from its own start. Padding belongs to what it follows. Groups never reach over a layer, so a
new or resized tensor moves no boundary of another layer.

Of a GGUF header, the large entries (the vocabulary, the merges, a long template) and the tensor
table are runs of their own, because their bytes stay when another key grows; what lies between them
is small. In safetensors the header is one run: it holds nothing but the tensor table.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from wire.chunk import MAX_CHUNK_BYTES, Chunk
from wire.errors import ConfigError, ConflictError, SourceUnavailableError
from wire.gguf_types import GGUF, Tensor
from wire.manifest import ChunkRef, FileEntry, FileRole
from wire.paths import file_path
from wire.safetensors import Safetensors

Layout = GGUF | Safetensors
"""A file whose structure is known."""

_LAYER = re.compile(r"(?:[^.]+\.)*?\d+(?=\.)")
"""``blk.7`` of ``blk.7.attn_norm.weight``: everything up to the first number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkerConfig:
    """Sizes in bytes. A change moves boundaries, so all publishers of a model keep to one."""

    max_chunk_bytes: int = MAX_CHUNK_BYTES
    small_tensor_bytes: int = 256 * 1024
    """Smaller tensors share chunks with their neighbours."""
    group_bytes: int = 256 * 1024
    """A shared chunk does not grow beyond this."""
    header_part_bytes: int = 16 * 1024
    """A GGUF header's entry of this size has a chunk of its own."""

    def __post_init__(self) -> None:
        if not 0 < self.max_chunk_bytes <= MAX_CHUNK_BYTES:
            raise ConfigError(f"max_chunk_bytes must be 1 to {MAX_CHUNK_BYTES}")
        if not 0 < self.small_tensor_bytes <= self.group_bytes <= self.max_chunk_bytes:
            raise ConfigError("0 < small_tensor_bytes <= group_bytes <= max_chunk_bytes must hold")
        if self.header_part_bytes < 1:
            raise ConfigError("header_part_bytes must be at least 1")


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes ``offset`` to ``offset + size`` of a file; they become one chunk."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        return self.offset + self.size


DEFAULT_CONFIG = ChunkerConfig()
Progress = Callable[[str, int, int], None]
"""Told of a step's name, what is done and the total, both in bytes; after each chunk."""
Sink = Callable[[Chunk], None]
"""Takes a chunk in file order. Its bytes are valid only during the call."""


def plan(
    layout: Layout | None, file_size: int, config: ChunkerConfig = DEFAULT_CONFIG
) -> list[Run]:
    """The runs that cover a file exactly, in order.

    Args:
        layout: the file's structure, or None where it has none: then it is cut at fixed size.
    """
    if layout is None:
        return list(_fixed(Run(0, file_size), config.max_chunk_bytes))
    if isinstance(layout, GGUF):
        spans = list(_gguf_spans(layout))
        header = list(_header_parts(layout, spans[0][1].offset if spans else layout.data_offset))
    else:
        spans = [(t.name, Run(t.offset, t.size)) for t in layout.tensors if t.size]
        header = [Run(0, layout.data_offset)]
    return list(_planned(header, spans, layout.file_size, config))


def _planned(
    header: list[Run], spans: list[tuple[str, Run]], file_size: int, config: ChunkerConfig
) -> Iterator[Run]:
    for part in _merged(header, config.header_part_bytes):
        yield from _equal(part, config.max_chunk_bytes)
    first = header[-1].end
    layer, group = "", Run(first, 0)
    for name, span in spans:
        fits = span.size < config.small_tensor_bytes
        if not fits or layer_of(name) != layer or group.size + span.size > config.group_bytes:
            if group.size:
                yield group
            layer, group = layer_of(name), Run(span.offset, 0)
        if fits:
            group = Run(group.offset, group.size + span.size)
        else:
            yield from _equal(span, config.max_chunk_bytes)
            group = Run(span.end, 0)
    if group.size:
        yield group
    yield from _fixed(Run(group.end, file_size - group.end), config.max_chunk_bytes)


def _header_parts(gguf: GGUF, end: int) -> Iterator[Run]:
    """The header up to ``end``, where tensors begin: what comes first, each entry, the tensor
    table, and the padding, whose length depends on everything before it."""
    position = 0
    for start, stop in (*gguf.entries.values(), gguf.table):
        if position < start:
            yield Run(position, start - position)
        if start < stop:
            yield Run(start, stop - start)
        position = max(position, stop)
    yield Run(position, end - position)


def _merged(parts: list[Run], limit: int) -> Iterator[Run]:
    """Parts of at least ``limit`` bytes as they are, and what lies between two of them as one."""
    between = Run(0, 0)
    for part in parts:
        if part.size < limit:
            between = Run(between.offset, between.size + part.size)
            continue
        if between.size:
            yield between
        yield part
        between = Run(part.end, 0)
    if between.size:
        yield between


def _gguf_spans(gguf: GGUF) -> Iterator[tuple[str, Run]]:
    """Each tensor with its padding, in file order; a longer gap is a span without a name."""
    ordered = sorted(gguf.tensors, key=lambda tensor: tensor.offset)
    for index, tensor in enumerate(ordered):
        following = ordered[index + 1].offset if index + 1 < len(ordered) else gguf.file_size
        end = min(following, _padded_end(tensor, gguf))
        yield tensor.name, Run(tensor.offset, end - tensor.offset)
        if end < following and index + 1 < len(ordered):
            yield "", Run(end, following - end)


def _padded_end(tensor: Tensor, gguf: GGUF) -> int:
    """The first byte after the tensor where another may begin."""
    inside = tensor.offset + tensor.size - gguf.data_offset
    return gguf.data_offset - (-inside // gguf.alignment) * gguf.alignment


def layer_of(name: str) -> str:
    """The layer of a tensor (``blk.7``), or the empty string where its name has no number."""
    found = _LAYER.match(name)
    return found.group() if found else ""


def _equal(run: Run, limit: int) -> Iterator[Run]:
    """As few pieces as ``limit`` allows, of equal size; the last takes what is left."""
    if run.size:
        pieces = -(-run.size // limit)
        yield from _fixed(run, -(-run.size // pieces))


def _fixed(run: Run, size: int) -> Iterator[Run]:
    for offset in range(run.offset, run.end, size):
        yield Run(offset, min(size, run.end - offset))


def scan(
    file: Path,
    runs: Sequence[Run],
    *,
    role: FileRole,
    path: str | None = None,
    variant: str = "",
    progress: Progress | None = None,
    sink: Sink | None = None,
) -> FileEntry:
    """Read the file once and name its chunks (BLAKE3) and itself (SHA-256).

    Memory is two chunk buffers: SHA-256, the slower hash, runs in a second thread behind.

    Args:
        runs: the plan; it covers the file.
        path: the file's path inside the revision; its own name by default.
        variant: the variant it belongs to, if to one.

    Raises:
        NameInvalidError: the path cannot be one.
        ConflictError: the file changed its size while it was read.
        SourceUnavailableError: the file cannot be read.
    """
    inside = file_path(path if path is not None else file.name)
    try:
        stream = file.open("rb", buffering=0)
    except OSError as error:
        raise SourceUnavailableError(f"cannot open {file}: {error.strerror}") from error
    with stream:
        refs, sha256 = _scan(stream, runs, inside, progress, sink)
    size = sum(ref.size for ref in refs)
    return FileEntry(
        path=inside, size=size, sha256=sha256, role=role, chunks=tuple(refs), variant=variant
    )


def _scan(
    stream: FileIO,
    runs: Sequence[Run],
    path: str,
    progress: Progress | None,
    sink: Sink | None,
) -> tuple[list[ChunkRef], str]:
    """The chunks in order, and the SHA-256 of the whole."""
    total = runs[-1].end if runs else 0
    sha256 = hashlib.sha256()
    refs: list[ChunkRef] = []
    done = 0
    with ThreadPoolExecutor(1, "sha256") as pool:
        behind: Future[None] | None = None
        for view in _views(stream, runs):
            chunk = Chunk.of(view)
            refs.append(ChunkRef(chunk.id, len(view)))
            if behind is not None:
                behind.result()  # keeps the hash in order, and frees the other buffer
            behind = pool.submit(sha256.update, view)
            if sink is not None:
                sink(chunk)
            done += len(view)
            if progress is not None:
                progress("scan", done, total)
        if behind is not None:
            behind.result()
    if stream.read(1):
        raise ConflictError(f"{path} grew beyond {done} B while it was read; publish it again")
    return refs, sha256.hexdigest()


def _views(stream: FileIO, runs: Sequence[Run]) -> Iterator[memoryview]:
    """The bytes of each run, in two buffers that take turns: the one before stays valid."""
    largest = max((run.size for run in runs), default=0)
    buffers = (bytearray(largest), bytearray(largest))
    for index, run in enumerate(runs):
        view = memoryview(buffers[index % 2])[: run.size]
        _fill(stream, view)
        yield view


def _fill(stream: FileIO, view: memoryview) -> None:
    filled = 0
    while filled < len(view):
        try:
            count = stream.readinto(view[filled:])
        except OSError as error:
            raise SourceUnavailableError(f"cannot read the file: {error.strerror}") from error
        if not count:
            raise ConflictError("the file shrank while it was read; publish it again")
        filled += count
