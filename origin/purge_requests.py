"""What is said to a cache about surrogate keys, in each of the styles. Pure.

A key is checked before it gets here (``wire.paths``), and once more: what is not of a key's form
becomes no header, path or pattern.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from origin.purge_config import AkamaiNetwork, PurgeStyle
from wire.events import RESET_KEY
from wire.paths import (
    TAKEDOWNS,
    TRUST,
    TRUST_BUNDLE,
    TRUST_KEY,
    channel_path,
    chunk_path,
    edge_tag,
    manifest_path,
)

KEYS_A_BAN = 32
"""Keys in one header: about 2.3 KB, where caches take 8 KB."""
KEYS_A_WEBHOOK = 500
TAGS_A_PURGE = 250
"""Tags in one Fast Purge. Of the longest that is 33 kB, where Akamai takes 50,000 bytes; and where
its 5,000 tags at once are used up, 500 new ones a minute let such a request pass every 30 s."""
ROOT_VERSIONS = 16
"""Generations of root that clients may still have; each asks for a bundle of its own."""
BAN_HEADER = "Headwater-Purge"
REFRESH_HEADER = "Headwater-Refresh"
HARD_HEADER = "Headwater-Hard"
SECRET_HEADER = "Headwater-Purge-Secret"  # noqa: S105 - a name, no secret
TIMESTAMP_HEADER = "Headwater-Timestamp"
SIGNATURE_HEADER = "Headwater-Signature"
_KEY = re.compile(r"\*|trust|(?:chunk|revision|channel):[A-Za-z0-9][A-Za-z0-9._@-]{0,220}")


@dataclass(frozen=True, slots=True)
class PurgeRequest:
    """A request to a cache, and the keys that it settles."""

    method: str
    path: str
    """Path and query; empty: that of the target itself."""
    keys: tuple[str, ...]
    headers: Mapping[str, str] = field(repr=False)
    """Hold the secret."""
    body: bytes = b""

    @property
    def needs_bypass(self) -> bool:
        """Whether the answer has to say that it came past the cache."""
        return REFRESH_HEADER in self.headers


def requests_for(
    style: PurgeStyle,
    wants: Mapping[str, bool],
    *,
    secret: str,
    root_version: int,
    now_s: float,
    network: AkamaiNetwork = "production",
) -> list[PurgeRequest]:
    """The requests that tell a cache of these keys. Those to Akamai are signed when they are sent,
    for a signature is good for half a minute (``origin.edgegrid``).

    Args:
        wants: key to whether it was taken down (hard).
        root_version: the newest root; what older clients ask for depends on it.
        now_s: seconds since 1970, for the signature.
        network: of Akamai's.
    """
    known = {key: hard for key, hard in wants.items() if _KEY.fullmatch(key)}
    if style == "varnish":
        return [_ban(keys, secret) for keys in _runs(list(known), KEYS_A_BAN)]
    if style == "nginx":
        return [
            _refresh(path, key, hard, secret)
            for key, hard in known.items()
            for path in paths_of(key, root_version)
        ]
    most = TAGS_A_PURGE if style == "akamai" else KEYS_A_WEBHOOK
    alike = [
        (keys, hard)
        for hard in (True, False)
        for keys in _runs([key for key, is_hard in known.items() if is_hard == hard], most)
    ]
    if style == "akamai":
        return [_fast_purge(keys, hard, network) for keys, hard in alike]
    return [_webhook(keys, hard, secret, now_s) for keys, hard in alike]


def paths_of(key: str, root_version: int) -> Iterator[str]:
    """Where a cache that knows no surrogate keys files what stands under one.

    Files of a revision cannot be listed so; such a cache must ask for those again and again.
    """
    kind, _, name = key.partition(":")
    if key in {TRUST_KEY, RESET_KEY}:
        oldest = max(0, root_version - ROOT_VERSIONS)
        for version in sorted({0, *range(oldest, root_version + 1)}):
            yield f"{TRUST_BUNDLE}?root={version}"
        yield f"{TRUST}/timestamp.json"
        yield TAKEDOWNS
    elif kind == "channel":
        model, _, channel = name.partition("@")
        yield channel_path(model, channel)
    elif kind == "chunk":
        yield chunk_path(name)
    elif kind == "revision":
        yield manifest_path(name)


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a webhook: HMAC-SHA-256 over time and body, so that neither can be
    replaced, and an old one is recognised."""
    told = timestamp.encode() + b"." + body
    return "v1=" + hmac.new(secret.encode(), told, hashlib.sha256).hexdigest()


def _ban(keys: Sequence[str], secret: str) -> PurgeRequest:
    # A reset takes every other key with it, and stands alone in the pattern.
    told = RESET_KEY if RESET_KEY in keys else "|".join(keys)
    return PurgeRequest("BAN", "/", tuple(keys), {BAN_HEADER: told, SECRET_HEADER: secret})


def _refresh(path: str, key: str, hard: bool, secret: str) -> PurgeRequest:
    # What never changes is only asked for again because nobody may have it any more, and such an
    # answer replaces the old one only if it is kept itself.
    hard = hard or key.startswith(("chunk:", "revision:"))
    headers = {REFRESH_HEADER: secret, **({HARD_HEADER: "1"} if hard else {})}
    return PurgeRequest("GET", path, (key,), headers)


def _fast_purge(keys: Sequence[str], hard: bool, network: AkamaiNetwork) -> PurgeRequest:
    """https://techdocs.akamai.com/purge-cache/reference: what is invalidated is asked for again and
    kept where it has not changed; what is deleted is not given out in any case."""
    action = "delete" if hard else "invalidate"
    body = msgspec.json.encode({"objects": [edge_tag(key) for key in keys]})
    path = f"/ccu/v3/{action}/tag/{network}"
    return PurgeRequest("POST", path, tuple(keys), {"Content-Type": "application/json"}, body)


def _webhook(keys: Sequence[str], hard: bool, secret: str, now_s: float) -> PurgeRequest:
    told = {"keys": keys, "tags": [edge_tag(key) for key in keys], "hard": hard}
    body = msgspec.json.encode(told)
    timestamp = str(int(now_s))
    headers = {
        "Content-Type": "application/json",
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: sign(secret, timestamp, body),
    }
    return PurgeRequest("POST", "", tuple(keys), headers, body)


def _runs(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), size):
        yield keys[first : first + size]
