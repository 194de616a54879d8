from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.jwks import (
    MAX_JWKS_BYTES,
    FetchConfig,
    JwksFile,
    JwksUrl,
    KeyHealth,
    fetcher,
    parse_jwks,
)
from tests.fakes.tier import Canned, stub_tier
from tests.fakes.virtual_time import now_s, virtual_time
from wire.errors import ConfigError, SourceUnavailableError


@lru_cache
def public(algorithm: str) -> dict[str, Any]:
    makers: dict[str, Callable[[], Any]] = {
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "small": lambda: rsa.generate_private_key(65537, 1024),
    }
    name: Any = "RS256" if algorithm == "small" else algorithm
    maker: Any = jwt.get_algorithm_by_name(name)
    return dict(maker.to_jwk(makers[algorithm]().public_key(), as_dict=True))


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def key(algorithm: str = "EdDSA", **changes: Any) -> dict[str, Any]:
    made = {**public(algorithm), "kid": "k1", "use": "sig", "key_ops": ["verify"], **changes}
    return {name: value for name, value in made.items() if value is not None}


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
def test_a_key_is_pinned_by_its_own_type(algorithm: str) -> None:
    for stated in (algorithm, None):
        found = parse_jwks(document(key(algorithm, alg=stated)))
        assert found["k1"].algorithm == algorithm


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "HS256"},
        {"alg": "none"},
        {"kid": None},
        {"kid": "a b"},
        {"kid": 7},
        {"kid": "k" * 129},
        {"use": "enc"},
        {"key_ops": ["sign"]},
        {"crv": "Ed448"},
        {"kty": "oct"},
        {"kty": None},
    ],
)
def test_a_key_for_something_else_is_passed_over(changes: dict[str, Any]) -> None:
    other = key(**({"kid": "k0"} | changes))
    assert parse_jwks(document(other, key())).keys() == {"k1"}
    with pytest.raises(ConfigError, match="no key"):
        parse_jwks(document(other))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"[]", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"keys":{}}', "list"),
        (b'{"keys":[],"keys":[]}', "twice"),
        (b" " * (MAX_JWKS_BYTES + 1), "larger"),
        (document(*[key(kid=f"k{n}") for n in range(65)]), "at most 64"),
        (document(key(), key("ES256")), "twice"),
        (document(key(d="c2VjcmV0")), "secret"),
        (document(key(), {"kty": "oct", "k": "c2VjcmV0", "kid": "s"}), "secret"),
        (document(key("small")), "2048"),
        (document(key(x="AA")), "cannot be read"),
        (document(key("RS256", n="A" * 3000)), "longer"),
    ],
)
def test_a_set_that_cannot_be_trusted_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        parse_jwks(data)


@given(data=st.binary(max_size=80) | st.binary(max_size=40).map(b'{"keys":[%b]}'.__mod__))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_jwks(data)


def write(path: Path, data: bytes) -> None:
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").replace(path)


def test_a_file_is_followed_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "jwks.json"
    write(path, document(key()))
    source = JwksFile(path)
    write(path, document(key(kid="k2")))
    source.look()
    assert source.keys is not None
    assert source.keys.keys() == {"k2"}
    write(path, b"{")
    source.look()
    assert source.keys.keys() == {"k2"}
    path.chmod(0o666)
    with pytest.raises(ConfigError, match="go-w"):
        JwksFile(path)


def test_the_age_of_a_file_is_how_long_it_has_been_unusable(tmp_path: Path, clock: Any) -> None:
    path = tmp_path / "jwks.json"
    write(path, document(key()))
    source = JwksFile(path, clock=clock)
    clock.advance(1000)
    assert source.health == KeyHealth(keys=1, age_s=0, read=1, failed=0)
    path.unlink()
    for _ in range(3):
        source.look()
        clock.advance(20)
    assert source.health == KeyHealth(keys=1, age_s=60, read=1, failed=1)
    write(path, document(key(kid="k1"), key(kid="k2")))
    source.look()
    assert source.health == KeyHealth(keys=2, age_s=0, read=2, failed=1)


