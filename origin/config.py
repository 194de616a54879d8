"""Configuration of an origin: table ``[origin]`` of headwater.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from origin.console.config import ConsoleConfig
from origin.fleet import FleetConfig
from origin.purge_config import PurgeConfig
from origin.rollout_config import RolloutConfig
from origin.stores.bucket import S3Config
from origin.upkeep.policy import GcConfig
from wire.assets import AssetsConfig
from wire.catalog import FacadeConfig
from wire.http_events import EventsConfig
from wire.telemetry.config import TelemetryConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginConfig:
    """Everything an origin can be told. Paths are relative to the working directory."""

    host: str = "127.0.0.1"
    """The address it listens on; ``0.0.0.0``: every address of the machine."""
    port: int = 7400
    """0: any free port."""
    store: str = "origin-store"
    """A folder, or the URL of a bucket."""
    keys_dir: Path = Path("origin-keys")
    """Holds ``online.key`` and ``root.json`` (made by ``headwater origin init``)."""
    admin_token_file: Path = Path("admin-token")
    """The secret that publishes, rolls and signs in to the console; mode 600. Made by ``headwater
    origin init``."""
    edge_token_file: Path | None = None
    """The secret under which edges report themselves and their workers; opens nothing else. None:
    reports are refused."""
    pull_tokens_file: Path = Path("origin-pull-tokens.json")
    """Hashes of the tokens that open private models (``headwater tokens``); may be missing."""
    ready_file: Path | None = None
    """Written with the URL once the origin answers."""
    io_threads: int = 8
    """Threads that read the store for answers; beyond so many reads others wait."""
    max_admin_body_bytes: int = 64 * 1024 * 1024
    """Largest body of an administrative request: a manifest or signed metadata."""
    retimestamp_s: float = 3_600.0
    """How often the timestamp is renewed, so that clients can tell a frozen origin."""
    retry_renewal_s: float = 60.0
    """How soon a renewal that failed is tried again."""
    drain_s: float = 5.0
    """How long running answers may take at shutdown."""
    drain_delay_s: float = 0.0
    """How long new requests are still taken after SIGTERM, while ``/readyz`` says no already: what
    a load balancer needs to notice."""
    refresh_s: float = 5.0
    """How often a bucket is asked whether another origin changed it; a folder has one origin."""
    scrub_interval_s: float = 0.0
    """How long after a scrub of the whole store the next one begins; 0: only when asked for."""
    scrub_bytes_per_s: int = 50_000_000
    """The most that a scrub of this kind reads; 0 is unlimited."""
    gc: GcConfig = field(default_factory=GcConfig)
    fleet: FleetConfig = field(default_factory=FleetConfig)
    rollouts: RolloutConfig = field(default_factory=RolloutConfig)
    """When a roll goes on by itself, and when it goes back."""
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    """The page at ``/console``."""
    purge: PurgeConfig = field(default_factory=PurgeConfig)
    """Caches in front of the origin that are told of rolls and takedowns."""
    s3: S3Config = field(default_factory=S3Config)
    events: EventsConfig = field(default_factory=EventsConfig)
    facades: FacadeConfig = field(default_factory=FacadeConfig)
    assets: AssetsConfig = field(default_factory=lambda: AssetsConfig(enabled=False))
    """Static sites, at ``/assets``. Off, because a script of a site runs in the same web origin as
    the operator's console (docs/adr/0035)."""
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    """Metrics that are sent by remote write, and traces (docs/telemetry.md)."""
