"""The page's files: read once, from the folder that ships with this package, and nothing else.

What may be asked for is a table made at the start, so no path from outside is ever opened.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from wire.errors import ConfigError

STATIC = Path(__file__).with_name("static")
INDEX = "index.html"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
}
_MAX_FILE_BYTES = 1024 * 1024
_MIN_ZIPPED_BYTES = 512
_PAGE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Frame-Options": "DENY",
}
ALWAYS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Headers of everything below ``/console``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A file of the page, as it is sent."""

    body: bytes
    zipped: bytes
    """With gzip; empty where that is not worth it."""
    etag: str
    headers: dict[str, str]


def read_assets(folder: Path = STATIC) -> dict[str, Asset]:
    """Name → file; nothing where the page was not installed, which an origin can do without.

    Raises:
        ConfigError: a file cannot be read, or is of no kind that the page has.
    """
    try:
        files = sorted(path for path in folder.glob("*") if path.is_file())
        return {path.name: _asset(path) for path in files}
    except OSError as error:
        raise ConfigError(f"cannot read the console's files: {error}") from error


def _asset(path: Path) -> Asset:
    body = path.read_bytes()
    kind = _TYPES.get(path.suffix)
    if kind is None or len(body) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path} is no file of the console's page")
    zipped = gzip.compress(body, mtime=0) if len(body) >= _MIN_ZIPPED_BYTES else b""
    # Asked for anew each time, answered with 304: a page and its scripts are of one version.
    headers = {"Content-Type": kind, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if path.suffix in {".html", ".svg"}:
        headers |= _PAGE
    return Asset(
        body=body,
        zipped=zipped if len(zipped) < len(body) else b"",
        etag=sha256(body).hexdigest()[:32],
        headers=headers,
    )
