"""What the files of a revision are, looked into and checked together before anything is hashed.

GGUF in parts is checked by its ``split.*`` keys (llama.cpp ``gguf-split``): complete, consistent,
one model. Several GGUF models of one revision are its variants; they share one tokenizer and one
template, because the edge reads one bundle for all of them. safetensors in parts are checked
against their index.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from origin.bundle import quantization
from origin.chunker import Layout
from origin.errors import DigestMismatchError, PublishError
from origin.offer import GGUF_SUFFIX, SAFETENSORS_SUFFIX, LocalFile, Part, part_of
from wire.bundle import CARD_PATH, TOKENIZER_PATH
from wire.errors import HeadwaterError
from wire.gguf import read_gguf
from wire.gguf_types import GGUF, Value
from wire.paths import file_path, variant_name
from wire.safetensors import (
    INDEX_SUFFIX,
    Safetensors,
    SafetensorsLimits,
    read_index,
    read_safetensors,
)

_COMPANION_TYPES = frozenset(("adapter", "imatrix", "mmproj", "vocab"))
"""``general.type`` of GGUF files that are no model by themselves."""
_QUANT = re.compile(
    r"(?:^|[-_.])((?:UD-)?(?:I?Q\d(?:_[A-Z0-9]+)*|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32))$",
    re.IGNORECASE,
)
"""The end of a file's name by which people know a variant."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that was looked into. ``size`` in bytes; ``layout``: None where it has no structure
    that chunks follow."""

    local: LocalFile
    size: int
    layout: Layout | None = None


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of a revision, in order of their paths, and the first model among them.

    ``model`` has the metadata of a model's first part and the tensors of all its parts; None where
    the revision holds no GGUF model. ``model_file`` is where that first part lies.
    """

    files: tuple[Inspected, ...]
    model: GGUF | None
    model_file: LocalFile | None

    @property
    def models(self) -> dict[str, tuple[Path, ...]]:
        """Where the parts of every GGUF model lie, in order, by its variant (empty where there is
        but one)."""
        if self.model is None:
            return {}
        parts: dict[str, tuple[Path, ...]] = {}
        for found in self.files:
            if found.local.role == "weights":
                variant = found.local.variant
                parts[variant] = (*parts.get(variant, ()), found.local.file)
        return parts


def inspect(files: Sequence[LocalFile]) -> FileSet:
    """Read every header, and check what belongs together.

    Where there is a GGUF model, the edge's own two files are made from it, so files that stand at
    their places are left out.

    Raises:
        GGUFInvalidError, SafetensorsInvalidError, NameInvalidError: a file must not be published.
        PublishError: nothing is offered, a file cannot be read, or the files do not fit together.
    """
    pool: dict[object, Value] = {}
    known = [_looked_into(local, pool) for local in sorted(files, key=lambda local: local.path)]
    for one, other in pairwise(known):
        if one.local.path == other.local.path:
            raise PublishError(f"{one.local.path} is offered twice")
    if not any(found.local.role == "weights" for found in known):
        raise PublishError("there are no weights to publish")
    _check_indexes(known)
    models = _models(known)
    if not models:
        return FileSet(tuple(known), None, None)
    _check_alike(models)
    variants = _variants(models)
    placed = (_placed(found, variants) for found in known if not _made_here(found.local.path))
    return FileSet(tuple(placed), models[0].merged, models[0].parts[0].local)


def check_announced(local: LocalFile, sha256: str) -> None:
    """Whether a file's digest is the one that its source announced, if it did.

    Raises:
        DigestMismatchError: it is another.
    """
    if local.sha256 and local.sha256 != sha256:
        raise DigestMismatchError(
            f"{local.path} has SHA-256 {sha256}; its source announced {local.sha256}"
        )


