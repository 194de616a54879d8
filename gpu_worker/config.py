"""Configuration of a worker: table ``[worker]`` of headwater.toml."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from gpu_worker.engines.config import EngineConfig
from gpu_worker.fit_needs import FitConfig
from gpu_worker.pull import PullConfig
from gpu_worker.supervisor import SupervisorConfig
from wire.errors import ConfigError
from wire.http_client import ClientConfig
from wire.http_events import EventsConfig
from wire.paths import DEFAULT_CHANNEL
from wire.sources.nearest import NearestConfig
from wire.telemetry.config import TelemetryConfig
from wire.workers import MAX_REPORTS


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One of several models: ``[[worker.models]]``."""

    model: str
    """Its name at the origin."""
    channel: str = DEFAULT_CHANNEL
    """Whose pointer it follows."""
    variant: str = ""
    """As ``[worker]``'s."""
    pinned: bool = False
    """Always in memory: no other model's load puts it to sleep."""
    idle_unload_s: float = 0.0
    """Put it to sleep when nobody asked for so long; 0: only when another one needs its place."""
    slots: int = 0
    """Requests at once, in place of the engine's; 0: the engine's."""
    context_tokens: int = 0
    """In place of the engine's, for this model; 0: the engine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Everything a worker can be told. Paths are relative to the working directory."""

    name: str = ""
    """Stable name in the fleet; where empty, the host's name and the port (or, where that is any,
    the process id)."""
    host: str = "127.0.0.1"
    """The address it listens on; ``0.0.0.0``: every address of the machine."""
    port: int = 7402
    """0: any free port."""
    advertise_url: str = ""
    """Where edges reach this worker; the bound address where empty."""
    model: str = "edge-small"
    """The one to serve, by its name at the origin."""
    channel: str = DEFAULT_CHANNEL
    """Whose pointer it follows: a roll of the channel is a roll of this worker."""
    variant: str = ""
    """The variant of the weights to take (``Q4_K_M``), where a revision has several; where empty,
    the best that fits this machine (``headwater fit`` shows it). Ignored where it has none."""
    models: tuple[ModelConfig, ...] = ()
    """Several models within one budget of memory; ``model``, ``channel`` and ``variant`` are not
    looked at then. The first request for one that is not in memory waits until it is."""
    memory_budget_bytes: int = 0
    """What the engines of several models may take together; 0: ``memory_share`` of what is free at
    the start."""
    memory_share: float = 0.9
    """Above 0, at most 1; of what is free on the GPUs, or of main memory where there are none."""
    room_wait_s: float = 10.0
    """A request for a model that sleeps waits so long for others' requests to end; then it is told
    to come again."""
    wake_timeout_s: float = 120.0
    """It waits no longer than this altogether, the load included."""
    sources: tuple[str, ...] = ("http://127.0.0.1:7401",)
    """Edges and origins to pull from, nearest first by measurement."""
    heartbeat_to: tuple[str, ...] = ()
    """Edges that route prompts here; none for a stand-alone server. ``dns+http://name:port`` is
    every address that the name has, looked up again every 2 s: a headless Service, for example."""
    heartbeat_s: float = 1.0
    """Between two heartbeats to each edge; something new is told at once."""
    heartbeat_ttl_s: float = 2.5
    """After so long without a heartbeat an edge forgets this worker: within 3 s it is routed
    around, and one heartbeat may be lost."""
    trust_root: Path = Path("root.json")
    """The publisher's root, provisioned out of band."""
    trust_dir: Path = Path("worker-trust")
    """What was verified, kept over restarts."""
    models_dir: Path = Path("worker-models")
    """Where revisions are put together, and kept over restarts."""
    weights_in_memory: bool = False
    """Revisions are put together in memory instead of in ``models_dir``: loading never waits for a
    disk. They count as used memory, are lost with the machine, and are removed when the worker
    stops; one that was killed finds them again."""
    memory_dir: Path = Path("/dev/shm")  # noqa: S108 - what is made in it is checked
    """A tmpfs; in it the worker makes ``headwater-NAME`` for its weights alone."""
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
    drain_delay_s: float = 0.0
    """How long new requests are still taken after SIGTERM, while ``/readyz`` says no already: what
    a load balancer needs to notice."""
    max_queue: int = 64
    """Requests that may wait for a slot before new ones are refused."""
    memory_headroom: float = 1.3
    """A new model is loaded beside the old one where this many times its size is free."""
    pull: PullConfig = field(default_factory=PullConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    fit: FitConfig = field(default_factory=FitConfig)
    """What of this machine a model may take."""
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    nearest: NearestConfig = field(default_factory=NearestConfig)
    """How one of ``sources`` is chosen, and when a second one is asked as well."""
    client: ClientConfig = field(default_factory=ClientConfig)
    events: EventsConfig = field(default_factory=EventsConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    """Metrics that are sent by remote write, and traces (docs/telemetry.md)."""

    def of(self, model: ModelConfig) -> WorkerConfig:
        """The configuration of one of the models, as if it were the only one."""
        engine = self.engine
        if model.slots:
            engine = replace(engine, slots=model.slots)
        if model.context_tokens:
            engine = replace(engine, context_tokens=model.context_tokens)
        return replace(
            self,
            model=model.model,
            channel=model.channel,
            variant=model.variant,
            models=(),
            engine=engine,
        )


def all_models(config: WorkerConfig) -> tuple[ModelConfig, ...]:
    """The models of a worker: one, where no ``[[worker.models]]`` say otherwise.

    Raises:
        ConfigError: a model stands twice, or a number is out of range; says which.
    """
    alone = ModelConfig(model=config.model, channel=config.channel, variant=config.variant)
    models = config.models or (alone,)
    if len(models) > MAX_REPORTS:
        raise ConfigError(f"[[worker.models]]: {len(models)} models are over {MAX_REPORTS}")
    names = [model.model for model in models]
    for model in models:
        if names.count(model.model) > 1:
            raise ConfigError(
                f"[[worker.models]]: {model.model} stands twice; a worker serves a model from one "
                "channel"
            )
        if min(model.idle_unload_s, model.slots, model.context_tokens) < 0:
            raise ConfigError(f"[[worker.models]] {model.model}: a number is below 0")
    if config.memory_budget_bytes < 0 or not 0 < config.memory_share <= 1:
        raise ConfigError("[worker] memory_budget_bytes is at least 0, memory_share in (0, 1]")
    return models
