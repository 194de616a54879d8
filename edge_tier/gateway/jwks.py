"""The public keys that tokens are checked with: a JWK set (RFC 7517) from a file or a URL.

Every key is pinned to one algorithm when it is read, by its own type and never by a token. Secret
keys are refused with the whole set; types that we do not use are passed over (section 5).
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import jwt
import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm

from edge_tier.gateway.private_files import file_signature, read_private
from edge_tier.gateway.strict_json import strict_object
from wire.errors import ConfigError, HeadwaterError, SourceUnavailableError
from wire.http_client import BlockingClient, ClientConfig

Algorithm = Literal["EdDSA", "RS256", "ES256"]
MAX_KEYS = 64
MAX_JWKS_BYTES = 256 * 1024
RSA_BITS = range(2048, 8193)
_MAX_CHARS = 1368  # of base64: 8192 bits and a zero byte

_KID = re.compile(r"[\x21-\x7e]{1,128}")
_BY_TYPE: dict[tuple[str, str], Algorithm] = {
    ("OKP", "Ed25519"): "EdDSA",
    ("RSA", ""): "RS256",
    ("EC", "P-256"): "ES256",
}
_SECRET = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

_log = structlog.get_logger("jwks")


class PinnedKey(msgspec.Struct, frozen=True):
    """A public key and the only algorithm that it may be used with."""

    algorithm: Algorithm
    key: Any


KeySet = Mapping[str, PinnedKey]
"""By key id."""


def parse_jwks(data: bytes) -> dict[str, PinnedKey]:
    """The keys of a JWK set that can check tokens here.

    Raises:
        ConfigError: not a JWK set, no usable key in it, too many, a secret one, or an id twice.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise ConfigError(f"JWK set: larger than {MAX_JWKS_BYTES} bytes")
    try:
        keys = strict_object(data).get("keys")
    except ValueError as error:
        raise ConfigError(f"JWK set: not JSON: {error}") from None
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ConfigError(f"JWK set: 'keys' must be a list of at most {MAX_KEYS}")
    found: dict[str, PinnedKey] = {}
    for jwk in keys:
        if isinstance(jwk, dict) and (pinned := _pinned(jwk)) is not None:
            if jwk["kid"] in found:
                raise ConfigError("JWK set: a key id stands there twice")
            found[jwk["kid"]] = pinned
    if not found:
        raise ConfigError("JWK set: no key for EdDSA, RS256 or ES256 with a 'kid'")
    return found


def _pinned(jwk: dict[str, Any]) -> PinnedKey | None:
    if _SECRET & jwk.keys():
        raise ConfigError("JWK set: it holds a secret key; publish the public parts only")
    algorithm = _algorithm(jwk)
    if algorithm is None:
        return None
    if any(isinstance(jwk.get(name), str) and len(jwk[name]) > _MAX_CHARS for name in "nexy"):
        raise ConfigError(f"JWK set: key {jwk['kid']!r} is longer than any that is used")
    try:
        key = jwt.PyJWK(jwk, algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ArithmeticError, ValueError, TypeError, KeyError):
        raise ConfigError(f"JWK set: key {jwk['kid']!r} cannot be read") from None
    if algorithm == "RS256" and (
        key.key_size not in RSA_BITS or key.public_numbers().e.bit_length() > 64
    ):
        raise ConfigError(f"JWK set: RSA key {jwk['kid']!r} must have 2048 to 8192 bits")
    return PinnedKey(algorithm, key)


def _algorithm(jwk: dict[str, Any]) -> Algorithm | None:
    """What this key is for; None where it is not for checking tokens here."""
    kid, kind, curve = jwk.get("kid"), jwk.get("kty"), jwk.get("crv", "")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        return None
    if not isinstance(kind, str) or not isinstance(curve, str):
        return None
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or operations != ["verify"]:
        return None
    algorithm = _BY_TYPE.get((kind, curve))
    return algorithm if jwk.get("alg", algorithm) == algorithm else None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHealth:
    """How well a source of keys is doing."""

    keys: int
    """In force; 0: no token can be checked."""
    age_s: float
    """Since it was last confirmed that they are the newest; since the start where never."""
    read: int
    failed: int
    """Times that the set was read well, and that it could not be."""
    refresh_s: float = 0.0
    """How often it is read while all is well; 0: as soon as it changes."""
    max_stale_s: float = math.inf
    """At which age the keys are given up."""


class KeySource(Protocol):
    """Where the keys come from. ``keys`` is replaced whole, so that a change is seen by identity.

    ``None``: there are none yet, or none any more that could be relied on.
    """

    @property
    def keys(self) -> KeySet | None: ...

    @property
    def health(self) -> KeyHealth:
        """Of now."""
        ...

    def look(self) -> None:
        """Whether something changed; cheap and never raises. Called from time to time."""
        ...

    def want(self) -> None:
        """A token named a key that is not known. Never waits."""
        ...

    async def run(self) -> None:
        """Keep the keys fresh until cancelled."""
        ...


