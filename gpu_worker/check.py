"""The second look at a model before an engine may load it.

The publisher has parsed the file and every byte was verified, but a worker trusts no other tier
with its engine: what an engine will parse is parsed here first, within bounds (threats 1 to 3).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wire.errors import GGUFInvalidError, NotFoundError
from wire.gguf import read_gguf
from wire.manifest import Manifest


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What an engine is given: the weights, or the first file of split ones; the size of all of
    them in bytes; which variant they are; and how many layers go to GPUs, -1 where nobody said."""

    path: Path
    size: int
    variant: str = ""
    gpu_layers: int = -1


def check_model(manifest: Manifest, folder: Path, variant: str = "") -> ModelFiles:
    """Parse every file of weights that an engine may see, within bounds. Blocking.

    Args:
        folder: where the revision stands.
        variant: the one that is there, where the revision has several. Its weights are loaded;
            weights that belong to all variants are checked with them.

    Raises:
        NotFoundError: the revision has no such weights.
        GGUFInvalidError: it must not be loaded; says why.
    """
    weights = [entry for entry in manifest.of_variant(variant) if entry.role == "weights"]
    loaded = [entry.path for entry in weights if entry.variant == variant]
    if not loaded:
        what = f"weights of variant {variant}" if variant else "weights"
        raise NotFoundError(f"revision of {manifest.model} has no {what}")
    for entry in weights:
        _check(folder / entry.path)
    return ModelFiles(folder / min(loaded), sum(entry.size for entry in weights), variant)


def _check(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            read_gguf(stream, path.stat().st_size)
    except OSError as error:
        raise GGUFInvalidError(f"cannot read {path.name}: {error.strerror}") from error
