"""``headwater publish MODEL --quant A,B``: the variants of a file, and a report of what they save.

The variants are made in a work folder and found there again by a publish that is repeated. Chunks
that several variants share (norms, what stays unquantized) are stored once; the report counts them
by the chunk ids that the publish will use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from infra.perplexity import Perplexity, PerplexityConfig, perplexity
from infra.render import duration, pairs, size, table
from origin.offer import LocalFile
from origin.quantize.engines import ENGINES, Engine
from origin.quantize.kinds import quantizations
from origin.quantize.produce import Produced, QuantizeConfig, Weights, produce, read_source
from wire.chunk import ChunkId
from wire.paths import file_path

_FLOAT_SUFFIX = re.compile(r"[-_.](?:f16|fp16|bf16|f32|fp32)$", re.IGNORECASE)
_DEFAULT_CONTEXT_TOKENS = 512
Progress = Callable[[str, int, int], None]
"""Told of a step's name, what is done and the total in bytes; 0 of 0 where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizingConfig:
    """How variants are made and measured."""

    quantize: QuantizeConfig = field(default_factory=QuantizeConfig)
    measure: bool = True
    """Measure perplexity where an engine is installed."""
    perplexity: PerplexityConfig = field(default_factory=PerplexityConfig)


@dataclass(frozen=True, slots=True)
class VariantReport:
    """One variant beside its source. Sizes in bytes."""

    name: str
    path: str
    original_size: int
    size: int
    bits_per_weight: float
    engine: str
    seconds: float
    reused: bool
    perplexity: Perplexity

    @property
    def reduction(self) -> float:
        """The part of the original size that is saved, 0 to 1; below 0 where it grew."""
        return 1 - self.size / self.original_size

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "variant": self.name,
            "path": self.path,
            "original_size": self.original_size,
            "size": self.size,
            "reduction": self.reduction,
            "bits_per_weight": self.bits_per_weight,
            "engine": self.engine,
            "seconds": self.seconds,
            "reused": self.reused,
            **_measured(self.perplexity),
        }


@dataclass(frozen=True, slots=True)
class QuantizeReport:
    """What quantizing did. ``shared_bytes`` stand in several variants and are stored once."""

    original_size: int
    original_bits_per_weight: float
    original_perplexity: Perplexity
    variants: tuple[VariantReport, ...]
    shared_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "original": {
                "size": self.original_size,
                "bits_per_weight": self.original_bits_per_weight,
                **_measured(self.original_perplexity),
            },
            "variants": [variant.as_dict() for variant in self.variants],
            "shared_bytes": self.shared_bytes,
        }

    def show(self, console: Console) -> None:
        """For people."""
        original = (
            "original", size(self.original_size), "", f"{self.original_bits_per_weight:.2f}",
            _shown(self.original_perplexity), "",
        )  # fmt: skip
        rows = [
            (
                variant.name, size(variant.size), f"{variant.reduction:.0%}",
                f"{variant.bits_per_weight:.2f}", _shown(variant.perplexity),
                "reused" if variant.reused else duration(variant.seconds * 1e3),
            )
            for variant in self.variants
        ]  # fmt: skip
        columns = ("variant", "size", "smaller by", "bits/weight", "perplexity", "time")
        console.print(table(columns, [original, *rows], right=",".join(columns[1:])))
        about: dict[str, object] = {
            "made by": ", ".join(dict.fromkeys(variant.engine for variant in self.variants)),
            "shared by variants": f"{size(self.shared_bytes)}, stored once",
        }
        why = next((v.perplexity.why for v in self.variants if v.perplexity.why), "")
        console.print(pairs(about | ({"no perplexity": why} if why else {})))


@dataclass(frozen=True, slots=True)
class Quantization:
    """The variants, ready to be published in one revision, and what they cost."""

    files: tuple[LocalFile, ...]
    report: QuantizeReport


def quantized(
    file: LocalFile,
    types: Sequence[str],
    folder: Path,
    *,
    progress: Progress = lambda *_: None,
    engines: Sequence[Engine] = ENGINES,
    config: QuantizingConfig | None = None,
) -> Quantization:
    """Make variants of a model. Blocking; not for an event loop's thread.

    Args:
        file: an F32, F16 or BF16 model in GGUF, whole.
        types: ``Q4_K_M`` and the like (``origin.quantize.kinds``).
        folder: for work. The variants stand there as long as the publish needs them, and a repeated
            publish finds them; whoever gave the folder may remove it afterwards.
        progress: told of ``quantize Q4_K_M`` in bytes, and of ``perplexity Q4_K_M``.

    Raises:
        QuantizeError: the file, or a type, cannot be quantized; NoEngineError says what to install.
        GGUFInvalidError: the file is not GGUF.
    """
    config = config or QuantizingConfig()
    wanted = quantizations(types)
    source = read_source(file.file)
    made = [
        produce(source, quant, folder, engines=engines, config=config.quantize, progress=progress)
        for quant in wanted
    ]
    measured = [_measure(source, "original", config, progress)]
    measured += [_measure(one.weights, one.quant.name, config, progress) for one in made]
    files = tuple(
        LocalFile(
            file=one.weights.file,
            path=variant_path(file.path, one.quant.name),
            role="weights",
            variant=one.quant.name,
        )
        for one in made
    )
    variants = tuple(
        _reported(source, one, target.path, found)
        for one, target, found in zip(made, files, measured[1:], strict=True)
    )
    report = QuantizeReport(
        source.gguf.file_size,
        source.bits_per_weight,
        measured[0],
        variants,
        shared_bytes([one.weights for one in made]),
    )
    return Quantization(files, report)


def variant_path(path: str, variant: str) -> str:
    """Where a variant of ``path`` stands: ``model-f16.gguf`` becomes ``model-Q4_K_M.gguf``."""
    folder, slash, name = path.rpartition("/")
    stem = name.removesuffix(".gguf")
    return file_path(f"{folder}{slash}{_FLOAT_SUFFIX.sub('', stem)}-{variant}.gguf")


def shared_bytes(files: Sequence[Weights]) -> int:
    """Bytes that need not be stored, because another of the files has the same chunks."""
    sizes: dict[ChunkId, int] = {}
    total = 0
    for file in files:
        once = {ref.id: ref.size for ref in file.refs}
        total += sum(once.values())
        sizes |= once
    return total - sum(sizes.values())


def _measure(
    weights: Weights, name: str, config: QuantizingConfig, progress: Progress
) -> Perplexity:
    if not config.measure:
        return Perplexity(None, why="not asked for")
    progress(f"perplexity {name}", 0, 0)
    arch = weights.gguf.text("general.architecture", "")
    context = weights.gguf.integer(f"{arch}.context_length", _DEFAULT_CONTEXT_TOKENS)
    return perplexity(weights.file, context, config=config.perplexity)


def _reported(source: Weights, made: Produced, path: str, found: Perplexity) -> VariantReport:
    return VariantReport(
        name=made.quant.name,
        path=path,
        original_size=source.gguf.file_size,
        size=made.weights.gguf.file_size,
        bits_per_weight=made.weights.bits_per_weight,
        engine=made.engine,
        seconds=made.seconds,
        reused=made.reused,
        perplexity=found,
    )


def _measured(found: Perplexity) -> dict[str, Any]:
    return {
        "perplexity": found.value,
        "perplexity_tokens": found.tokens,
        **({"no_perplexity": found.why} if found.why else {}),
    }


def _shown(found: Perplexity) -> str:
    return "" if found.value is None else f"{found.value:.4g}"
