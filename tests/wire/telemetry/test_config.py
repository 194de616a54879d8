from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from origin.config import OriginConfig
from wire.errors import ConfigError
from wire.settings import load
from wire.telemetry.config import TelemetryConfig, TracesConfig, check_url


@pytest.mark.parametrize("tier", [("origin", OriginConfig), ("edge", EdgeConfig)])
def test_it_is_off_where_nobody_asks_for_it(tier: tuple[str, Any]) -> None:
    config = load(*tier, file=None, environ={}).telemetry
    assert (config.remote_write_url, config.traces.endpoint) == ("", "")


def test_a_tier_is_told_in_its_own_table(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(
        "[worker.telemetry]\nremote_write_url = 'http://p/w'\nlabels = { region = 'eu' }\n"
        "[worker.telemetry.traces]\nsample_ratio = 0.5\n"
    )
    environ = {"HEADWATER_WORKER__TELEMETRY__LABELS__ZONE": "b"}
    config = load("worker", WorkerConfig, file=file, environ=environ).telemetry
    assert dict(config.labels) == {"region": "eu", "zone": "b"}
    assert config.traces.sample_ratio == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"interval_s": 0},
        {"backoff_s": -1},
        {"spool_bytes": 0},
        {"batch_samples": 2_001},
        {"batch_samples": 0},
        {"labels": {"a-b": "c"}},
        {"labels": {"__name__": "c"}},
        {"labels": {"a": "c" * 1_025}},
        {"labels": {f"a{n}": "c" for n in range(33)}},
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TelemetryConfig(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"sample_ratio": 1.1}, {"sample_ratio": -0.1}, {"batch_spans": 5_000}, {"delay_s": 0}],
)
def test_so_it_is_with_traces(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TracesConfig(**wrong)


def test_a_url_is_shown_without_its_password() -> None:
    assert check_url("https://me:secret@host:1/w?token=x", "key") == "https://host:1/w"
    with pytest.raises(ConfigError, match="key must be") as caught:
        check_url("ftp://me:secret@host/w", "key")
    assert "secret" not in caught.value.message