class JwksFile:
    """A JWK set in a file that others may read but not write; followed like the key file.

    Raises:
        ConfigError: it cannot be used at the start. Later the last good set stays in force.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._seen = file_signature(path)
        self._spoilt_at_s: float | None = None
        self._times_read = self._times_failed = 0
        self.keys: KeySet | None = self._read()

    @property
    def health(self) -> KeyHealth:
        """A file that is as it was read is the newest."""
        since_s = self._spoilt_at_s
        return KeyHealth(
            keys=len(self.keys or ()),
            age_s=0.0 if since_s is None else self._clock() - since_s,
            read=self._times_read,
            failed=self._times_failed,
        )

    def look(self) -> None:
        seen, self._seen = self._seen, None  # what cannot be looked at now is read again later
        try:
            self._seen = file_signature(self._path)
            if self._seen != seen:  # noted first: reported once
                self.keys = self._read()
        except ConfigError as error:
            self._times_failed += 1
            if self._spoilt_at_s is None:
                self._spoilt_at_s = self._clock()
            _log.error("JWK set unusable, the last one stays in force", reason=error.message)

    def want(self) -> None:
        """Nothing to do: the file is looked at anyway."""

    async def run(self) -> None:
        """Nothing to do: whoever asks looks."""
        await asyncio.Event().wait()

    def _read(self) -> KeySet:
        keys = parse_jwks(read_private(self._path, limit_bytes=MAX_JWKS_BYTES, public=True))
        self._times_read, self._spoilt_at_s = self._times_read + 1, None
        return keys


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchConfig:
    """How a JWK set is fetched."""

    refresh_s: float = 300.0
    """Between two fetches while nothing calls for one; also the longest pause after failures."""
    min_interval_s: float = 10.0
    """Between two fetches, whatever tokens name; also the first pause after a failure."""
    max_stale_s: float = 86_400.0
    """How long the last good set is used while no newer can be had."""
    timeout_s: float = 5.0
    """For the connection, and for a server that sends nothing."""


class JwksUrl:
    """A JWK set behind a URL, fetched by a background task alone: a request never waits for it.

    What a token names can bring one fetch forward, at most one in ``min_interval_s``. Redirects
    are not followed. Failures are retried with growing pauses, and the last good set serves on.

    Args:
        fetch: one attempt; raises ``HeadwaterError``.
    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[bytes]],
        config: FetchConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._fetch = fetch
        self._config = config
        self._clock = clock
        self._sleep = sleep
        self._wanted = asyncio.Event()
        self._fresh_at_s = clock()
        self._times_read = self._times_failed = 0
        self.keys: KeySet | None = None

    @property
    def health(self) -> KeyHealth:
        return KeyHealth(
            keys=len(self.keys or ()),
            age_s=self._clock() - self._fresh_at_s,
            read=self._times_read,
            failed=self._times_failed,
            refresh_s=self._config.refresh_s,
            max_stale_s=self._config.max_stale_s,
        )

    def look(self) -> None:
        if self.keys is not None and self._clock() - self._fresh_at_s > self._config.max_stale_s:
            self.keys = None
            _log.error("JWK set too old to be relied on", max_stale_s=self._config.max_stale_s)

    def want(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        failures = 0
        while True:
            self._wanted.clear()
            failures = 0 if await self.refresh() else failures + 1
            # Nothing that a token says shortens this pause.
            await self._sleep(self._pause_s(failures))
            if failures == 0:
                await self._until_wanted(self._config.refresh_s - self._config.min_interval_s)

    async def refresh(self) -> bool:
        """One attempt; whether it gave keys. What it gave replaces the set if it differs."""
        try:
            keys = parse_jwks(await self._fetch())
        except HeadwaterError as error:
            self._times_failed += 1
            _log.warning("JWK set not fetched", reason=error.message, have=self.keys is not None)
            return False
        self._fresh_at_s = self._clock()
        self._times_read += 1
        if self.keys is None or not _same(keys, self.keys):
            self.keys = keys
            _log.info("JWK set changed", kids=sorted(keys))
        return True

    def _pause_s(self, failures: int) -> float:
        least = self._config.min_interval_s
        return float(min(least * 2 ** min(max(failures - 1, 0), 10), self._config.refresh_s))

    async def _until_wanted(self, most_s: float) -> None:
        waiting = asyncio.ensure_future(self._wanted.wait())
        sleeping = asyncio.ensure_future(self._sleep(max(0.0, most_s)))
        try:
            await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()


def fetcher(url: str, config: FetchConfig) -> Callable[[], Awaitable[bytes]]:
    """Gets the bytes at ``url``, bounded in size and time; in a thread.

    Raises:
        ConfigError: not an http or https URL.
    """
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    bounds = ClientConfig(
        connect_timeout_s=config.timeout_s,
        stall_timeout_s=config.timeout_s,
        idle_connections=0,
    )
    client = BlockingClient(f"{parts.scheme}://{parts.netloc}", config=bounds)

    def fetch() -> bytes:
        answer = client.get(target, limit_bytes=MAX_JWKS_BYTES)
        if answer.status != 200:
            raise SourceUnavailableError(f"{client.netloc} answered {answer.status} for the JWKs")
        return bytes(answer.body)

    return lambda: asyncio.to_thread(fetch)


def _same(one: KeySet, other: KeySet) -> bool:
    return one.keys() == other.keys() and all(
        one[kid].algorithm == other[kid].algorithm and one[kid].key == other[kid].key for kid in one
    )
