"""How the variants of a model fit a machine: of a file here, or of a published revision, of which
only the headers are fetched.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from gpu_worker.fit import Row
from gpu_worker.fit_needs import Ask, FitConfig
from gpu_worker.fit_rule import Choice, rank
from gpu_worker.hardware import Hardware
from gpu_worker.hardware_read import measure_ram_bandwidth
from gpu_worker.hardware_table import Preset, preset
from gpu_worker.judge import Judge, hardware_for, is_gguf_path, loaded_files
from gpu_worker.variants import ManifestOnce, candidates, read_header
from infra.render import pairs, short, size, table
from wire.errors import ConfigError, NotFoundError
from wire.gguf import GGUF, read_gguf
from wire.http_source import HttpSource
from wire.manifest import decode
from wire.sources.nearest import Nearest
from wire.threads import in_thread
from wire.trust_client import TrustClient, open_trust

THREADS = 4
_VARIANT = re.compile(r"(?i)(?:^|[-._])((?:I?Q|TQ)\d\w*|BF16|F16|F32|MXFP4\w*)(?=$|[-.])")
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")
_MAX_PARTS = 999


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The machine that is judged for, and its line of the table, where it is of it."""

    hardware: Hardware
    row: Preset | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """How every variant fits, and what boot would choose."""

    what: str
    place: Place
    ask: Ask
    rows: tuple[Row, ...]
    choice: Choice
    revision: str = ""
    fetched_bytes: int = 0
    """From sources, to know this."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        hardware = asdict(self.place.hardware)
        if self.place.row is not None:
            row = self.place.row
            hardware |= {"tflops": row.tflops, "watts": row.watts, "source": row.source}
        choice = asdict(self.choice)
        return {
            "model": self.what,
            "revision": self.revision,
            "fetched": self.fetched_bytes,
            "hardware": hardware,
            "ask": asdict(self.ask),
            "variants": [asdict(row) for row in self.rows],
            "choice": {**choice, "row": None if self.choice.row is None else choice["row"]},
        }

    def show(self, console: Console) -> None:
        """For people; fits 80 columns."""
        about: dict[str, object] = {"model": self.what}
        if self.revision:
            about["revision"] = short(self.revision)
        about |= describe(self.place)
        about["asked"] = f"{self.ask.slots} slots of {self.ask.context_tokens} tokens each"
        console.print(pairs(about))
        columns = ("variant", "weights", "KV", "other", "total", "fits", "layers", "tok/s")
        rows = [self._row(row) for row in self.rows]
        console.print(table(columns, rows, right="weights,KV,other,total,layers,tok/s"))
        for estimate in dict.fromkeys(e for row in self.rows for e in row.estimates):
            console.print(f"assumed: {estimate}", style="dim", markup=False)
        verdict = "boot would refuse" if self.choice.refused else "boot would take"
        what = "it" if self.choice.refused else self.choice.variant or "it"
        style = "red" if self.choice.refused else "green"
        console.print(Text(f"{verdict} {what}", style=style))
        console.print(self.choice.reason, markup=False)

    def _row(self, row: Row) -> Sequence[object]:
        taken = row.variant == self.choice.variant and not self.choice.refused
        name = Text(row.variant or "(one)", style="bold green" if taken else "")
        layers = f"{row.layers_on_gpu}/{row.layers}" if self.place.hardware.gpus else "-"
        sizes = (row.weights_bytes, row.kv_bytes, row.overhead_bytes, row.total_bytes)
        speed = _speed(row.tokens_per_s)
        return (name, *(size(count) for count in sizes), fits(row), layers, speed)


def fits(row: Row) -> str:
    """Where a variant would lie, in a word or two."""
    if row.where == "none":
        return f"{size(row.missing_bytes)} short"
    return {"gpu": "GPU", "memory": "memory", "partial": "GPU + CPU"}[row.where]


def describe(place: Place) -> dict[str, object]:
    """A machine in a line or two."""
    hardware = place.hardware
    lines: dict[str, object] = {"hardware": hardware.name}
    if hardware.gpus and not hardware.unified:
        memory = sum(gpu.memory_bytes for gpu in hardware.gpus)
        free = sum(gpu.free_bytes for gpu in hardware.gpus)
        count = f"{len(hardware.gpus)} x " if len(hardware.gpus) > 1 else ""
        lines["GPU memory"] = _memory(memory, free, hardware.gpus[0].bandwidth, count)
    lines["main memory"] = _memory(
        hardware.ram_bytes, hardware.ram_free_bytes, hardware.ram_bandwidth
    )
    if hardware.note:
        lines["note"] = hardware.note
    if place.row is not None:
        tflops = f"{place.row.tflops:g} TFLOPS (FP16), " if place.row.tflops else ""
        lines["by the table"] = f"{tflops}{place.row.watts} W; {place.row.source}"
    return lines


def place_for(config: FitConfig, *, ram_bytes: int = 0) -> Place:
    """The machine that the configuration names, else this one, with what copying shows of its
    memory. Blocking.

    Raises:
        ConfigError: no such machine is known, or it was asked to have other memory and is this one.
    """
    if config.hardware:
        row = preset(config.hardware)
        return Place(hardware=row.hardware(ram_bytes=ram_bytes), row=row)
    if ram_bytes:
        raise ConfigError("--ram goes with --hardware; this machine has the memory it has")
    hardware = hardware_for(config)
    if not hardware.ram_bandwidth:
        measured = measure_ram_bandwidth()
        hardware = replace(hardware, ram_bandwidth=measured, ram_reaches=1.0)
    return Place(hardware=hardware)


def fit_file(path: Path, place: Place, ask: Ask, config: FitConfig) -> Fitted:
    """A GGUF file, with its other parts where it is split. Blocking.

    Raises:
        NotFoundError: a file is not there, or cannot be read.
        GGUFInvalidError: one is no GGUF, or states what cannot be.
    """
    judge = Judge(hardware=place.hardware, ask=ask, config=config)
    match = _VARIANT.search(_PART.sub("", path.name).removesuffix(".gguf"))
    row = judge.row(match[1] if match else "", [_read(part) for part in parts(path)])
    choice = judge.choose([row])
    return Fitted(what=path.name, place=place, ask=ask, rows=(row,), choice=choice)


async def fit_model(
    model: str,
    channel: str,
    urls: Sequence[str],
    trust_root: Path,
    place: Place,
    ask: Ask,
    config: FitConfig,
    *,
    variant: str = "",
    token: str | None = None,
) -> Fitted:
    """What the signed channel names; of the weights only the headers are fetched.

    Raises:
        NotFoundError: nothing stands at the channel, or it has no GGUF.
        VariantUnknownError: the revision has no such variant.
        GGUFInvalidError: a header states what cannot be.
        HeadwaterError: as ``infra.pulling.pull_model``.
    """
    judge = Judge(hardware=place.hardware, ask=ask, config=config)
    with (
        tempfile.TemporaryDirectory(prefix="headwater-fit-") as folder,
        ThreadPoolExecutor(THREADS * max(1, len(urls)), thread_name_prefix="receive") as receivers,
    ):
        trust = open_trust(Path(folder), trust_root)
        members = [HttpSource(url, receivers, token=token) for url in dict.fromkeys(urls)]
        source = Nearest(members)
        try:
            view = await TrustClient(source, trust, members).refresh()
            revision = view.pointer(model, channel).revision
            view.require_revision(model, revision)
            rows = await _rows(revision, ManifestOnce(source), judge, receivers, variant)
        finally:
            await source.aclose()
    return Fitted(
        what=f"{model}@{channel}",
        place=place,
        ask=ask,
        rows=tuple(sorted(rows, key=lambda row: rank(row.variant, row.weights_bytes))),
        choice=judge.choose(rows, wanted=variant),
        revision=revision,
        fetched_bytes=sum(stats.bytes for stats in source.stats()),
    )


def parts(path: Path) -> list[Path]:
    """The file, or all parts of a split one, in order."""
    match = _PART.search(path.name)
    if match is None or not 0 < int(match[2]) <= _MAX_PARTS:
        return [path]
    stem = path.name[: match.start()]
    numbers = range(1, int(match[2]) + 1)
    return [path.with_name(f"{stem}-{number:05d}-of-{match[2]}.gguf") for number in numbers]


async def _rows(
    revision: str, source: ManifestOnce, judge: Judge, pool: ThreadPoolExecutor, variant: str
) -> list[Row]:
    blocking = partial(in_thread, pool)
    manifest = decode(await source.manifest(revision), revision)
    rows = []
    for name in candidates(manifest, variant):
        files = loaded_files(manifest, name)
        if not files:
            raise NotFoundError(f"{manifest.model} {name} has no GGUF; only GGUFs can be judged")
        headers = [await read_header(entry, source, blocking) for entry in files]
        rows.append(judge.row(name, headers))
    return rows


def _speed(tokens_per_s: float) -> str:
    """Three digits, and no exponent."""
    if not tokens_per_s:
        return "-"
    return f"{tokens_per_s:,.0f}" if tokens_per_s >= 100 else f"{tokens_per_s:.3g}"


def _memory(total: int, free: int, bandwidth: float, count: str = "") -> str:
    parts = [f"{count}{size(total)}"]
    if free < total:
        parts.append(f"{size(free)} free")
    if bandwidth:
        parts.append(f"{bandwidth / 1e9:,.0f} GB/s")
    return ", ".join(parts)


def _read(path: Path) -> GGUF:
    try:
        with path.open("rb") as stream:
            return read_gguf(stream, path.stat().st_size)
    except OSError as error:
        raise NotFoundError(f"cannot read {path}: {error.strerror}") from error


__all__ = ["Fitted", "Place", "fit_file", "fit_model", "is_gguf_path", "place_for"]
