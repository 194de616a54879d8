"""What a publisher offers: files on this disk, and where they will stand in the revision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wire.manifest import FileRole


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalFile:
    """A file to publish."""

    file: Path
    """Where it is now."""
    path: str
    """Its path inside the revision (``wire.paths.file_path``)."""
    role: FileRole = "weights"
    variant: str = ""
    """The variant of the weights it belongs to (``Q4_K_M``); empty: it belongs to all."""
