"""The configuration that the launcher writes: one TOML file for the three tiers (with regions, one
for the origin and one for each region, as their machines would have), and one for the server that
plays the cloud. A pure function of the sites and the URLs known so far; it is written again before
every start, so the file on disk is what is in force.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from infra.local_sites import Ports, Site
from infra.state import StateDir

Value: TypeAlias = "str | int | float | bool | list[str] | Mapping[str, Value]"
HEADER = (
    "# Written by `headwater up` at every start. To change a value, set it in the environment:\n"
    "# HEADWATER_EDGE__REFRESH_S=2, for example, or HEADWATER_CLOUD__... for the cloud server.\n"
)
LOCAL_MODEL = "edge-small"
CLOUD_MODEL = "cloud-large"


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """Where each tier answers; empty while that is not known."""

    origin: str = ""
    edge: str = ""
    worker: str = ""
    cloud: str = ""

    def knowing(self, tier: str, url: str) -> Urls:
        """These URLs and one more."""
        return replace(self, **{tier: url})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What differs from the tiers' defaults on one machine, where everybody is near."""

    heartbeat_s: float = 0.5
    heartbeat_ttl_s: float = 2.5
    refresh_s: float = 5.0


def tier_tables(
    state: StateDir, ports: Ports, urls: Urls, pace: Pace | None = None
) -> dict[str, Value]:
    """The tables ``[origin]``, ``[edge]`` and ``[worker]`` of a system without regions."""
    site = Site(shared=state, home=state, ports=ports)
    return origin_tables(state, ports) | site_tables(site, urls, pace)


def origin_tables(state: StateDir, ports: Ports, edges: Sequence[str] = ()) -> dict[str, Value]:
    """The table ``[origin]``; ``edges`` are the URLs that the console's playground may ask."""
    origin: dict[str, Value] = {
        "port": ports.origin,
        "store": str(state.origin_store),
        "keys_dir": str(state.keys),
        "admin_token_file": str(state.admin_token),
        "pull_tokens_file": str(state.pull_tokens("origin")),
        "edge_token_file": str(state.edge_report_token),
        "ready_file": str(state.run_file("origin")),
        "console": {"edges": list(edges)},
    }
    return {"origin": origin}


def site_tables(site: Site, urls: Urls, pace: Pace | None = None) -> dict[str, Value]:
    """The tables ``[edge]`` and ``[worker]`` of a site."""
    pace = pace or Pace()
    shared, home = site.shared, site.home
    fleet: dict[str, Value] = {
        "name": site.node("edge"),
        "token_file": str(shared.edge_report_token),
    }
    if site.region:
        fleet["region"] = site.region
    edge: dict[str, Value] = {
        "port": site.ports.edge,
        "origins": _known(urls.origin),
        "origin_token_file": str(home.edge_pull_token),
        "pull_tokens_file": str(home.pull_tokens("edge")),
        "trust_root": str(shared.trust_root),
        "trust_dir": str(home.tier("edge") / "trust"),
        "refresh_s": pace.refresh_s,
        "admin_token_file": str(shared.admin_token),
        "worker_token_file": str(home.worker_token),
        "ready_file": str(home.run_file("edge")),
        "fleet": fleet,
        "cache": {"folder": str(home.tier("edge") / "cache")},
        "gateway": _gateway(site, urls),
    }
    worker = _worker(shared, home, "worker") | {
        "name": site.node("worker"),
        "port": site.ports.worker,
        "model": LOCAL_MODEL,
        "sources": _known(urls.edge),
        "heartbeat_to": _known(urls.edge),
        "heartbeat_s": pace.heartbeat_s,
        "heartbeat_ttl_s": pace.heartbeat_ttl_s,
        "token_file": str(home.worker_token),
    }
    return {"edge": edge, "worker": worker}


def cloud_tables(state: StateDir, ports: Ports, urls: Urls) -> dict[str, Value]:
    """The table ``[worker]`` of the cloud server: no edge of its own, another model and token."""
    worker = _worker(state, state, "cloud") | {
        "port": ports.cloud,
        "model": CLOUD_MODEL,
        "sources": _known(urls.origin),
        "token_file": str(state.cloud_token),
    }
    return {"worker": worker}


def render(tables: Mapping[str, Value]) -> str:
    """These tables as a file."""
    return HEADER + to_toml(tables)


def to_toml(tables: Mapping[str, Value]) -> str:
    """Tables as TOML 1.0: the part of the language that configuration needs."""
    return "".join(_table(name, table) for name, table in tables.items())


def _table(name: str, table: Value) -> str:
    if not isinstance(table, Mapping):
        raise TypeError(f"{name} is not a table")
    inner = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    lines = [f"{key} = {_value(value)}\n" for key, value in table.items() if key not in inner]
    own = f"\n[{name}]\n{''.join(lines)}"
    return own + "".join(_table(f"{name}.{key}", value) for key, value in inner.items())


def _value(value: Value) -> str:
    # JSON's strings are TOML's, but for the delete character, which TOML wants escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _gateway(site: Site, urls: Urls) -> dict[str, Value]:
    state = site.shared
    cloud: dict[str, Value] = {"url": urls.cloud, "models": [CLOUD_MODEL]}
    if urls.cloud:
        cloud["token_file"] = str(state.cloud_token)
    return {
        "keys_file": str(state.edge_keys),
        "pepper_file": str(state.edge_pepper),
        "policy_file": str(state.edge_policies),
        "identity": {"audit": {"file": str(site.home.edge_audit)}},
        "cloud": cloud,
    }


def _worker(shared: StateDir, home: StateDir, name: str) -> dict[str, Value]:
    folder = home.tier(name)
    return {
        "name": name,
        "trust_root": str(shared.trust_root),
        "trust_dir": str(folder / "trust"),
        "models_dir": str(folder / "models"),
        "ready_file": str(home.run_file(name)),
    }


def local_url(port: int) -> str:
    """Where a tier on this machine answers, or will."""
    return f"http://127.0.0.1:{port}"


def _known(url: str) -> list[str]:
    return [url] if url else []
