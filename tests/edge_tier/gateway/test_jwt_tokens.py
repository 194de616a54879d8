from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.credentials import InvalidKeyError
from edge_tier.gateway.jwks import KeyHealth, KeySet, parse_jwks
from edge_tier.gateway.jwt_claims import RefusedTokenError
from edge_tier.gateway.jwt_config import JwtConfig
from edge_tier.gateway.jwt_tokens import AuthBusyError, TokenAuthenticator, verify

NOW = 1_750_000_000.0
CONFIG = JwtConfig(jwks_file=Path("unused"), issuer="https://id", audience=("edge",))
CLAIMS: dict[str, Any] = {
    "iss": "https://id",
    "aud": "edge",
    "sub": "alice",
    "exp": int(NOW) + 600,
    "iat": int(NOW),
    "jti": "t1",
    "tenant": "acme",
    "scope": "chat other",
}
ALGORITHMS = ("EdDSA", "RS256", "ES256")


@lru_cache
def private(algorithm: str) -> Any:
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


@lru_cache
def jwks() -> bytes:
    keys = []
    for algorithm in ALGORITHMS:
        maker: Any = jwt.get_algorithm_by_name(algorithm)
        jwk = maker.to_jwk(private(algorithm).public_key(), as_dict=True)
        keys.append({**jwk, "kid": algorithm.lower(), "use": "sig", "key_ops": ["verify"]})
    return json.dumps({"keys": keys}).encode()


@lru_cache
def keys() -> KeySet:
    return parse_jwks(jwks())


def token(algorithm: str = "EdDSA", header: dict[str, Any] | None = None, **claims: Any) -> str:
    kept = {name: value for name, value in (CLAIMS | claims).items() if value is not None}
    headers = {"kid": algorithm.lower(), **(header or {})}
    return jwt.encode(kept, private(algorithm), algorithm, headers=headers)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw(header: str, payload: str, algorithm: str = "EdDSA") -> str:
    """A token with these texts to the letter, signed for real."""
    signed = f"{b64(header.encode())}.{b64(payload.encode())}"
    maker: Any = jwt.get_algorithm_by_name(algorithm)
    return f"{signed}.{b64(maker.sign(signed.encode(), private(algorithm)))}"


def refused(text: str, config: JwtConfig = CONFIG, now_s: float = NOW) -> str:
    with pytest.raises(RefusedTokenError) as error:
        verify(text, keys(), config, now_s)
    return error.value.reason


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_token_is_its_tenant(algorithm: str) -> None:
    found = verify(token(algorithm), keys(), CONFIG, NOW)
    assert found.caller.tenant == "acme"
    assert found.caller.scopes == {"chat"}
    assert found.caller.key_id.startswith("jwt-")
    assert "alice" not in found.caller.key_id
    assert (found.subject, found.token_id, found.expires_s) == ("alice", "t1", NOW + 600)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kid", ALGORITHMS)
def test_a_key_is_used_with_its_own_algorithm_alone(algorithm: str, kid: str) -> None:
    text = token(algorithm, header={"kid": kid.lower()})
    if algorithm == kid:
        verify(text, keys(), CONFIG, NOW)
    else:
        assert refused(text) == "algorithm"


@pytest.mark.parametrize("kid", [name.lower() for name in ALGORITHMS])
def test_a_public_key_is_never_a_shared_secret(kid: str) -> None:
    public = private("RS256").public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    signed = f"{b64(json.dumps({'alg': 'HS256', 'kid': kid}).encode())}.{b64(b'{}')}"
    import hashlib
    import hmac

    forged = f"{signed}.{b64(hmac.digest(pem, signed.encode(), hashlib.sha256))}"
    assert refused(forged) == "algorithm"


@pytest.mark.parametrize("alg", ["none", "None", "nOnE", "", "HS256", "RS512", "ES256K", None, 7])
def test_what_a_header_says_chooses_no_algorithm(alg: object) -> None:
    header = json.dumps({"alg": alg, "kid": "eddsa"})
    assert refused(raw(header, json.dumps(CLAIMS))) == "algorithm"
    unsigned = f"{b64(header.encode())}.{b64(json.dumps(CLAIMS).encode())}."
    assert refused(unsigned) == "form"


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "' OR 1=1", "", "EDDSA", "eddsa\0", None, 1, ["eddsa"], {}]
)
def test_a_key_id_is_only_ever_looked_up(kid: object) -> None:
    header = json.dumps({"alg": "EdDSA", "kid": kid})
    assert refused(raw(header, json.dumps(CLAIMS))) == "unknown key"


