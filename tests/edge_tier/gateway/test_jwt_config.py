"""A configuration that would let anybody in is refused before the first token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_tier.gateway.jwt_config import MAX_SKEW_S, JwtConfig
from wire.errors import ConfigError


def config(**change: Any) -> JwtConfig:
    return JwtConfig(**({"issuer": "i", "audience": ("a",)} | change))


@pytest.mark.parametrize(
    "change",
    [
        {"issuer": ""},
        {"audience": ()},
        {"audience": ("",)},
        {"algorithms": ()},
        {"max_token_bytes": 10},
        {"tenant_claim": ""},
        {"failed_checks_per_s": 0},
        {"max_token_bytes": 65_537},
        {"skew_s": -0.1},
        {"skew_s": 300.1},
        {"max_lifetime_s": -1},
        {"jwks_file": Path("f"), "jwks_url": "http://h/"},
    ],
)
def test_a_configuration_that_lets_anybody_in_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^jwt: "):
        config(**change).check()


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"skew_s": 0.0},
        {"skew_s": MAX_SKEW_S},
        {"max_token_bytes": 256},
        {"max_token_bytes": 65_536},
        {"jwks_url": "https://h/"},
    ],
)
def test_bounds_themselves_are_within(change: dict[str, Any]) -> None:
    config(**change).check()


def test_without_keys_tokens_are_off() -> None:
    assert not config().enabled
    assert config(jwks_file=Path("f")).enabled
    assert config(jwks_url="https://h/").enabled


def test_a_token_gives_no_admin_unless_it_is_said() -> None:
    assert "admin" not in config().grantable
