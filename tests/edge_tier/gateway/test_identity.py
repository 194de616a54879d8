from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from edge_tier.gateway.credentials import InvalidKeyError
from edge_tier.gateway.identity import Identity, IdentityConfig, open_authenticator
from edge_tier.gateway.jwt_config import JwtConfig
from wire.errors import ConfigError


def opened(folder: Path, config: IdentityConfig) -> Identity:
    return open_authenticator(folder / "keys.json", folder / "pepper", config)


def test_keys_and_tokens_are_told_apart(tmp_path: Path) -> None:
    private = ed25519.Ed25519PrivateKey.generate()
    maker = jwt.get_algorithm_by_name("EdDSA")
    jwk = {**maker.to_jwk(private.public_key(), as_dict=True), "kid": "k1"}
    (tmp_path / "jwks.json").write_text(json.dumps({"keys": [jwk]}))
    config = JwtConfig(jwks_file=tmp_path / "jwks.json", issuer="i", audience=("a",))
    identity = opened(tmp_path, IdentityConfig(jwt=config))
    claims = {"iss": "i", "aud": "a", "sub": "s", "exp": 2**40, "tenant": "by-token"}
    token = jwt.encode(claims, private, "EdDSA", headers={"kid": "k1"})
    _, key = identity.keys.create(tenant="by-key")
    assert identity.key_health()["i"].keys == 1
    for form in ("Bearer {}", "bearer  {}"):
        assert identity.authenticate(form.format(key)).tenant == "by-key"
        assert identity.authenticate(form.format(token)).tenant == "by-token"
    for wrong in (None, "", "Bearer", "Bearer ey", "Bearer hw-x", f"Bearer {token}x"):
        with pytest.raises(InvalidKeyError):
            identity.authenticate(wrong)


def test_without_configuration_no_token_is_accepted(tmp_path: Path) -> None:
    identity = opened(tmp_path, IdentityConfig())
    with pytest.raises(InvalidKeyError):
        identity.authenticate("Bearer eyJh.eyJh.eyJh")
    assert identity.key_health() == {}


@pytest.mark.parametrize(
    "config",
    [
        IdentityConfig(look_every_s=1.5),
        IdentityConfig(look_every_s=0),
        IdentityConfig(cache_entries=0),
        IdentityConfig(jwt=JwtConfig(jwks_url="http://127.0.0.1:9/")),
        IdentityConfig(jwt=JwtConfig(jwks_url="ftp://h/", issuer="i", audience=("a",))),
        IdentityConfig(jwt=JwtConfig(jwks_file=Path("/none"), issuer="i", audience=("a",))),
    ],
)
def test_what_cannot_be_is_said_at_the_start(tmp_path: Path, config: IdentityConfig) -> None:
    with pytest.raises(ConfigError):
        opened(tmp_path, config)
