"""A machine and what is asked of it: judges the variants of a revision, one header at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gpu_worker.engines.llamacpp import LlamaCppConfig
from gpu_worker.fit import Row, fit_row
from gpu_worker.fit_needs import Ask, FitConfig, check_ask, check_config
from gpu_worker.fit_rule import Choice, choose
from gpu_worker.hardware import Hardware
from gpu_worker.hardware_read import read_hardware
from gpu_worker.hardware_table import preset
from gpu_worker.model_shape import model_shape
from gpu_worker.offload import engine_offloads
from wire.chunk import Buffer
from wire.errors import GGUFTruncatedError
from wire.gguf import GGUF, read_gguf
from wire.manifest import FileEntry, Manifest

_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)")
GGUF_SUFFIX = ".gguf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Says how a variant would fit.

    ``hardware`` is read once, before an engine of ours takes any of it: a new revision is judged as
    if the old one had made room.
    """

    hardware: Hardware
    ask: Ask = field(default_factory=Ask)
    config: FitConfig = field(default_factory=FitConfig)

    def __post_init__(self) -> None:
        check_ask(self.ask)
        check_config(self.config)

    def row(self, variant: str, headers: Sequence[GGUF]) -> Row:
        """One variant, by the headers of its files.

        Raises:
            GGUFInvalidError: they state what cannot be.
        """
        return fit_row(variant, model_shape(headers), self.hardware, self.ask, self.config)

    def choose(self, rows: Sequence[Row], *, wanted: str = "") -> Choice:
        """The variant to take of these, which are at least one (``gpu_worker.fit_rule``)."""
        return choose(rows, self.hardware, self.ask, wanted=wanted)


def hardware_for(
    config: FitConfig,
    *,
    read: Callable[[], Hardware] = read_hardware,
    offloads: Callable[[], bool] = engine_offloads,
) -> Hardware:
    """The machine that the configuration names, else this one; without its GPUs where no engine
    here can use them. Blocking.

    Raises:
        ConfigError: no such machine is known.
    """
    if config.hardware:
        return preset(config.hardware).hardware()
    found = read()
    if not found.gpus or config.use_gpu != "auto" or offloads():
        return found
    note = (
        f"{found.gpus[0].name} is not used: llama.cpp here is built without GPU support; install a "
        "build that has it, or put its llama-server on the PATH"
    )
    return replace(found.without_gpus(), note=note)


def ask_of(engine: LlamaCppConfig) -> Ask:
    """What an engine with this configuration would ask of a model."""
    return Ask(
        context_tokens=engine.context_tokens,
        slots=engine.slots,
        batch_tokens=engine.batch_tokens,
        prompt_cache_bytes=engine.prompt_cache_mib << 20,
        gpu_layers=engine.gpu_layers,
    )


def loaded_files(manifest: Manifest, variant: str) -> tuple[FileEntry, ...]:
    """The GGUF files that an engine would load of a variant: the first, and the other parts where
    it is a split one; none where the weights are no GGUF."""
    found = {
        entry.path: entry
        for entry in manifest.files
        if entry.role == "weights" and entry.variant == variant and is_gguf_path(entry.path)
    }
    if not found:
        return ()
    first = min(found)
    model = _PART.sub("", first)
    parts = sorted(path for path in found if path == first or _PART.sub("", path) == model)
    return tuple(found[path] for path in parts)


def is_gguf_path(path: str) -> bool:
    return path.lower().endswith(GGUF_SUFFIX)


class HeaderSoFar:
    """The beginning of a file, until it holds the whole header. Sans-IO.

    Args:
        size: of the whole file, in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._data = bytearray()

    def feed(self, *parts: Buffer) -> GGUF | None:
        """Add the next bytes; the header, once they hold all of it.

        Raises:
            GGUFInvalidError: what is here is no beginning of a header within the limits.
        """
        for part in parts:
            self._data += part
        try:
            return read_gguf(self._read, self._size)
        except GGUFTruncatedError:
            return None

    def _read(self, offset: int, length: int) -> bytes:
        return bytes(self._data[offset : offset + length])
