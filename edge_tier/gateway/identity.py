"""Who may ask this edge, put together: API keys, tokens where configured, the audit log."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from edge_tier.gateway.audit import AuditConfig, AuditLog
from edge_tier.gateway.auth import KeyStore
from edge_tier.gateway.jwks import JwksFile, JwksUrl, KeyHealth, KeySource, fetcher
from edge_tier.gateway.jwt_config import JwtConfig
from edge_tier.gateway.jwt_tokens import TokenAuthenticator
from edge_tier.gateway.request import Caller
from wire.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityConfig:
    """How callers are told apart. The files with keys and pepper stand in the table above."""

    look_every_s: float = 0.25
    """Between two looks whether keys, JWK set or revoked tokens changed: what another process
    revokes is refused here after so long. A look costs one stat(2) a file."""
    cache_entries: int = 20_000
    """Credentials that are remembered once checked, of keys and of tokens each."""
    jwt: JwtConfig = field(default_factory=JwtConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)


class Identity:
    """An ``Authenticator`` for API keys, and for tokens where there are any."""

    def __init__(self, keys: KeyStore, tokens: TokenAuthenticator | None, audit: AuditLog) -> None:
        self.keys = keys
        self.tokens = tokens
        self.audit = audit

    def authenticate(self, authorization: str | None) -> Caller:
        """The caller behind an ``Authorization`` header, by key or by token.

        Raises:
            InvalidKeyError: no valid credential.
            AuthBusyError: a token cannot be checked now.
        """
        # Keys begin with "hw-"; tokens, which begin with base64url of "{", with "ey".
        if (
            self.tokens is None
            or authorization is None
            or authorization[7:].lstrip(" ")[:2] != "ey"
        ):
            return self.keys.authenticate(authorization)
        return self.tokens.authenticate(authorization)

    async def run(self) -> None:
        """Keep the keys of tokens fresh until cancelled. Without a URL there is nothing to do."""
        if self.tokens is None:
            await asyncio.Event().wait()
        else:
            await self.tokens.run()

    def key_health(self) -> dict[str, KeyHealth]:
        """By issuer; empty where no tokens are accepted."""
        return self.tokens.key_health() if self.tokens is not None else {}


def open_authenticator(keys_file: Path, pepper_file: Path, config: IdentityConfig) -> Identity:
    """Read keys, JWK set and revoked tokens. Blocks on files, never on the network.

    Whoever uses it runs ``Identity.run`` in the background; until a URL's first answer tokens get
    503, keys work at once.

    Raises:
        ConfigError: a file or a value cannot be used; says which.
    """
    if not 0 < config.look_every_s <= 1 or config.cache_entries < 2:
        raise ConfigError(
            "identity: look_every_s must be above 0 and at most 1; cache_entries >= 2"
        )
    keys = KeyStore.open(
        keys_file,
        pepper_file,
        look_every_s=config.look_every_s,
        cache_entries=config.cache_entries,
    )
    tokens = None
    if config.jwt.enabled:
        tokens = TokenAuthenticator(
            config.jwt,
            _key_source(config.jwt),
            look_every_s=config.look_every_s,
            cache_entries=config.cache_entries,
        )
    return Identity(keys, tokens, AuditLog(config.audit))


def _key_source(config: JwtConfig) -> KeySource:
    if config.jwks_file is not None:
        return JwksFile(config.jwks_file)
    return JwksUrl(fetcher(config.jwks_url, config.fetch), config.fetch)
