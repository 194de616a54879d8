"""Bounds and figures of filling the cache."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_tier.cache.freshness import FreshnessConfig
from wire.errors import ConfigError, HeadwaterError


@dataclass(frozen=True, slots=True, kw_only=True)
class FillConfig:
    """Bounds of filling the cache."""

    fill_bytes_in_flight: int = 40 * 1024**2
    """Chunks in memory between upstream and disk; each fetch may need ``MAX_CHUNK_BYTES``."""
    attempts: int = 3
    """Fetches for one crowd of waiters before all of them get the failure."""
    read_ahead_chunks: int = 4
    """Chunks that are fetched before they are asked for, at once; 0 fetches none."""
    background_share: float = 0.5
    """Share of the bytes in flight that read-ahead and warm-ups may have."""
    freshness: FreshnessConfig = field(default_factory=FreshnessConfig)

    def __post_init__(self) -> None:
        if min(self.fill_bytes_in_flight, self.attempts) < 1:
            raise ConfigError("fill_bytes_in_flight and attempts must be at least 1")
        if self.read_ahead_chunks < 0 or not 0 < self.background_share <= 1:
            raise ConfigError("read_ahead_chunks must be 0 or more, background_share over 0 to 1")


class NotStoredError(HeadwaterError):
    """Bytes that were fetched for the cache's own sake and could not be kept."""

    status = 507
    code = "not_stored"


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What the cache did since its start. Chunks, unless named otherwise."""

    hits: int = 0
    hit_bytes: int = 0
    misses: int = 0
    collapsed: int = 0
    """Misses that shared somebody else's fetch."""
    fetched: int = 0
    fetched_bytes: int = 0
    mismatches: int = 0
    """Fetches that brought other bytes than asked for."""
    failures: int = 0
    """Fetches that failed otherwise."""
    ahead: int = 0
    """Fetched before they were asked for."""
    ahead_dropped: int = 0
    """Announced, but there was no room to fetch them ahead."""
    ahead_failures: int = 0
    manifest_hits: int = 0
    manifest_misses: int = 0
