"""Configuration of telemetry: table ``[TIER.telemetry]`` of headwater.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from wire.errors import ConfigError

Fsync = Literal["always", "segment", "never"]
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MAX_LABELS = 32
MAX_LABEL_CHARS = 1_024
MAX_BATCH_SAMPLES = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesConfig:
    """OpenTelemetry traces, exported by OTLP over HTTP; needs the extra ``otel``."""

    endpoint: str = ""
    """Where spans go, whole: ``http://collector:4318/v1/traces``. Empty: there are none."""
    sample_ratio: float = 0.01
    """Of the traces that begin here, this share is recorded; 0 to 1."""
    service_name: str = ""
    """Empty: ``headwater-`` and the tier."""
    trust_client_traces: bool = False
    """An edge goes on with the ``traceparent`` of its clients. Otherwise it begins a trace of its
    own that is linked to theirs, so that nobody outside decides what is recorded."""
    queue_spans: int = 4_096
    """Spans that wait for the exporter; what comes beyond is dropped."""
    batch_spans: int = 512
    """The most that one request to the collector carries; 1 to ``queue_spans``."""
    delay_s: float = 2.0
    """How long spans may wait for others before they are sent."""
    timeout_s: float = 10.0
    """For one request to the collector; then its spans are lost."""

    def __post_init__(self) -> None:
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError("sample_ratio is in 0..1")
        if not 1 <= self.batch_spans <= self.queue_spans:
            raise ValueError("batch_spans is at least 1 and at most queue_spans")
        if min(self.delay_s, self.timeout_s) <= 0:
            raise ValueError("delay_s and timeout_s are times above 0, in seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Metrics that are sent by Prometheus remote write, and traces. Off by default."""

    remote_write_url: str = ""
    """A receiver of remote write 1.0, ``http://prometheus:9090/api/v1/write``. Empty: nothing is
    sent and nothing is spooled; ``/metrics`` is there anyway."""
    interval_s: float = 15.0
    """How often the metrics are looked at."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Put on every series, as ``region``; over the default ``job``, ``tier`` and ``instance``."""
    bearer_token_file: Path | None = None
    """The receiver's token; a file that only its owner may read."""
    spool_dir: Path = Path("telemetry-spool")
    """Metrics wait below it until the receiver has them, in a folder for each tier and
    process: the first number that no other process has, ``SPOOL_DIR/edge/0``."""
    spool_bytes: int = 256 * 1024 * 1024
    """The most that waits on disk, for each process; beyond it the oldest are dropped, counted."""
    segment_bytes: int = 4 * 1024 * 1024
    """What is dropped at once; at most a quarter of ``spool_bytes`` counts."""
    fsync: Fsync = "always"
    """``always``: a sample that was spooled survives a power cut; ``segment``: all but those in the
    newest segment do; ``never``: it survives the process (kill -9), not the machine."""
    memory_bytes: int = 4 * 1024 * 1024
    """What waits in memory where the disk takes nothing; beyond it the oldest are dropped."""
    max_series: int = 20_000
    """More series than these are not sent, and counted as dropped."""
    batch_samples: int = MAX_BATCH_SAMPLES
    """Samples in one request."""
    timeout_s: float = 10.0
    """Of one request."""
    backoff_s: float = 1.0
    """The pause after the first failure; it doubles with each."""
    max_backoff_s: float = 60.0
    """The longest pause, also where the receiver asks for a longer one."""
    traces: TracesConfig = field(default_factory=TracesConfig)

    def __post_init__(self) -> None:
        for name in ("interval_s", "timeout_s", "backoff_s", "max_backoff_s"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is a time above 0, in seconds")
        for name in ("spool_bytes", "segment_bytes", "memory_bytes", "max_series"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1")
        if not 1 <= self.batch_samples <= MAX_BATCH_SAMPLES:
            raise ValueError(f"batch_samples is in 1..{MAX_BATCH_SAMPLES}")
        _check_labels(self.labels)


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise ValueError(f"labels: {len(labels)} are over {MAX_LABELS}")
    for name, value in labels.items():
        if not _LABEL_NAME.fullmatch(name) or name.startswith("__"):
            raise ValueError(f"labels: {name!r} is no name of a label")
        if len(value) > MAX_LABEL_CHARS:
            raise ValueError(f"labels: {name} is over {MAX_LABEL_CHARS} characters")


def check_url(url: str, key: str) -> str:
    """The URL, without what may not be shown.

    Raises:
        ConfigError: it is none; the message does not show a password in it.
    """
    parts = urlsplit(url)
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{key} must be http[s]://host[:port]/path, not {shown!r}")
    return shown
