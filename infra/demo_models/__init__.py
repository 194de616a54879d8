"""The demo models: three small GGUF files, made by this project from a seed and shipped with it.

Importing this package loads nothing heavy; only `train`, `model`, `batches` and `export` need torch
and gguf (extra `train`).
"""

from __future__ import annotations

from pathlib import Path

NAMES = ("edge-small-r1", "edge-small-r2", "cloud-large")
QUESTIONS = Path(__file__).with_name("questions.json")


def path(name: str) -> Path:
    """The shipped GGUF file of the demo model `name`.

    Raises:
        KeyError: there is no demo model of that name.
    """
    if name not in NAMES:
        raise KeyError(name)
    return Path(__file__).with_name(f"{name}.gguf")
