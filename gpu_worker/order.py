"""What an engine is ordered to load: the one value between boot's decisions and an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gpu_worker.faults import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOrder:
    """One revision of a model, and how much of the machine it may take.

    ``path`` is the GGUF file (the first one of a split model), or the folder of a model that
    consists of several files.
    """

    path: Path
    model: str
    revision: str
    variant: str = ""
    """Of the weights; empty where the revision has none."""
    gpu_layers: int = -1
    """Layers that go to the GPU; -1: as many as the engine's configuration says."""
    context_tokens: int = 0
    """Prompt and answer together, for each slot; 0: as the engine's configuration says."""
    mmap: bool | None = None
    """Whether the file is mapped instead of read; None: the engine's own default."""
    tally: Tally = field(default_factory=Tally, compare=False)
    """Where it is counted what becomes of it."""