def _looked_into(local: LocalFile, pool: dict[object, Value]) -> Inspected:
    """``pool`` remembers large values, so that ten variants do not hold ten vocabularies."""
    path = file_path(local.path)
    try:
        size = local.file.stat().st_size
        with local.file.open("rb") as stream:
            layout = _layout(local, stream, size)
    except OSError as error:
        raise PublishError(f"cannot read {local.file}: {error.strerror}") from error
    except HeadwaterError as error:
        raise type(error)(f"{path}: {error.message}") from error
    if isinstance(layout, GGUF):
        layout = replace(layout, metadata=dict(_pooled(layout.metadata, pool)))
    return _as_companion(Inspected(local, size, layout))


def _pooled(
    metadata: Mapping[str, Value], pool: dict[object, Value]
) -> Iterator[tuple[str, Value]]:
    for key, value in metadata.items():
        if isinstance(value, tuple) and value:
            yield key, pool.setdefault((type(value[0]), value), value)
        else:
            yield key, value


def _layout(local: LocalFile, stream: BinaryIO, size: int) -> Layout | None:
    suffix = PurePosixPath(local.path).suffix.lower()
    if suffix == SAFETENSORS_SUFFIX:
        return read_safetensors(stream, size)
    if suffix == GGUF_SUFFIX or local.role == "weights":
        return read_gguf(stream, size)
    return None


def _as_companion(found: Inspected) -> Inspected:
    """A projector, an adapter and the like stand beside a model and are none."""
    layout = found.layout
    if not isinstance(layout, GGUF) or layout.integer("split.no", 0):
        return found
    kind = layout.metadata.get("general.type", "")
    if kind in _COMPANION_TYPES or layout.metadata.get("general.architecture") == "clip":
        return replace(found, local=replace(found.local, role="other", variant=""))
    return found


@dataclass(frozen=True, slots=True)
class _Model:
    """A GGUF model with all its parts, in order."""

    stem: str
    parts: tuple[Inspected, ...]
    merged: GGUF

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(part.local.path for part in self.parts)


def _models(known: Iterable[Inspected]) -> list[_Model]:
    """The GGUF models, in order of their paths."""
    whole: list[_Model] = []
    groups: dict[tuple[str, int], list[tuple[Part, Inspected, GGUF]]] = {}
    for found in known:
        layout, path = found.layout, found.local.path
        if not isinstance(layout, GGUF) or found.local.role != "weights":
            continue
        part = part_of(path)
        if part is not None:
            groups.setdefault((part.stem, part.count), []).append((part, found, layout))
            continue
        if layout.integer("split.count", 0) > 1:
            raise PublishError(
                f"{path} is a part of a split model; llama.cpp wants it named "
                "NAME-00001-of-00002.gguf, as it was when it was split"
            )
        stem = path.removesuffix(PurePosixPath(path).suffix)
        whole.append(_Model(stem, (found,), layout))
    joined = [_joined(stem, count, group) for (stem, count), group in groups.items()]
    return sorted((*whole, *joined), key=lambda model: model.paths)


def _joined(stem: str, count: int, group: list[tuple[Part, Inspected, GGUF]]) -> _Model:
    """One model of its parts, which are complete and say so themselves."""
    numbers = [part.number for part, _, _ in group]
    if numbers != list(range(1, count + 1)):
        raise PublishError(f"{stem} has {count} parts; offered are {numbers[:20]}")
    first = group[0][2]
    total = first.integer("split.tensors.count")
    for part, found, layout in group:
        told = (layout.integer("split.no"), layout.integer("split.count"))
        if told != (part.number - 1, count) or layout.integer("split.tensors.count") != total:
            raise PublishError(
                f"{found.local.path} says it is part {told[0] + 1} of {told[1]} with "
                f"{layout.integer('split.tensors.count')} tensors in all; the first part says "
                f"{total}, the name {part.number} of {count}"
            )
    tensors = tuple(tensor for _, _, layout in group for tensor in layout.tensors)
    if len(tensors) != total or len({tensor.name for tensor in tensors}) != total:
        raise PublishError(
            f"the parts of {stem} hold {len(tensors)} tensors, not {total} different"
        )
    parts = tuple(found for _, found, _ in group)
    return _Model(stem, parts, replace(first, tensors=tensors))


