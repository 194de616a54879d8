"""What ``headwater status`` shows: every tier that can be reached, asked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.text import Text

from infra.commands.options import Access
from infra.edge_admin import TierAdmin
from infra.render import pairs, short, size, table
from wire.errors import HeadwaterError


@dataclass(slots=True)
class TierState:
    """One tier as it answered."""

    url: str
    problem: str = ""
    """Why it is not ready or not reached; empty where it is well."""
    status: dict[str, Any] = field(default_factory=dict)
    """``/admin/status``; empty where it was not shown."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All tiers, by name."""

    tiers: dict[str, TierState]

    @property
    def healthy(self) -> bool:
        """Whether every tier is ready."""
        return not any(tier.problem for tier in self.tiers.values())

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "ready": self.healthy,
            "tiers": {
                name: {
                    "url": tier.url,
                    "ready": not tier.problem,
                    "problem": tier.problem,
                    "status": tier.status,
                }
                for name, tier in self.tiers.items()
            },
        }

    def show(self, console: Console) -> None:
        """For people."""
        rows = [
            (
                name,
                tier.url,
                Text("not ready", style="red") if tier.problem else Text("ready", style="green"),
                tier.problem,
            )
            for name, tier in self.tiers.items()
        ]
        console.print(table(("tier", "url", "state", "why"), rows))
        if origin := self._status("origin"):
            _show_channels(console, origin)
        for name, tier in self.tiers.items():
            if name.startswith("edge") and tier.status:
                if name != "edge":
                    console.print(name, style="bold", markup=False)
                _show_workers(console, tier.status)
                _show_cache(console, tier.status)

    def _status(self, name: str) -> dict[str, Any]:
        tier = self.tiers.get(name)
        return tier.status if tier is not None else {}


def overview(tiers: Mapping[str, Access]) -> Overview:
    """Ask every tier; one that does not answer is shown so, and hinders no other."""
    return Overview({name: _look(access) for name, access in tiers.items()})


def _look(access: Access) -> TierState:
    state = TierState(access.url)
    with TierAdmin(access.url, access.secret or None) as admin:
        try:
            state.problem = admin.why_not_ready()
            if access.secret:
                state.status = admin.status()
        except HeadwaterError as error:
            state.problem = error.message
    return state


def _show_channels(console: Console, origin: Mapping[str, Any]) -> None:
    counts: dict[str, int] = {}
    for revision in origin.get("revisions", ()):
        counts[revision["model"]] = counts.get(revision["model"], 0) + 1
    rows = [
        (f"{c['model']}@{c['channel']}", short(c["revision"]), c["sequence"], counts[c["model"]])
        for c in origin.get("channels", ())
    ]
    columns = ("channel", "revision", "rolls", "revisions")
    console.print(table(columns, rows, right="rolls,revisions"))
    if pins := origin.get("pins"):
        rows_of_pins = [(pin["model"], short(pin["revision"])) for pin in pins]
        console.print(table(("model", "pinned"), rows_of_pins))


def _show_workers(console: Console, edge: Mapping[str, Any]) -> None:
    rows = [
        (
            w["worker"],
            w["model"],
            short(w["revision"]),
            w["state"],
            f"{w['busy']}/{w['slots']}",
            w["queue"],
            w.get("reason", ""),
        )
        for w in edge.get("workers", ())
    ]
    columns = ("worker", "model", "revision", "state", "busy", "queue", "why")
    console.print(table(columns, rows, right="busy,queue"))


def _show_cache(console: Console, edge: Mapping[str, Any]) -> None:
    cache = edge.get("cache", {})
    store, requests = cache.get("store", {}), cache.get("requests", {})
    held, room = size(store.get("used_bytes", 0)), size(store.get("capacity_bytes", 0))
    problem = edge.get("trust", {}).get("problem") or "verified"
    console.print(
        pairs(
            {
                "edge cache": f"{store.get('chunks', 0)} chunks, {held} of {room}",
                "requests": f"{requests.get('hits', 0)} hits, {requests.get('misses', 0)} misses, "
                f"{store.get('corrupt', 0)} rotten chunks dropped",
                "trust": problem,
            }
        )
    )
