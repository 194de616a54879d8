"""One quantized file from one source file: made once, checked, and found again after a restart.

Everything stands in a work folder, below the source's own digest: ``Q4_K_M.gguf`` appears by one
rename when it is whole, and ``Q4_K_M.json`` beside it says what it was made by and its digest. A
file is used again only where that digest still holds.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from origin.chunker import plan
from origin.quantize.engines import ENGINES, Engine, Task, no_engine
from origin.quantize.errors import NoEngineError, QuantizeError
from origin.quantize.kinds import Quantization
from origin.quantize.layout import FILE_TYPE, QUANTIZATION_VERSION
from origin.quantize.process import ProcessLimits
from origin.quantize.rules import FLOAT_TYPES
from wire.chunk import hash_chunk
from wire.errors import GGUFInvalidError
from wire.gguf import read_gguf
from wire.gguf_types import GGUF
from wire.manifest import ChunkRef

_RENEWED = frozenset({FILE_TYPE, QUANTIZATION_VERSION})
_SPLIT_COUNT = "split.count"
Progress = Callable[[str, int, int], None]
"""Told of a step's name, what is done and the total, both in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeConfig:
    """How to quantize."""

    threads: int = 0
    """0: the cores that we may use."""
    limits: ProcessLimits = field(default_factory=ProcessLimits)
    """Of each engine's process."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A whole GGUF file: its layout, and its chunks as a publish will cut them."""

    file: Path
    gguf: GGUF
    refs: tuple[ChunkRef, ...]

    @property
    def digest(self) -> str:
        """Names the file's bytes."""
        return hash_chunk("".join(ref.id for ref in self.refs).encode())

    @property
    def bits_per_weight(self) -> float:
        """Bits of tensor data for each number in it."""
        stored = sum(tensor.size for tensor in self.gguf.tensors)
        return 8 * stored / max(self.gguf.parameters, 1)


@dataclass(frozen=True, slots=True)
class Produced:
    """A quantized file."""

    quant: Quantization
    weights: Weights
    engine: str
    seconds: float
    """That the engine took, when it took them."""
    reused: bool
    """It was here already."""


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What stands beside a whole file."""

    engine: str
    digest: str
    seconds: float


def read_source(file: Path) -> Weights:
    """A file that can be quantized, read once.

    Raises:
        GGUFInvalidError: it is not GGUF.
        QuantizeError: it is quantized already, a part of a split file, or cannot be read.
    """
    weights = _read(file)
    kinds = {tensor.type.name for tensor in weights.gguf.tensors}
    blocks = sorted({t.type.name for t in weights.gguf.tensors if t.type.block_items > 1})
    if blocks:
        raise QuantizeError(
            f"{file.name} holds {', '.join(blocks)} tensors; only F32, F16 and BF16 models are "
            "quantized, because twice is worse than once"
        )
    if not kinds & FLOAT_TYPES:
        raise QuantizeError(f"{file.name} has no F32, F16 or BF16 tensors")
    if weights.gguf.integer(_SPLIT_COUNT, 1) > 1:
        raise QuantizeError(
            f"{file.name} is a part of a split model; merge it with llama-gguf-split --merge"
        )
    return weights


def produce(
    source: Weights,
    quant: Quantization,
    folder: Path,
    *,
    engines: Sequence[Engine] = ENGINES,
    config: QuantizeConfig | None = None,
    progress: Progress = lambda *_: None,
) -> Produced:
    """Quantize a source that :func:`read_source` gave, or find what an earlier call made.

    Args:
        folder: for work; what is made stays there.
        engines: the first that makes the type is used.

    Raises:
        NoEngineError: none does.
        QuantizeError: it failed, or what it wrote is not the source's model.
    """
    able = [engine for engine in engines if engine.makes(quant)]
    here = folder / source.digest[:32]
    with _locked(here):
        for engine in able:
            if found := _find(source, quant, here, engine.name):
                return found
            try:
                return _make(source, quant, here, engine, config or QuantizeConfig(), progress)
            except NoEngineError:
                continue
    raise no_engine(quant)


def _make(
    source: Weights,
    quant: Quantization,
    folder: Path,
    engine: Engine,
    config: QuantizeConfig,
    progress: Progress,
) -> Produced:
    part = folder / f".{quant.name}.part"
    step = f"quantize {quant.name}"
    threads = config.threads or _cores()
    started = time.monotonic()
    try:
        engine.run(
            Task(
                source=source.file, target=part, quant=quant, threads=threads, limits=config.limits
            ),
            lambda done, total: progress(step, done, total),
        )
        seconds = time.monotonic() - started
        made = _read(part)
        _check_same_model(source.gguf, made.gguf, quant)
        weights = Weights(folder / f"{quant.name}.gguf", made.gguf, made.refs)
        record = _Record(engine=engine.name, digest=weights.digest, seconds=seconds)
        _keep(part, weights.file, record)
    except OSError as error:
        raise QuantizeError(f"cannot write to {folder}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return Produced(quant, weights, engine.name, seconds, reused=False)


def _find(source: Weights, quant: Quantization, folder: Path, engine: str) -> Produced | None:
    """The file of an earlier call, where it is whole and by the same engine."""
    file = folder / f"{quant.name}.gguf"
    try:
        record = msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=_Record)
        weights = _read(file) if record.engine == engine else None
    except (OSError, msgspec.DecodeError, QuantizeError, GGUFInvalidError):
        return None
    if weights is None or weights.digest != record.digest:
        return None
    _check_same_model(source.gguf, weights.gguf, quant)
    return Produced(quant, weights, engine, record.seconds, reused=True)


def _keep(part: Path, file: Path, record: _Record) -> None:
    """Flush the file and put it in its place; the record follows."""
    with part.open("rb") as stream:
        os.fsync(stream.fileno())
    file.with_suffix(".json").unlink(missing_ok=True)
    part.replace(file)
    file.with_suffix(".json").write_bytes(msgspec.json.encode(record))


def _read(file: Path) -> Weights:
    try:
        with file.open("rb") as stream:
            gguf = read_gguf(stream, file.stat().st_size)
            refs = []
            for run in plan(gguf, gguf.file_size):
                data = os.pread(stream.fileno(), run.size, run.offset)
                if len(data) != run.size:
                    raise QuantizeError(f"{file.name} shrank while it was read")
                refs.append(ChunkRef(hash_chunk(data), run.size))
    except OSError as error:
        raise QuantizeError(f"cannot read {file}: {error.strerror}") from error
    return Weights(file, gguf, tuple(refs))


def _check_same_model(source: GGUF, made: GGUF, quant: Quantization) -> None:
    """Whatever wrote the file: it has the source's tensors and metadata, and the asked type."""
    if {t.name: t.dims for t in source.tensors} != {t.name: t.dims for t in made.tensors}:
        raise QuantizeError(f"the {quant.name} file has other tensors than its source")
    changed = [
        key
        for key, value in source.metadata.items()
        if key not in _RENEWED and repr(made.metadata.get(key)) != repr(value)
    ]
    if changed:
        raise QuantizeError(f"the {quant.name} file has another {changed[0][:80]!r}")
    if made.integer(FILE_TYPE, -1) != quant.file_type:
        raise QuantizeError(f"the file made as {quant.name} says that it is something else")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder, for us alone: who comes second waits, and then finds what the first has made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("wb")
    except OSError as error:
        raise QuantizeError(f"cannot work in {folder}: {error.strerror}") from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
