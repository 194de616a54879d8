"""The second look at a folder of safetensors before an engine may load it.

An engine that is given a folder reads what it finds there, so every file is looked at: headers of
weights within bounds, the index against them, ``config.json``, and nothing that could run code. A
publisher refuses the same, but a worker trusts no other tier with its engine.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from wire.errors import NotFoundError, SafetensorsInvalidError
from wire.manifest import FileEntry, Manifest
from wire.safetensors import INDEX_SUFFIX, SafetensorsLimits, read_index, read_safetensors

SAFETENSORS = ".safetensors"
CONFIG = "config.json"
MAX_CONFIG_BYTES = 4 * 1024 * 1024
RUNS_CODE = (".py", ".pyc", ".so", ".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
"""Scripts, libraries and pickles."""
_LIMITS = SafetensorsLimits()


def check_folder(manifest: Manifest, folder: Path, variant: str) -> Path:
    """The folder that an engine is given. Blocking.

    Raises:
        NotFoundError: it has no ``config.json``.
        SafetensorsInvalidError: it must not be loaded; says why.
    """
    files = manifest.of_variant(variant)
    for entry in files:
        if entry.path.lower().endswith(RUNS_CODE):
            raise _refused(f"{entry.path} could run code; an engine is not shown it")
    tensors: dict[str, str] = {}
    weights = [entry for entry in files if entry.role == "weights"]
    for entry in weights:
        tensors |= dict.fromkeys(_names(folder / entry.path), entry.path)
    inner = PurePosixPath(min(entry.path for entry in weights)).parent
    for entry in files:
        if entry.path.endswith(INDEX_SUFFIX):
            _check_index(entry, _read(folder, entry, _LIMITS.index_bytes), tensors)
    _check_config(files, folder, inner)
    return folder / inner


def _names(path: Path) -> list[str]:
    """The tensors of one file, whose header is sound."""
    try:
        with path.open("rb") as stream:
            found = read_safetensors(stream, path.stat().st_size, _LIMITS)
    except OSError as error:
        raise _refused(f"cannot read {path.name}: {error.strerror}") from error
    return [tensor.name for tensor in found.tensors]


def _check_index(entry: FileEntry, data: bytes, tensors: dict[str, str]) -> None:
    """Every tensor that an index names is in the file that it names."""
    beside = PurePosixPath(entry.path).parent
    for tensor, name in read_index(data, _LIMITS).items():
        if tensors.get(tensor) != str(beside / name):
            raise _refused(f"{entry.path} names {name[:80]!r} for a tensor that it does not hold")


def _check_config(files: tuple[FileEntry, ...], folder: Path, inner: PurePosixPath) -> None:
    """It is there, and an object. Code of its own that it may name is not there, nor looked for."""
    entry = next((found for found in files if found.path == str(inner / CONFIG)), None)
    if entry is None:
        raise NotFoundError(f"there is no {inner / CONFIG}; an engine needs it beside safetensors")
    try:
        msgspec.json.decode(_read(folder, entry, MAX_CONFIG_BYTES), type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refused(f"{entry.path} is malformed: {error}") from error


def _read(folder: Path, entry: FileEntry, limit: int) -> bytes:
    if entry.size > limit:
        raise _refused(f"{entry.path} has {entry.size} B; at most {limit} B are read")
    try:
        return (folder / entry.path).read_bytes()
    except OSError as error:
        raise _refused(f"cannot read {entry.path}: {error.strerror}") from error


def _refused(reason: str) -> SafetensorsInvalidError:
    return SafetensorsInvalidError(f"refused: {reason}")
