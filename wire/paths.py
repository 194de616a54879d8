"""Names and URL paths that all tiers agree on.

Names come from the outside, so they are checked here, before they become part of a path, a key or
a header: no separators, no dots at the start, no percent signs, no control characters.
"""

from __future__ import annotations

import hashlib
import re

from wire.chunk import is_digest
from wire.errors import NameInvalidError
from wire.events import RESET_KEY

CHUNKS = "/artifacts/chunks"
MANIFESTS = "/artifacts/manifests"
FILES = "/artifacts/files"
CHANNELS = "/artifacts/channels"
TRUST = "/artifacts/trust"
TRUST_BUNDLE = "/artifacts/trust/bundle"
EVENTS = "/artifacts/events"
TAKEDOWNS = "/artifacts/takedowns"
ADMIN = "/admin"
CONSOLE = "/console"
HEALTHZ = "/healthz"
READYZ = "/readyz"
METRICS = "/metrics"
ASSETS = "/assets"
HEARTBEAT = "/internal/workers/heartbeat"
EDGE_REPORT = "/internal/edges/report"

DEFAULT_CHANNEL = "stable"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SEGMENT = re.compile(r"[A-Za-z0-9_~@(\[][A-Za-z0-9._+=@~()\[\], -]{0,254}")
"""Beside the usual also what routers of static sites put into names: ``[id].js``, ``(shop)``."""
MAX_FILE_PATH = 512
"""Characters in the path of a file inside a revision."""


def model_name(text: str) -> str:
    """Check a model's name: letters, digits, dot, dash, underscore; at most 96; no ``..``."""
    return _checked(text, "model")


def channel_name(text: str) -> str:
    """Check a channel's name; same form as a model's."""
    return _checked(text, "channel")


def variant_name(text: str) -> str:
    """Check a variant's name (``Q4_K_M``); same form as a model's."""
    return _checked(text, "variant")


def revision_id(text: str) -> str:
    """Check a revision: the SHA-256 of its manifest, 64 lower-case hexadecimal digits."""
    if not is_digest(text):
        raise NameInvalidError("a revision is 64 lower-case hexadecimal digits (SHA-256)")
    return text


def file_path(text: str) -> str:
    """Check the path of a file inside a revision: relative, ``/``-separated, cannot climb.

    Raises:
        NameInvalidError: absolute, empty segment, ``.`` or ``..``, backslash, NUL, percent, or
            longer than ``MAX_FILE_PATH``.
    """
    segments = text.split("/")
    if len(text) > MAX_FILE_PATH or not all(
        _SEGMENT.fullmatch(s) and ".." not in s for s in segments
    ):
        raise NameInvalidError(
            "a file path is relative, of segments of letters, digits, space and . _ + = @ ~ ( ) "
            "[ ] , - without two dots in a row"
        )
    return text


def model_at_channel(text: str) -> tuple[str, str]:
    """Split ``MODEL[@CHANNEL]`` and check both; the channel is ``stable`` where none is given."""
    model, _, channel = text.partition("@")
    return model_name(model), channel_name(channel or DEFAULT_CHANNEL)


def chunk_path(chunk: str) -> str:
    return f"{CHUNKS}/{chunk}"


def manifest_path(revision: str) -> str:
    return f"{MANIFESTS}/{revision}"


def channel_path(model: str, channel: str) -> str:
    return f"{CHANNELS}/{model}/{channel}"


def channel_key(model: str, channel: str) -> str:
    """The surrogate key under which caches file a channel's pointer."""
    return f"channel:{model}@{channel}"


def revision_key(revision: str) -> str:
    """The surrogate key of a revision's manifest and files."""
    return f"revision:{revision}"


def edge_tag(key: str) -> str:
    """A surrogate key as an Akamai cache tag, which may hold neither ``:`` nor ``@``, and has at
    most 128 characters: a longer one is told by its hash. Tags know no pattern, so the key that
    stands for all is the tag that every answer has."""
    if key == RESET_KEY:
        return ALL_TAG
    tag = key.replace(":", "~").replace("@", "~")
    if len(tag) <= MAX_EDGE_TAG:
        return tag
    # No name begins with a tilde, so this is no other key's tag.
    return f"{tag.partition('~')[0]}~~{hashlib.sha256(key.encode()).hexdigest()}"


def edge_tags(*keys: str) -> str:
    """The value of ``Edge-Cache-Tag``."""
    return ",".join((*map(edge_tag, keys), ALL_TAG))


ALL_TAG = "headwater"
"""The Akamai cache tag of everything that is tagged."""
MAX_EDGE_TAG = 128
"""Characters; what has a longer one cannot be purged."""
TRUST_KEY = "trust"
"""The surrogate key of all trust metadata."""


def _checked(text: str, what: str) -> str:
    if not _NAME.fullmatch(text) or ".." in text:
        raise NameInvalidError(
            f"a {what} name starts with a letter or digit and holds only letters, digits, "
            "dot, dash and underscore (at most 96 characters)"
        )
    return text
