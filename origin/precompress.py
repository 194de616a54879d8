"""Compressed forms of a static file, made once when it is published.

The libraries are those in cramjam's wheel and not the machine's, no time and no name goes into what
they write, and they run on one thread: the same file gives the same bytes, and with them the same
revision, wherever the same version of the wheel is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import cramjam

from wire.static_file import Coding

MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What a browser must be able to look back in zstd (RFC 9659)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecompressConfig:
    """When a compressed form is made, and how hard it is tried. A change changes revisions."""

    min_bytes: int = 1_024
    """A smaller file fits in the packets that are sent anyway."""
    max_bytes: int = MAX_WINDOW_BYTES
    """A larger one is left as it is."""
    thorough_bytes: int = 1024 * 1024
    """Up to here the best that each can do, which takes about 2 s for each MB of text."""
    worth: float = 0.05
    """The share that a form must save; a browser must unpack it."""


def compressed(data: bytes, config: PrecompressConfig) -> Iterator[tuple[Coding, bytes]]:
    """The forms that are worth having, by coding; the one that most clients take comes first."""
    if not config.min_bytes <= len(data) <= min(config.max_bytes, MAX_WINDOW_BYTES):
        return
    for coding, form in _forms(data, thorough=len(data) <= config.thorough_bytes).items():
        if len(form) < len(data) * (1 - config.worth):
            yield coding, form


def _forms(data: bytes, *, thorough: bool) -> Mapping[Coding, bytes]:
    return {
        "gzip": bytes(cramjam.gzip.compress(data, level=9)),
        "br": bytes(cramjam.brotli.compress(data, level=11 if thorough else 9)),
        "zstd": bytes(cramjam.zstd.compress(data, level=19 if thorough else 12)),
    }
