"""Configuration of what the origin tells the caches in front of it: ``[origin.purge]``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PurgeStyle = Literal["varnish", "nginx", "akamai", "webhook"]
"""How a cache is told (docs/how-to/cdn.md). ``varnish``: a ``BAN`` with surrogate keys, for
infra/varnish. ``nginx``: each path is asked for past the cache, for infra/nginx. ``akamai``: Fast
Purge by cache tag. ``webhook``: a signed POST with the keys, for whatever stands before another
CDN's purge API."""
AkamaiNetwork = Literal["production", "staging"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeTarget:
    """One cache that is told."""

    style: PurgeStyle
    """How the cache is told (docs/how-to/cdn.md)."""
    token_file: Path
    """The secret that both sides know, in a file of mode 600. With ``akamai``: an ``.edgerc`` file,
    of mode 600 too."""
    url: str = ""
    """``http[s]://host[:port]``; a webhook's with its path. Not needed with ``akamai``, whose host
    stands in the ``.edgerc`` file."""
    section: str = "default"
    """With ``akamai``: the section of the ``.edgerc`` file."""
    network: AkamaiNetwork = "production"
    """With ``akamai``: which of its networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeConfig:
    """Who is told, and for how long the rest waits for that."""

    targets: tuple[PurgeTarget, ...] = ()
    hold_s: float = 0.5
    """An event waits for so long until the caches were told; else an edge behind one would hear
    it, ask, and get what was true before."""
    timeout_s: float = 2.0
    """For one request."""
    attempts: int = 8
    """How often a key is told to a cache that does not take it."""
    retry_min_s: float = 0.25
    """The pause between attempts begins at twice this ..."""
    retry_max_s: float = 30.0
    """... and doubles with each failure up to this."""
    rate_limited_s: float = 5.0
    """The least pause after a cache said that it is told too much (status 429). That counts as no
    attempt: it is told as fast as it lets itself be told."""
    max_keys: int = 20_000
    """Keys that wait for one cache; beyond, it is told once that everything may have changed."""
    requests_at_once: int = 4
    """To one cache."""
