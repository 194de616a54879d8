"""How the commands about trust tell people what they found."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

_DAY_S = 86_400.0


def show_rotation(console: Console, told: dict[str, Any]) -> None:
    """What a signer should look at (``origin.rotate.describe_rotation``)."""
    from infra.render import pairs, table

    shown = {
        "file": told["file"],
        "root": f"version {told['root_version']}, expires {_day(told['root_expires'])}, "
        f"grace {told['grace_s'] / _DAY_S:g} days",
        "documents": ", ".join(told["documents"]),
    }
    console.print(pairs(shown))
    rows = [
        (role, keys["threshold"], *(_ids(keys[kind]) for kind in ("kept", "added", "removed")))
        for role, keys in told["keys"].items()
    ]
    console.print(table(("role", "threshold", "kept", "added", "removed"), rows))
    for missing in told["missing"]:
        console.print(f"missing: {missing}", markup=False)
    if not told["missing"]:
        console.print("Enough have signed; hand it over with --submit.")


def show_report(console: Console, found: dict[str, Any]) -> None:
    """What is signed (``origin.trust_report``)."""
    from infra.render import pairs, table

    shown = {
        "state": found["state"],
        "expires": _day(found["expires_at"]),
        "offline grace": f"{found['grace_s'] / _DAY_S:g} days, until {_day(found['grace_until'])}",
    }
    console.print(pairs(shown))
    rows = [
        (
            role["role"],
            role["version"],
            _day(role["expires"]),
            f"{role['threshold']} of {len(role['keys'])}",
            _ids([key["id"] for key in role["keys"]]),
            role["keys"][0]["algorithm"],
        )
        for role in found["roles"]
    ]
    console.print(table(("role", "version", "expires", "threshold", "keys", "algorithm"), rows))
    for warning in found["warnings"]:
        console.print(f"warning: {warning}", style="yellow", markup=False)


def show_pairs(console: Console, told: dict[str, str]) -> None:
    """Names and values."""
    from infra.render import pairs

    console.print(pairs(told))


def _ids(keyids: list[str]) -> str:
    return " ".join(keyid[:8] for keyid in keyids) or "-"


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
