"""What a token says, checked: times, issuer and audience (RFC 7519), and whom it makes. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from edge_tier.gateway.jwt_config import JwtConfig
from edge_tier.gateway.key_records import MAX_MODELS, POLICY_NAME, TENANT
from edge_tier.gateway.request import Caller, Limits, Policy, Scope

MAX_ID_CHARS = 256


class RefusedTokenError(Exception):
    """Why a token is not accepted: a short fixed reason, for counters and logs; never its text."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """A token that is good until ``expires_s`` (wall time, without any skew)."""

    caller: Caller
    expires_s: float
    subject: str
    token_id: str


def check_claims(claims: Mapping[str, Any], config: JwtConfig, now_s: float) -> Verified:
    """Check the claims of a token whose signature holds.

    Raises:
        RefusedTokenError: with the claim that is at fault.
    """
    if claims.get("iss") != config.issuer:
        raise RefusedTokenError("issuer")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in config.audience for one in named):
        raise RefusedTokenError("audience")
    expires_s = _check_times(claims, config, now_s)
    subject = _text(claims, "sub")
    if not subject:
        raise RefusedTokenError("subject")
    return Verified(
        caller=_caller(claims, config, subject),
        expires_s=expires_s,
        subject=subject,
        token_id=_text(claims, "jti"),
    )


def _check_times(claims: Mapping[str, Any], config: JwtConfig, now_s: float) -> float:
    expires_s = _time(claims, "exp")
    if expires_s is None or now_s >= expires_s + config.skew_s:
        raise RefusedTokenError("expired")
    not_before_s, issued_s = _time(claims, "nbf"), _time(claims, "iat")
    if not_before_s is not None and now_s + config.skew_s < not_before_s:
        raise RefusedTokenError("not yet valid")
    if issued_s is not None and now_s + config.skew_s < issued_s:
        raise RefusedTokenError("issued in the future")
    if config.max_lifetime_s and (issued_s is None or expires_s - issued_s > config.max_lifetime_s):
        raise RefusedTokenError("lifetime")
    return expires_s


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate; neither a text nor a truth value is one."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise RefusedTokenError(name)
    if not 0 <= value <= 2**53 or not math.isfinite(value):
        raise RefusedTokenError(name)
    return float(value)


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_ID_CHARS:
        raise RefusedTokenError(name)
    return value


def _caller(claims: Mapping[str, Any], config: JwtConfig, subject: str) -> Caller:
    tenant = claims.get(config.tenant_claim)
    if not isinstance(tenant, str) or not TENANT.fullmatch(tenant):
        raise RefusedTokenError("tenant")
    return Caller(
        key_id=subject_id(config.issuer, subject),
        tenant=tenant,
        scopes=_scopes(claims, config),
        limits=_limits(claims, config),
        policy=_policy(claims, config),
    )


def subject_id(issuer: str, subject: str) -> str:
    """Names a subject where API keys have their id: limits count by it, and logs show it.

    A hash, because subjects are often mail addresses; 128 bits, so that nobody can make two alike.
    """
    text = f"{len(issuer)}:{issuer}{subject}"
    return "jwt-" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _scopes(claims: Mapping[str, Any], config: JwtConfig) -> frozenset[Scope]:
    value = claims.get(config.scopes_claim, "")
    words = value.split(" ") if isinstance(value, str) else value
    if not isinstance(words, list):
        raise RefusedTokenError("scopes")
    return frozenset(one for one in config.grantable if config.scope_prefix + one in words)


def _policy(claims: Mapping[str, Any], config: JwtConfig) -> Policy:
    policy = config.policy
    if config.policy_claim and config.policy_claim in claims:
        name = claims[config.policy_claim]
        if not isinstance(name, str) or name not in config.policies:
            raise RefusedTokenError("policy")
        if not POLICY_NAME.fullmatch(name):
            raise RefusedTokenError("policy")
        policy = msgspec.structs.replace(policy, name=name)
    if config.models_claim and config.models_claim in claims:
        policy = msgspec.structs.replace(policy, models=_models(claims, config))
    return policy


def _models(claims: Mapping[str, Any], config: JwtConfig) -> tuple[str, ...]:
    named = claims[config.models_claim]
    if not isinstance(named, list) or len(named) > MAX_MODELS:
        raise RefusedTokenError("models")
    allowed = config.policy.models
    models = tuple(one for one in named if isinstance(one, str) and (one in allowed or not allowed))
    if not models:
        raise RefusedTokenError("models")  # an empty list would mean: all
    return models


def _limits(claims: Mapping[str, Any], config: JwtConfig) -> Limits:
    if not config.limits_claim or config.limits_claim not in claims:
        return config.limits
    asked = claims[config.limits_claim]
    if not isinstance(asked, dict) or not asked.keys() <= set(Limits.__struct_fields__):
        raise RefusedTokenError("limits")
    lowered: dict[str, int] = {}
    for name, value in asked.items():
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 2**53:
            raise RefusedTokenError("limits")
        most: int = getattr(config.limits, name)
        lowered[name] = min(value, most) if most else value
    return msgspec.structs.replace(config.limits, **lowered)
