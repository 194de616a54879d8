"""Media types of a static site's files, by the ends of their names. Pure.

The table is ours and not the machine's: a revision must not depend on where it was published. What
it does not know is bytes, which browsers offer to save (they are told not to guess).
"""

from __future__ import annotations

from pathlib import PurePosixPath

UNKNOWN = "application/octet-stream"
_TEXT = "; charset=utf-8"
"""The only charset: a site in another one says so nowhere that could be believed."""

_TYPES = {
    # Documents and what they are made of
    ".html": "text/html" + _TEXT,
    ".htm": "text/html" + _TEXT,
    ".xhtml": "application/xhtml+xml",
    ".css": "text/css" + _TEXT,
    ".js": "text/javascript" + _TEXT,
    ".mjs": "text/javascript" + _TEXT,
    ".cjs": "text/javascript" + _TEXT,
    ".map": "application/json",
    ".json": "application/json",
    ".jsonld": "application/ld+json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    ".xml": "application/xml",
    ".atom": "application/atom+xml",
    ".rss": "application/rss+xml",
    ".xsl": "application/xslt+xml",
    ".txt": "text/plain" + _TEXT,
    ".md": "text/markdown" + _TEXT,
    ".csv": "text/csv" + _TEXT,
    ".ics": "text/calendar" + _TEXT,
    ".vtt": "text/vtt" + _TEXT,
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".geojson": "application/geo+json",
    ".glsl": "text/plain" + _TEXT,
    # Pictures
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".apng": "image/apng",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".ico": "image/vnd.microsoft.icon",
    ".bmp": "image/bmp",
    # Sound and moving pictures
    ".mp3": "audio/mpeg",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".ogv": "video/ogg",
    # Fonts
    ".woff2": "font/woff2",
    ".woff": "font/woff",
    ".ttf": "font/ttf",
    ".otf": "font/otf",
    ".eot": "application/vnd.ms-fontobject",
    # What is saved
    ".pdf": "application/pdf",
    ".zip": "application/zip",
    ".gz": "application/gzip",
    ".tgz": "application/gzip",
    ".br": UNKNOWN,
    ".zst": "application/zstd",
    ".tar": "application/x-tar",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".onnx": UNKNOWN,
}
_PACKED = frozenset(
    ("application/gzip", "application/pdf", "application/zip", "application/zstd", UNKNOWN)
)
_UNPACKED = frozenset(
    ("font/ttf", "font/otf", "image/bmp", "image/svg+xml", "image/vnd.microsoft.icon")
)


def media_type(path: str) -> str:
    """The media type of a file, by its name."""
    return _TYPES.get(PurePosixPath(path).suffix.lower(), UNKNOWN)


def is_compressible(type_: str) -> bool:
    """Whether it is worth trying to compress content of this media type."""
    essence = type_.partition(";")[0]
    kind = essence.partition("/")[0]
    return essence in _UNPACKED or (
        kind in ("text", "application", "model") and essence not in _PACKED
    )


def is_document(type_: str) -> bool:
    """Whether a browser shows it as a page of its own, whose address people keep."""
    return type_.partition(";")[0] in ("text/html", "application/xhtml+xml")
