"""What a token must be to be accepted, and whom its claims make."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edge_tier.gateway.jwks import Algorithm, FetchConfig
from edge_tier.gateway.request import Limits, Policy, Scope
from wire.errors import ConfigError

MAX_SKEW_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtConfig:
    """Tokens of an identity provider. Off while neither ``jwks_file`` nor ``jwks_url`` is set.

    Claims are named as they stand in the token; an empty name means that no claim is asked.
    """

    jwks_file: Path | None = None
    """A JWK set (RFC 7517), read again when it changes; one that is broken leaves the last good one
    in force."""
    jwks_url: str = ""
    """``http[s]://`` of a JWK set; in place of ``jwks_file``. Until it is there, tokens get 503."""
    fetch: FetchConfig = field(default_factory=FetchConfig)
    issuer: str = ""
    """What ``iss`` must be, to the letter."""
    audience: tuple[str, ...] = ()
    """One of these must stand in ``aud``."""
    algorithms: tuple[Algorithm, ...] = ("EdDSA", "RS256", "ES256")
    """Keys for other algorithms are not used, although the set may hold them."""
    skew_s: float = 30.0
    """How far our clock and the issuer's may differ; 0 to 300."""
    max_lifetime_s: float = 0.0
    """From ``iat`` (then required) to ``exp``; 0: any."""
    max_token_bytes: int = 4096
    """A longer token is refused unread; 256 to 65536."""
    revoked_file: Path | None = None
    """``{"jti": [...], "sub": [...]}``, mode 600: tokens and subjects that are ended. May appear
    later; followed like the key file."""
    failed_checks_per_s: float = 200.0
    """Bad signatures that are checked; above, tokens not seen before are answered 503. What bad
    tokens can cost is this times about 0.1 ms. Tokens seen before are not held up."""
    tenant_claim: str = "tenant"
    """Names the tenant, whose limits and policy hold; a token without it is refused."""
    scopes_claim: str = "scope"
    """A list, or words in one text (RFC 8693 section 4.2). Others than ours are passed over."""
    scope_prefix: str = ""
    """``headwater:`` reads the scope ``headwater:chat`` as ``chat``."""
    grantable: tuple[Scope, ...] = ("chat", "embeddings")
    """Scopes that a token may give."""
    policy_claim: str = ""
    """Names one of ``policies``; a token without it has ``policy``."""
    policies: tuple[str, ...] = ()
    """Policies that a token may name; another is refused."""
    models_claim: str = ""
    """A list of models, within what ``policy.models`` allows."""
    policy: Policy = field(default_factory=Policy)
    """Of tokens that do not say otherwise."""
    limits_claim: str = ""
    """An object with names of ``limits``; what it says can lower them and never raise them."""
    limits: Limits = field(default_factory=Limits)
    """Of each subject."""

    @property
    def enabled(self) -> bool:
        """Whether tokens are accepted at all."""
        return self.jwks_file is not None or bool(self.jwks_url)

    def check(self) -> None:
        """Raises ``ConfigError`` where tokens would be accepted that nobody meant."""
        if self.jwks_file is not None and self.jwks_url:
            raise ConfigError("jwt: give jwks_file or jwks_url, not both")
        if not self.issuer or not self.audience or not all(self.audience):
            raise ConfigError("jwt: issuer and audience must be set")
        if not self.algorithms:
            raise ConfigError("jwt: algorithms must list at least one")
        if not 0 <= self.skew_s <= MAX_SKEW_S:
            raise ConfigError(f"jwt: skew_s must be 0 to {MAX_SKEW_S:.0f}")
        if self.max_lifetime_s < 0 or self.failed_checks_per_s <= 0:
            raise ConfigError("jwt: max_lifetime_s and failed_checks_per_s cannot be below 0")
        if not 256 <= self.max_token_bytes <= 65_536:
            raise ConfigError("jwt: max_token_bytes must be 256 to 65536")
        if not self.tenant_claim:
            raise ConfigError("jwt: tenant_claim must name the claim with the tenant")
