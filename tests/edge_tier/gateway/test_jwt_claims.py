"""What a token's claims make: a caller within what is configured, or a refusal that names one."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.jwt_claims import RefusedTokenError, Verified, check_claims, subject_id
from edge_tier.gateway.jwt_config import JwtConfig
from edge_tier.gateway.request import Caller, Limits, Policy

NOW = 1_750_000_000.0
CONFIG = JwtConfig(
    jwks_file=Path("unused"),
    issuer="https://id",
    audience=("edge", "edge-2"),
    policy_claim="policy",
    policies=("strict", "a b"),
    models_claim="models",
    policy=Policy(privacy="local", models=("a", "b")),
    limits_claim="limits",
    limits=Limits(requests_per_minute=10, tokens_per_day=0),
    scope_prefix="hw:",
)
CLAIMS: dict[str, Any] = {
    "iss": "https://id",
    "aud": "edge",
    "sub": "alice",
    "exp": int(NOW) + 600,
    "iat": int(NOW),
    "tenant": "acme",
    "scope": "hw:chat chat hw:admin",
}


def checked(config: JwtConfig = CONFIG, /, **claims: Any) -> Verified:
    return check_claims(CLAIMS | claims, config, NOW)


def caller(config: JwtConfig = CONFIG, /, **claims: Any) -> Caller:
    return checked(config, **claims).caller


def refused(config: JwtConfig = CONFIG, /, **claims: Any) -> str:
    with pytest.raises(RefusedTokenError) as error:
        checked(config, **claims)
    return error.value.reason


def test_claims_make_a_caller_within_what_is_configured() -> None:
    asked = {"requests_per_minute": 99, "tokens_per_day": 5}
    made = caller(policy="strict", models=["b", "c"], limits=asked)
    assert made.policy == Policy(name="strict", privacy="local", models=("b",))
    assert (made.limits.requests_per_minute, made.limits.tokens_per_day) == (10, 5)
    assert made.scopes == {"chat"}


def test_what_claims_do_not_say_is_as_configured() -> None:
    made = caller()
    assert (made.policy, made.limits) == (CONFIG.policy, CONFIG.limits)


def test_claims_that_no_configuration_asks_for_change_nothing() -> None:
    plain = replace(CONFIG, policy_claim="", models_claim="", limits_claim="")
    made = caller(plain, policy="strict", models=[], limits="x")
    assert (made.policy, made.limits) == (CONFIG.policy, CONFIG.limits)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"policy": "lax"}, "policy"),
        ({"policy": ["strict"]}, "policy"),
        ({"policy": "a b"}, "policy"),
        ({"models": []}, "models"),
        ({"models": ["c"]}, "models"),
        ({"models": "a"}, "models"),
        ({"models": ["a"] * 10_000}, "models"),
        ({"limits": []}, "limits"),
        ({"limits": {"misspelt": 1}}, "limits"),
        ({"limits": {"tokens_per_day": 0}}, "limits"),
        ({"limits": {"tokens_per_day": True}}, "limits"),
        ({"limits": {"tokens_per_day": 1.5}}, "limits"),
        ({"limits": {"tokens_per_day": 2**60}}, "limits"),
    ],
)
def test_a_claim_beyond_what_is_configured_is_refused(claims: dict[str, Any], reason: str) -> None:
    assert refused(**claims) == reason


def test_any_model_can_be_named_where_all_are_allowed() -> None:
    config = replace(CONFIG, policy=Policy())
    assert caller(config, models=["x", 5, "y"]).policy.models == ("x", "y")


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - 29, "nbf": NOW + 30, "iat": NOW + 30}, ""),
        ({"exp": NOW - 30}, "expired"),
        ({"nbf": NOW + 30.5}, "not yet valid"),
        ({"iat": NOW + 30.5}, "issued in the future"),
    ],
)
def test_clocks_may_differ_by_the_skew_and_no_more(claims: dict[str, Any], reason: str) -> None:
    assert (refused(**claims) if reason else checked(**claims).token_id) == reason


@pytest.mark.parametrize("value", [None, "1750000000", True, -1, float("nan"), float("inf"), 2**60])
@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
def test_a_time_is_a_plain_number(name: str, value: object) -> None:
    assert refused(**{name: value}) == name


def test_a_lifetime_can_be_bounded() -> None:
    bounded = replace(CONFIG, max_lifetime_s=600)
    checked(bounded)
    assert refused(bounded, exp=int(NOW) + 601) == "lifetime"
    without = {name: value for name, value in CLAIMS.items() if name != "iat"}
    with pytest.raises(RefusedTokenError, match="lifetime"):
        check_claims(without, bounded, NOW)


@pytest.mark.parametrize("audience", ["edge", "edge-2", ["other", "edge"], [1, None, "edge-2"]])
def test_one_of_the_audiences_is_enough(audience: object) -> None:
    assert checked(aud=audience).subject == "alice"


@pytest.mark.parametrize("scope", ["hw:chat", ["hw:chat", 5, []], "hw:chat  x"])
def test_scopes_are_words_or_a_list(scope: object) -> None:
    assert caller(scope=scope).scopes == {"chat"}


def test_a_subject_is_named_by_issuer_and_subject_together() -> None:
    assert subject_id("ab", "c") != subject_id("a", "bc")
    assert subject_id("1:a", "b") != subject_id("1", "a:b")
    assert subject_id("https://id", "alice") == caller().key_id
    assert "alice" not in caller().key_id
    assert subject_id("i", "\ud800") != subject_id("i", "?")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)


@given(name=st.sampled_from([*CLAIMS, "jti", "nbf", "policy", "models", "limits"]), value=VALUES)
def test_no_claim_gives_more_than_is_configured(name: str, value: object) -> None:
    with suppress(RefusedTokenError):
        made = caller(**{name: value})
        assert made.scopes <= {"chat", "embeddings"}
        assert set(made.policy.models) <= {"a", "b"}
        assert made.policy.models
        assert made.policy.privacy == "local"
        assert 0 < made.limits.requests_per_minute <= 10
