"""The second look at a model before an engine may load it.

The publisher has parsed the file and every byte was verified, but a worker trusts no other tier
with its engine: what an engine will parse is parsed here first, within bounds (threats 1 to 3).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from gpu_worker.check_folder import SAFETENSORS, check_folder
from wire.errors import GGUFInvalidError, NotFoundError
from wire.gguf import read_gguf
from wire.golden import GOLDEN_PATH, MAX_GOLDEN_BYTES, Expectations, GoldenInvalidError, decode
from wire.manifest import Manifest


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What an engine is given: the GGUF file, or the first one of a split model, or the folder of
    safetensors; the size of all weights in bytes; and which variant they are."""

    path: Path
    size: int
    variant: str = ""
    golden: Expectations | None = None
    """What the model must answer, where the revision says so."""


def check_model(manifest: Manifest, folder: Path, variant: str = "") -> ModelFiles:
    """Parse every file of weights that an engine may see, within bounds. Blocking.

    Args:
        folder: where the revision stands.
        variant: the one that is there, where the revision has several. Its weights are loaded;
            weights that belong to all variants are checked with them.

    Raises:
        NotFoundError: the revision has no such weights.
        GGUFInvalidError, SafetensorsInvalidError, GoldenInvalidError: it must not be loaded; says
            why.
    """
    weights = [entry for entry in manifest.of_variant(variant) if entry.role == "weights"]
    loaded = [entry.path for entry in weights if entry.variant == variant]
    if not loaded:
        what = f"weights of variant {variant}" if variant else "weights"
        raise NotFoundError(f"revision of {manifest.model} has no {what}")
    size = sum(entry.size for entry in weights)
    if all(path.endswith(SAFETENSORS) for path in loaded):
        path = check_folder(manifest, folder, variant)
        return ModelFiles(path, size, variant, read_golden(manifest, folder, variant))
    for entry in weights:
        check_gguf(folder / entry.path)
    golden = read_golden(manifest, folder, variant)
    return ModelFiles(folder / min(loaded), size, variant, golden)


def read_golden(manifest: Manifest, folder: Path, variant: str = "") -> Expectations | None:
    """What this variant must answer; None where the revision does not say. Blocking.

    It is read again from the disk, so it is proven again by the hash in the manifest.

    Raises:
        GoldenInvalidError: the file is not the one that was signed, or malformed.
    """
    entry = next((file for file in manifest.files if file.path == GOLDEN_PATH), None)
    if entry is None:
        return None
    try:
        with (folder / entry.path).open("rb") as stream:
            data = stream.read(MAX_GOLDEN_BYTES + 1)
    except OSError as error:
        raise GoldenInvalidError(f"cannot read {entry.path}: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise GoldenInvalidError(f"{entry.path} is not the file that the publisher signed")
    return decode(data).of_variant(variant)


def check_gguf(path: Path) -> None:
    """Parse the header of a GGUF. Raises ``GGUFInvalidError``."""
    try:
        with path.open("rb") as stream:
            read_gguf(stream, path.stat().st_size)
    except OSError as error:
        raise GGUFInvalidError(f"cannot read {path.name}: {error.strerror}") from error
