"""Configuration of a worker: table ``[worker]`` of headwater.toml."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gpu_worker.engines.config import EngineConfig
from gpu_worker.pull import PullConfig
from gpu_worker.supervisor import SupervisorConfig
from wire.http_client import ClientConfig
from wire.http_events import EventsConfig
from wire.paths import DEFAULT_CHANNEL
from wire.sources.nearest import NearestConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Everything a worker can be told. Paths are relative to the working directory."""

    name: str = ""
    """Stable name in the fleet; where empty, the host's name and the port (or, where that is any,
    the process id)."""
    host: str = "127.0.0.1"
    port: int = 7402
    """0: any free port."""
    advertise_url: str = ""
    """Where edges reach this worker; the bound address where empty."""
    model: str = "edge-small"
    channel: str = DEFAULT_CHANNEL
    variant: str = ""
    """The variant of the weights to take (``Q4_K_M``), where a revision has several; where empty,
    the first of ``gpu_worker.variants.PREFERENCE`` that it has. Ignored where it has none."""
    sources: tuple[str, ...] = ("http://127.0.0.1:7401",)
    """Edges and origins to pull from, nearest first by measurement."""
    heartbeat_to: tuple[str, ...] = ()
    """Edges that route prompts here; none for a stand-alone server."""
    heartbeat_s: float = 1.0
    heartbeat_ttl_s: float = 4.0
    """After so long without a heartbeat an edge forgets this worker."""
    trust_root: Path = Path("root.json")
    """The publisher's root, provisioned out of band."""
    trust_dir: Path = Path("worker-trust")
    models_dir: Path = Path("worker-models")
    token_file: Path = Path("worker-token")
    """What clients (edges) must present, what heartbeats carry, and what opens private models at
    edges."""
    pull_token_file: Path | None = None
    """A pull token for sources that are no edges of this worker's; they are shown it instead."""
    ready_file: Path | None = None
    """Written with the URL once the worker listens; it serves when ``/readyz`` says so."""
    revalidate_s: float = 10.0
    """How often the channel is looked at without an event."""
    retry_failed_s: float = 60.0
    """A revision that would not load is tried again after so long."""
    load_timeout_s: float = 600.0
    """Start and probe of an engine together; then it counts as hanging and is given up."""
    keep_previous: int = 1
    """Older revisions kept on disk: seeds for the next pull, and a way back."""
    receive_threads: int = 6
    """Chunks fetched at the same time from each of ``sources``."""
    drain_s: float = 30.0
    """How long streams of the old revision, or at shutdown, may go on."""
    max_queue: int = 64
    """Requests that may wait for a slot before new ones are refused."""
    memory_headroom: float = 1.3
    """A new model is loaded beside the old one where this many times its size is free."""
    pull: PullConfig = field(default_factory=PullConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    nearest: NearestConfig = field(default_factory=NearestConfig)
    """How one of ``sources`` is chosen, and when a second one is asked as well."""
    client: ClientConfig = field(default_factory=ClientConfig)
    events: EventsConfig = field(default_factory=EventsConfig)