def test_a_token_must_name_its_key() -> None:
    assert refused(raw('{"alg":"EdDSA"}', json.dumps(CLAIMS))) == "unknown key"


def test_keys_and_addresses_in_a_header_are_not_looked_at() -> None:
    own = ed25519.Ed25519PrivateKey.generate()
    maker: Any = jwt.get_algorithm_by_name("EdDSA")
    brought = {
        "kid": "eddsa",
        "jwk": maker.to_jwk(own.public_key(), as_dict=True),
        "jku": "http://127.0.0.1:9/",
        "x5u": "http://127.0.0.1:9/",
    }
    assert refused(jwt.encode(CLAIMS, own, "EdDSA", headers=brought)) == "signature"
    verify(token(header=brought), keys(), CONFIG, NOW)


@pytest.mark.parametrize(
    "more", ['"b64":false', '"b64":true', '"crit":["b64"],"b64":false', '"crit":[]', '"typ":"JWE"']
)
def test_headers_that_change_what_is_signed_are_refused(more: str) -> None:
    text = raw(f'{{"alg":"EdDSA","kid":"eddsa",{more}}}', json.dumps(CLAIMS))
    assert refused(text) == "header"


@pytest.mark.parametrize("name", ["tenant", "exp", "iss"])
def test_a_name_that_stands_twice_is_refused(name: str) -> None:
    payload = json.dumps(CLAIMS)[:-1] + f', "{name}": {json.dumps(CLAIMS[name])}}}'
    assert refused(raw('{"alg":"EdDSA","kid":"eddsa"}', payload)) == "form"
    assert refused(raw('{"alg":"none","alg":"EdDSA","kid":"eddsa"}', json.dumps(CLAIMS))) == "form"


@pytest.mark.parametrize("payload", ["[]", "1", "{", "\ud7ff", '{"exp":NaN}', "[" * 900])
def test_a_payload_that_is_no_object_is_refused(payload: str) -> None:
    assert refused(raw('{"alg":"EdDSA","kid":"eddsa"}', payload)) == "form"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"iss": "https://id/"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": [1, "other"]}, "audience"),
        ({"exp": None}, "expired"),
        ({"exp": NOW - 31}, "expired"),
        ({"exp": str(int(NOW + 60))}, "exp"),
        ({"exp": True}, "exp"),
        ({"exp": 2**60}, "exp"),
        ({"nbf": NOW + 31}, "not yet valid"),
        ({"iat": NOW + 31}, "issued in the future"),
        ({"iat": "now"}, "iat"),
        ({"sub": None}, "subject"),
        ({"sub": "s" * 257}, "sub"),
        ({"jti": 5}, "jti"),
        ({"tenant": None}, "tenant"),
        ({"tenant": "a b"}, "tenant"),
        ({"scope": 5}, "scopes"),
    ],
)
def test_a_claim_that_does_not_fit_is_named(claims: dict[str, Any], reason: str) -> None:
    claims = {n: int(v) if isinstance(v, float) else v for n, v in claims.items()}
    assert refused(token(**claims)) == reason


TOKENS = st.sampled_from(ALGORITHMS).map(token)


