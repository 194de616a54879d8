"""What an operator has to know of the signed metadata: keys, expiries, and what is due."""

from __future__ import annotations

from tuf.api.metadata import Role, Root, Targets

from origin.documents import DAY_S, read
from origin.rotate import Current
from wire.trust_bundle import CHANNELS, REVISIONS, ROLES, TARGETS

WARN_S = 30 * DAY_S
"""How long before a role of an offline key expires the operator is told."""
_REMEDIES = {
    Root.type: "run `headwater origin rotate` with the root keys",
    TARGETS: "run `headwater origin renew` with the publisher's key",
    REVISIONS: "run `headwater origin renew` with the publisher's key",
}
"""Roles of offline keys, which no origin can renew by itself."""


def report(current: Current, now: float, *, warn_s: float = WARN_S) -> dict[str, object]:
    """What ``headwater origin trust`` says. Times are seconds since 1970.

    Args:
        warn_s: how long before an expiry to warn.
    """
    view = current.view.at(now)
    return {
        "state": view.state,
        "expires_at": view.expires_at,
        "grace_s": view.grace_s,
        "grace_until": view.grace_until,
        "roles": [_role(current, name) for name in (Root.type, *ROLES)],
        "warnings": _warnings(current, now, warn_s),
    }


def _role(current: Current, name: str) -> dict[str, object]:
    owner: Root | Targets = current.signed_root
    if name in (REVISIONS, CHANNELS):
        owner = read(current.targets, Targets).signed
    role: Role = owner.get_delegated_role(name)
    keys = [owner.get_key(keyid) for keyid in role.keyids]
    return {
        "role": name,
        "version": current.view.versions[name],
        "expires": current.view.expires[name],
        "threshold": role.threshold,
        "keys": [{"id": key.keyid, "algorithm": key.scheme} for key in keys],
    }


def _warnings(current: Current, now: float, warn_s: float) -> list[str]:
    warnings = []
    for role in (Root.type, *ROLES):
        left_s = current.view.expires[role] - now
        remedy = _REMEDIES.get(role)
        if left_s <= 0:
            told = remedy or "the origin no longer renews it; look at its log"
            warnings.append(f"{role} has expired: {told}")
        elif remedy and left_s < warn_s:
            warnings.append(f"{role} expires in {left_s / DAY_S:.0f} days: {remedy}")
    return warnings
