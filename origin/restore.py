"""A lost repository out of what edges still have: which of it to believe. Sans-IO.

An edge keeps the newest trust bundle that it verified, with every root, and gives it to anybody.
It may lie, or be old: so what is offered is verified from the operator's own root, as clients do
(``wire.trust``), and of all that verifies the newest wins. What a liar can do is to give something
that was signed once; one honest edge beside it is enough, and how old it is, stands in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from securesystemslib.signer import Signer

from origin.documents import DAY_S, Lifetimes
from origin.signing import FIRST_ROOT, Repository
from wire.errors import ConfigError, TrustError, TrustExpiredError
from wire.trust import Trusted, root_version, verify
from wire.trust_bundle import TIMESTAMP, TrustLimits, decode_bundle


@dataclass(frozen=True, slots=True)
class Restored:
    """The newest repository that was offered."""

    source: str
    """Who offered it."""
    repository: Repository
    """Verified; its ``files`` are what an origin needs in its store."""
    versions: Mapping[str, int]
    """Each source whose offer verifies → the version of its timestamp."""
    refused: Mapping[str, str]
    """Each other source → why its offer was not believed."""


def newest(
    offers: Mapping[str, bytes],
    anchor: bytes,
    online_key: Signer,
    *,
    spare_key: Signer | None = None,
    now: float,
    accept_expired: bool = False,
    limits: TrustLimits | None = None,
) -> Restored:
    """The newest of the bundles that verify.

    Args:
        offers: source → the bytes of a bundle, unverified.
        anchor: the first ``root.json``, from the operator and not over the network.
        online_key: the origin's; the newest root must name it, or ``spare_key``.
        now: seconds since 1970. What has expired is taken within the offline grace: the origin
            renews it as soon as it runs.
        accept_expired: beyond the grace as well.

    Raises:
        ConfigError: the anchor is not the first root, or the online key is not the one in force.
        TrustError: no offer verifies.
        TrustExpiredError: the newest has expired for longer than the offline grace.
    """
    bounds = limits or TrustLimits()
    _require_first(anchor)
    verified: dict[str, Trusted] = {}
    refused: dict[str, str] = {}
    for source, data in offers.items():
        try:
            # A root that an offer gives in the anchor's place is not even looked at.
            offered = decode_bundle(data, bounds).after(1)
            verified[source] = verify(offered, anchor=anchor, held=None, now=None, limits=bounds)
        except TrustError as error:
            refused[source] = error.message
    if not verified:
        raise TrustError(
            "no edge has trust metadata that follows from this root.json; is it this origin's? "
            + "; ".join(f"{source}: {reason}" for source, reason in refused.items())
        )
    source = max(verified, key=lambda source: _rank(verified[source]))
    found = verified[source]
    if not accept_expired:
        _require_grace(found, now)
    documents = {FIRST_ROOT: anchor, **_files(found, anchor, online_key, bounds)}
    repository = Repository.load(documents, online_key, spare_key=spare_key, limits=limits)
    versions = {name: one.view.versions[TIMESTAMP] for name, one in verified.items()}
    return Restored(source, repository, versions, refused)


def _files(
    found: Trusted, anchor: bytes, online_key: Signer, limits: TrustLimits
) -> dict[str, bytes]:
    """As they are named in a store."""
    return Repository(
        online_key=online_key,
        first_root=anchor,
        trusted=found,
        lifetimes=Lifetimes(),
        limits=limits,
    ).files


def _rank(found: Trusted) -> tuple[int, int, float]:
    """A newer root stands over a newer timestamp: where the online key was rotated because
    somebody fast-forwarded it, the old one's numbers are higher and mean nothing."""
    versions = found.view.versions
    return versions["root"], versions[TIMESTAMP], found.view.expires[TIMESTAMP]


def _require_first(anchor: bytes) -> None:
    try:
        version = root_version(anchor)
    except TrustError as error:
        raise ConfigError(f"this root.json cannot be used: {error.message}") from error
    if version != 1:
        raise ConfigError(
            f"this root.json is version {version}; an origin keeps every root from the first one "
            "on, and nothing proves an older root by a newer: give the root.json that "
            "`headwater origin init` wrote"
        )


def _require_grace(found: Trusted, now: float) -> None:
    view = found.view.at(now)
    if view.beyond_grace:
        days = (now - view.expires_at) / DAY_S
        raise TrustExpiredError(
            f"the newest trust metadata of these edges (timestamp {view.versions[TIMESTAMP]}) has "
            f"expired {days:.1f} days ago, beyond the offline grace of {view.grace_s / DAY_S:.1f} "
            "days; name more edges, check this machine's clock, or take it with --accept-expired"
        )