@given(text=TOKENS, data=st.data())
def test_no_changed_token_is_accepted(text: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    kind = data.draw(st.sampled_from(["swap", "insert", "drop", "cut"]))
    char = data.draw(st.characters(max_codepoint=0x17F) | st.sampled_from("AQgwB_-.=+/ "))
    changed = {
        "swap": text[:at] + char + text[at + 1 :],
        "insert": text[:at] + char + text[at:],
        "drop": text[:at] + text[at + 1 :],
        "cut": text[:at],
    }[kind]
    if changed != text:
        refused(changed)


@given(text=st.text(max_size=200) | st.text(max_size=60).map("eyJhbGciOiJFZERTQSJ9.{}.x".format))
def test_any_text_is_refused(text: str) -> None:
    refused(text)


def test_a_long_token_is_not_even_read() -> None:
    assert refused(token(more="x" * 4096)) == "form"


@dataclass
class Keys:
    """A source that a test changes."""

    keys: KeySet | None = None
    wanted: int = 0
    looks: list[float] = field(default_factory=list)
    health: KeyHealth = KeyHealth(keys=1, age_s=7.0, read=2, failed=3)  # noqa: RUF009 - frozen

    def look(self) -> None:
        self.looks.append(0.0)

    def want(self) -> None:
        self.wanted += 1

    async def run(self) -> None:
        raise NotImplementedError


@dataclass
class Stage:
    """An authenticator whose times and keys a test moves."""

    auth: TokenAuthenticator
    source: Keys
    clock: Any
    revoked: Path
    now: list[float]

    def refused(self, text: str) -> None:
        with pytest.raises(InvalidKeyError):
            self.auth.authenticate(f"Bearer {text}")


@pytest.fixture
def stage(clock: Any, tmp_path: Path) -> Stage:
    source, now = Keys(keys()), [NOW]
    revoked = tmp_path / "revoked.json"
    config = JwtConfig(
        issuer="https://id", audience=("edge",), revoked_file=revoked, failed_checks_per_s=5
    )
    auth = TokenAuthenticator(config, source, clock=clock, wall_clock=lambda: now[0])
    return Stage(auth, source, clock, revoked, now)


def test_a_checked_token_is_remembered_and_never_past_its_end(stage: Stage) -> None:
    header = f"Bearer {token()}"
    caller = stage.auth.authenticate(header)
    assert stage.auth.authenticate(header) is caller
    stage.now[0] = NOW + 600
    assert stage.auth.authenticate(header) is not caller  # within the skew: checked each time
    stage.now[0] = NOW + 631
    stage.refused(token())


def test_the_health_of_keys_is_that_of_now(stage: Stage) -> None:
    assert stage.auth.key_health() == {"https://id": stage.source.health}
    assert stage.source.looks == [0.0]


def test_other_keys_end_what_was_remembered(stage: Stage) -> None:
    text = token()
    stage.auth.authenticate(f"Bearer {text}")
    stage.source.keys = {"rs256": keys()["rs256"]}
    stage.clock.advance(0.25)
    stage.refused(text)
    assert stage.source.wanted == 1


def end(file: Path, document: dict[str, list[str]]) -> None:
    new = file.with_suffix(".new")
    new.write_text(json.dumps(document))
    new.chmod(0o600)
    new.replace(file)


@pytest.mark.parametrize("document", [{"jti": ["t1"]}, {"sub": ["alice"]}])
def test_an_ended_token_is_refused_within_one_look(
    stage: Stage, document: dict[str, list[str]]
) -> None:
    text = token()
    stage.auth.authenticate(f"Bearer {text}")
    end(stage.revoked, document)
    stage.clock.advance(0.25)
    stage.refused(text)
    assert stage.auth.refused["revoked"] == 1
    stage.auth.authenticate(f"Bearer {token(jti='t2', sub='bob')}")


def test_a_broken_list_of_ended_tokens_leaves_the_last_one(stage: Stage) -> None:
    end(stage.revoked, {"jti": ["t1"]})
    stage.clock.advance(0.25)
    stage.refused(token())
    stage.revoked.unlink()
    stage.clock.advance(0.25)
    stage.refused(token())


def test_without_keys_tokens_wait(stage: Stage) -> None:
    stage.source.keys = None
    with pytest.raises(AuthBusyError) as busy:
        stage.auth.authenticate(f"Bearer {token()}")
    assert busy.value.headers["Retry-After"] == "2"


def test_bad_signatures_are_checked_only_so_often(stage: Stage) -> None:
    good = f"Bearer {token()}"
    stage.auth.authenticate(good)
    bad = [token(jti=f"x{n}")[:-8] + "AAAAAAAA" for n in range(8)]
    for text in bad[:5]:
        stage.refused(text)
    for text in bad[5:]:
        with pytest.raises(AuthBusyError):
            stage.auth.authenticate(f"Bearer {text}")
    assert stage.auth.refused == {"signature": 5}
    stage.auth.authenticate(good)
    stage.clock.advance(0.2)
    stage.auth.authenticate(f"Bearer {token(jti='t3')}")


@pytest.mark.parametrize(
    "authorization", [None, "", "Basic x", "Bearer " + "e" * 9000, "Bearer \udcff"]
)
def test_what_is_no_token_is_invalid(stage: Stage, authorization: str | None) -> None:
    with pytest.raises(InvalidKeyError):
        stage.auth.authenticate(authorization)
