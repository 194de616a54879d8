"""Configuration of an edge: table ``[edge]`` of headwater.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edge_tier.cache.documents import DocumentConfig
from edge_tier.cache.freshness import FreshnessConfig
from edge_tier.cache.pins import PinMode
from edge_tier.cache.store import StoreConfig
from edge_tier.fleet_report import FleetReportConfig
from edge_tier.gateway.breaker import BreakerConfig
from edge_tier.gateway.cloud import CloudConfig
from edge_tier.gateway.front import FrontConfig
from edge_tier.gateway.hedge import HedgeConfig
from edge_tier.gateway.hybrid import HybridConfig
from edge_tier.gateway.identity import IdentityConfig
from edge_tier.gateway.limits import LimitsConfig
from edge_tier.gateway.limits_client import RedisLimits
from edge_tier.gateway.models import ModelsConfig
from edge_tier.gateway.pipeline import PipelineConfig
from edge_tier.gateway.relay import RelayConfig
from edge_tier.gateway.resume import ResumeConfig
from edge_tier.gateway.upstream import UpstreamConfig
from edge_tier.warm import WarmConfig
from wire.assets import AssetsConfig
from wire.catalog import FacadeConfig
from wire.http_client import ClientConfig
from wire.http_events import EventsConfig
from wire.sources.nearest import NearestConfig
from wire.telemetry.config import TelemetryConfig

Plane = Literal["all", "artifacts", "prompts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """The artifact plane."""

    folder: Path = Path("edge-cache")
    """Where chunks and documents are kept over restarts; one process has it to itself."""
    name: str = "headwater-edge"
    """In ``Cache-Status``."""
    store: StoreConfig = field(default_factory=StoreConfig)
    documents: DocumentConfig = field(default_factory=DocumentConfig)
    freshness: FreshnessConfig = field(default_factory=FreshnessConfig)
    fill_bytes_in_flight: int = 40 * 1024 * 1024
    """Bytes of chunks on their way from the origin at the same time, in memory."""
    read_ahead_chunks: int = 4
    """Chunks of a file that are fetched before its reader asks for them, at once."""
    pin: PinMode = "serving"
    """``serving``: what the channels of the models served here point at is not evicted, within
    ``store.pinned_share``; ``none``: only what ``headwater warm --pin`` named."""
    keep_previous: int = 0
    """Revisions before the current one that stay pinned after a roll: 0 or 1."""
    warm: WarmConfig = field(default_factory=WarmConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """The prompt plane."""

    keys_file: Path = Path("edge-keys.json")
    """Hashes of the API keys (``headwater keys``), read again when it changes; may be missing."""
    pepper_file: Path = Path("edge-pepper")
    """The secret under which API keys are hashed; made at the first start."""
    policy_file: Path | None = None
    """Named policies (docs/policies.md), read again when it changes; none: the built-in default."""
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    redis_url: str = ""
    """Shares limits between edge processes; empty: limits are this process's own."""
    redis: RedisLimits = field(default_factory=RedisLimits)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    """Limits of tenants and models; those of keys stand in the keys."""
    max_answer_bytes: int = 16 * 1024 * 1024
    """The largest answer that is not streamed."""
    front: FrontConfig = field(default_factory=FrontConfig)
    pipeline: PipelineConfig = field(default_factory=PipelineConfig)
    cloud: CloudConfig = field(default_factory=CloudConfig)
    models: ModelsConfig = field(default_factory=ModelsConfig)
    relay: RelayConfig = field(default_factory=RelayConfig)
    upstream: UpstreamConfig = field(default_factory=UpstreamConfig)
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    """When a worker is left alone after failures."""
    resume: ResumeConfig = field(default_factory=ResumeConfig)
    """How far the edge goes for an answer that a worker broke off."""
    hybrid: HybridConfig = field(default_factory=HybridConfig)
    hedge: HedgeConfig = field(default_factory=HedgeConfig)


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeConfig:
    """Everything an edge can be told. Paths are relative to the working directory."""

    host: str = "127.0.0.1"
    """The address it listens on; ``0.0.0.0``: every address of the machine."""
    port: int = 7401
    """0: any free port."""
    plane: Plane = "all"
    """What it serves: ``artifacts`` (weights and sites), ``prompts``, or both."""
    origins: tuple[str, ...] = ("http://127.0.0.1:7400",)
    """Where misses go, nearest first by measurement: origins, or parent edges."""
    origin_token_file: Path | None = None
    """A pull token of the origin's; without one, private models are not to be had."""
    trust_root: Path = Path("root.json")
    """The publisher's root, provisioned out of band."""
    trust_dir: Path = Path("edge-trust")
    """What was verified, kept over restarts."""
    refresh_s: float = 5.0
    """How often pointers are revalidated without being told to."""
    admin_token_file: Path = Path("admin-token")
    """The secret that makes API keys and warms the cache; mode 600."""
    worker_token_file: Path = Path("worker-token")
    """Shared with this edge's workers, both ways; opens private models to them."""
    pull_tokens_file: Path = Path("edge-pull-tokens.json")
    """Hashes of the tokens that open private models (``headwater tokens``); may be missing."""
    ready_file: Path | None = None
    """Written with the URL once the edge answers."""
    receive_threads: int = 8
    """Chunks fetched at the same time from each of ``origins``: one that stalls holds only its own.
    """
    io_threads: int = 8
    """Threads that send files from the disk; beyond so many others wait."""
    drain_s: float = 10.0
    """How long running streams may take at shutdown."""
    drain_delay_s: float = 0.0
    """How long new requests are still taken after SIGTERM, while ``/readyz`` says no already: what
    a load balancer needs to notice."""
    reuse_port: bool = False
    """Several processes on one port (SO_REUSEPORT). Give each one an ``own_port``."""
    own_port: int = 0
    """Where this process alone listens, too. Workers must tell every process that they live, and
    Prometheus must ask every process; a port that is shared leads to any one. 0: nowhere."""
    nearest: NearestConfig = field(default_factory=NearestConfig)
    """How one of ``origins`` is chosen, and when a second one is asked as well."""
    client: ClientConfig = field(default_factory=ClientConfig)
    events: EventsConfig = field(default_factory=EventsConfig)
    facades: FacadeConfig = field(default_factory=FacadeConfig)
    assets: AssetsConfig = field(default_factory=AssetsConfig)
    """Static sites, at ``/assets``."""
    fleet: FleetReportConfig = field(default_factory=FleetReportConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    gateway: GatewayConfig = field(default_factory=GatewayConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    """Metrics that are sent by remote write, and traces (docs/telemetry.md)."""

    def __post_init__(self) -> None:
        if self.own_port and self.own_port == self.port:
            raise ValueError("own_port is another one than port")

    @property
    def is_shared(self) -> bool:
        """Whether nothing but a port that others listen on, too, leads to this process."""
        return self.reuse_port and not self.own_port
