from __future__ import annotations

from pathlib import Path

import pytest

from edge_tier.config import EdgeConfig
from edge_tier.gateway.limits import LimitsConfig
from edge_tier.gateway.request import SharedLimits
from infra.config_view import show_in_force
from wire.errors import ConfigError
from wire.settings import load

LIMITS = """
[edge.gateway.limits]
max_open = 5_000
[edge.gateway.limits.tenants.acme]
tokens_per_day = 1_000_000
concurrent_streams = 8
[edge.gateway.limits.tenants."big@corp"]
requests_per_minute = 6_000
[edge.gateway.limits.tenant_default]
requests_per_minute = 60
[edge.gateway.limits.models.cloud-large]
output_tokens_per_minute = 20_000
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "headwater.toml"


def test_limits_of_tenants_and_models_are_tables(file: Path) -> None:
    file.write_text(LIMITS)
    assert load("edge", EdgeConfig, file=file, environ={}).gateway.limits == LimitsConfig(
        max_open=5_000,
        tenants={
            "acme": SharedLimits(tokens_per_day=1_000_000, concurrent_streams=8),
            "big@corp": SharedLimits(requests_per_minute=6_000),
        },
        tenant_default=SharedLimits(requests_per_minute=60),
        models={"cloud-large": SharedLimits(output_tokens_per_minute=20_000)},
    )


def test_what_is_not_limited_is_unlimited() -> None:
    limits = load("edge", EdgeConfig, file=None, environ={}).gateway.limits
    assert limits.tenant_default == SharedLimits()
    assert set(map(int, SharedLimits.__struct_defaults__)) == {0}


def test_the_environment_sets_one_limit_of_one_tenant(file: Path) -> None:
    file.write_text(LIMITS)
    environ = {"HEADWATER_EDGE__GATEWAY__LIMITS__TENANTS__ACME__TOKENS_PER_DAY": "7"}
    tenants = load("edge", EdgeConfig, file=file, environ=environ).gateway.limits.tenants
    assert tenants["acme"] == SharedLimits(tokens_per_day=7, concurrent_streams=8)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("tenants.acme.tokens_per_minit = 5", "tokens_per_minit"),
        ("tenants.acme.tokens_per_day = -1", "tenants"),
        ("tenants.acme.tokens_per_day = 'many'", "tenants"),
        ("tenants.acme.max_output_tokens = 5", "max_output_tokens"),
        ("tenants = 5", "tenants"),
        ("max_subjects = 1", "max_subjects"),
        ("max_opened = 1", "max_opened"),
    ],
)
def test_a_misspelt_limit_is_no_default_in_silence(file: Path, line: str, named: str) -> None:
    file.write_text(f"[edge.gateway.limits]\n{line}\n")
    with pytest.raises(ConfigError, match=named):
        load("edge", EdgeConfig, file=file, environ={})


def test_what_is_in_force_shows_each_limit_and_who_set_it(file: Path) -> None:
    file.write_text(LIMITS)
    shown = show_in_force(["edge"], file, environ={}, changed=True).tiers["edge"]
    assert shown["gateway.limits.tenants.acme.tokens_per_day"].value == 1_000_000
    assert shown["gateway.limits.models.cloud-large.output_tokens_per_minute"].origin == "file"


def test_a_port_of_its_own_is_another_one(file: Path) -> None:
    file.write_text("[edge]\nreuse_port = true\nown_port = 7401\n")
    with pytest.raises(ConfigError, match="own_port is another one than port"):
        load("edge", EdgeConfig, file=file, environ={})
    file.write_text("[edge]\nreuse_port = true\n")
    assert load("edge", EdgeConfig, file=file, environ={}).is_shared
    file.write_text("[edge]\nreuse_port = true\nown_port = 7411\n")
    assert not load("edge", EdgeConfig, file=file, environ={}).is_shared