class Provider:
    """An identity provider that a test can break."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self.data = document(key())
        self.works = True

    async def fetch(self) -> bytes:
        self.at.append(now_s())
        if not self.works:
            raise SourceUnavailableError("down")
        return self.data


CONFIG = FetchConfig(refresh_s=300, min_interval_s=10, max_stale_s=1000)


async def started(provider: Provider) -> tuple[JwksUrl, asyncio.Task[None]]:
    source = JwksUrl(provider.fetch, CONFIG, clock=now_s)
    task = asyncio.create_task(source.run())
    await asyncio.sleep(1)
    return source, task


def usable(source: JwksUrl) -> bool:
    source.look()
    return source.keys is not None


@virtual_time
async def test_a_set_is_fetched_at_the_start_and_then_now_and_then() -> None:
    provider = Provider()
    source, task = await started(provider)
    assert source.keys is not None
    first = source.keys
    await asyncio.sleep(650)
    assert provider.at == [0, 300, 600]
    assert source.keys is first  # nothing changed: nothing remembered is forgotten
    provider.data = document(key(kid="k2"))
    await asyncio.sleep(300)
    assert source.keys.keys() == {"k2"}
    task.cancel()


@virtual_time
async def test_a_storm_of_unknown_keys_is_one_fetch_an_interval() -> None:
    provider = Provider()
    source, task = await started(provider)
    for _ in range(1000):
        source.want()
        await asyncio.sleep(0.1)
    assert provider.at == pytest.approx([10.0 * n for n in range(len(provider.at))])
    assert 10 <= len(provider.at) <= 11
    task.cancel()


@virtual_time
async def test_the_last_good_set_serves_while_there_is_no_newer() -> None:
    provider = Provider()
    source, task = await started(provider)
    provider.works = False
    await asyncio.sleep(980)
    assert usable(source)
    failed = provider.at[1:]
    assert failed == [300, 310, 330, 370, 450, 610, 910]  # growing pauses
    await asyncio.sleep(100)
    assert not usable(source)
    provider.works = True
    await asyncio.sleep(300)
    assert usable(source)
    task.cancel()


@virtual_time
async def test_the_age_is_counted_from_the_last_good_fetch() -> None:
    provider = Provider()
    source, task = await started(provider)
    await asyncio.sleep(298)
    assert (source.health.age_s, source.health.read, source.health.failed) == (299, 1, 0)
    provider.works = False
    await asyncio.sleep(301)
    health = KeyHealth(keys=1, age_s=600, read=1, failed=5, refresh_s=300, max_stale_s=1000)
    assert source.health == health
    task.cancel()


@virtual_time
async def test_a_set_that_cannot_be_one_does_not_replace_a_good_one() -> None:
    provider = Provider()
    source, task = await started(provider)
    provider.data = b"<html>"
    await asyncio.sleep(400)
    assert source.keys is not None
    task.cancel()


async def test_a_url_is_fetched_within_bounds() -> None:
    answers = {
        "GET /keys": Canned(document(key())),
        "GET /large": Canned(b" " * (MAX_JWKS_BYTES + 1)),
        "GET /moved": Canned(b"", status=302, headers={"Location": "/keys?v=1"}),
    }
    with stub_tier(answers) as tier:
        source = JwksUrl(fetcher(f"{tier.url}/keys?v=1", CONFIG), CONFIG)
        assert await source.refresh()
        assert source.keys is not None
        for path in ("large", "moved", "missing"):
            assert not await JwksUrl(fetcher(f"{tier.url}/{path}", CONFIG), CONFIG).refresh()
    assert not await source.refresh()
    assert source.keys.keys() == {"k1"}
    with pytest.raises(ConfigError, match="http"):
        fetcher("file:///etc/passwd", CONFIG)