def _check_alike(models: Sequence[_Model]) -> None:
    """All variants have the first one's tokenizer, template and shape."""
    first = models[0]
    for other in models[1:]:
        key = _difference(first.merged, other.merged)
        if key:
            raise PublishError(
                f"{first.paths[0]} and {other.paths[0]} differ in {key}; the variants of one "
                "revision share their tokenizer and template: publish them as two models"
            )


def _difference(one: GGUF, other: GGUF) -> str:
    architecture = one.text("general.architecture")
    shared = {"general.architecture", f"{architecture}.context_length"}
    for gguf in (one, other):
        shared.update(key for key in gguf.metadata if key.startswith("tokenizer."))
    for key in sorted(shared):
        if one.metadata.get(key) != other.metadata.get(key):
            return key
    return ""


def _variants(models: Sequence[_Model]) -> dict[str, str]:
    """The variant of each GGUF file by its path: as told, else where there are several, by the end
    of the name, else by what the file says of itself."""
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for model in models:
        told = {part.local.variant for part in model.parts}
        if len(told) > 1:
            raise PublishError(f"the parts of {model.stem} are offered as different variants")
        name = told.pop() or (_variant(model) if len(models) > 1 else "")
        other = owners.setdefault(name, model.paths[0])
        if other != model.paths[0]:
            raise PublishError(
                f"{other} and {model.paths[0]} are both the variant {name or 'without a name'}; "
                "rename one of them"
            )
        names.update((path, variant_name(name) if name else "") for path in model.paths)
    return names


def _variant(model: _Model) -> str:
    found = _QUANT.search(PurePosixPath(model.stem).name)
    return found[1].upper() if found else quantization(model.merged)


def _placed(found: Inspected, variants: dict[str, str]) -> Inspected:
    """With its variant. Beside a GGUF model, weights of another format are for others to use: no
    worker loads them."""
    local = found.local
    if local.path in variants:
        return replace(found, local=replace(local, variant=variants[local.path]))
    if local.role == "weights":
        return replace(found, local=replace(local, role="other"))
    return found


def _made_here(path: str) -> bool:
    return path in (TOKENIZER_PATH, CARD_PATH)


def _check_indexes(known: Sequence[Inspected]) -> None:
    """safetensors in parts are complete, and hold what their index says."""
    by_path = {found.local.path: found for found in known}
    for path, found in by_path.items():
        if path.endswith(INDEX_SUFFIX):
            _check_index(found, by_path)
    for path in by_path:
        part = part_of(path)
        if part is not None and part.suffix == SAFETENSORS_SUFFIX:
            missing = next((name for name in part.names() if name not in by_path), None)
            if missing is not None:
                raise PublishError(f"{missing} is missing; {part.stem} has {part.count} parts")


def _check_index(index: Inspected, by_path: dict[str, Inspected]) -> None:
    path, limits = index.local.path, SafetensorsLimits()
    if index.size > limits.index_bytes:
        raise PublishError(f"{path} has {index.size} B; the limit is {limits.index_bytes} B")
    folder = PurePosixPath(path).parent
    wanted: dict[str, set[str]] = {}
    try:
        data = index.local.file.read_bytes()
    except OSError as error:
        raise PublishError(f"cannot read {index.local.file}: {error.strerror}") from error
    for tensor, name in read_index(data, limits).items():
        wanted.setdefault(str(folder / file_path(name)), set()).add(tensor)
    for name, tensors in wanted.items():
        found = by_path.get(name)
        if found is None or not isinstance(found.layout, Safetensors):
            raise PublishError(f"{path} names {name}, which is not among the files")
        if not tensors <= {tensor.name for tensor in found.layout.tensors}:
            raise PublishError(f"{path} names tensors that {name} does not hold")
