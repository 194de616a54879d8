"""What runs on this machine: one site, or one for each region, each an edge and its worker; beside
them the origin and the server that plays the cloud. Paths, names and ports; it starts nothing.

Without regions there is one site, in the state directory itself. With regions each has a folder
``regions/NAME`` with configuration, stores, tokens and logs of its own: what the region's machine
would have. API keys are the same in all regions, as callers expect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.state import StateDir
from wire.errors import ConfigError

Tier = Literal["origin", "cloud", "edge", "worker"]
MODULES: dict[Tier, str] = {
    "origin": "origin",
    "cloud": "gpu_worker",
    "edge": "edge_tier",
    "worker": "gpu_worker",
}
MAX_REGIONS = 16
PORT_STEP = 10
"""Between the ports of one region and the next."""
_REGION = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where each tier listens; 0 is any free port."""

    origin: int = 0
    edge: int = 0
    worker: int = 0
    cloud: int = 0

    def of_region(self, index: int) -> Ports:
        """Those of a region, by its place in the list."""
        step = index * PORT_STEP
        return Ports(
            origin=self.origin,
            edge=self.edge and self.edge + step,
            worker=self.worker and self.worker + step,
            cloud=self.cloud,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """An edge and its worker."""

    shared: StateDir
    """The whole system's: keys, policies, admin token."""
    home: StateDir
    """This site's own."""
    region: str = ""
    ports: Ports = Ports()

    def node(self, tier: Tier) -> str:
        """The name of one of its tiers in the fleet."""
        return f"{tier}-{self.region}" if self.region else tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One process."""

    name: str
    tier: Tier
    config: Path
    run_file: Path
    log: Path
    port: int


def sites_of(state: StateDir, ports: Ports, regions: tuple[str, ...]) -> tuple[Site, ...]:
    """The sites of a system.

    Raises:
        ConfigError: a region's name cannot be one, or stands twice.
    """
    if not regions:
        return (Site(shared=state, home=state, ports=ports),)
    if len(regions) > MAX_REGIONS:
        raise ConfigError(f"{len(regions)} regions are over the {MAX_REGIONS} of one machine")
    for name in regions:
        if not _REGION.fullmatch(name):
            raise ConfigError(
                f"{name!r} cannot be a region: small letters, digits and dashes, at most 32"
            )
        if regions.count(name) > 1:
            raise ConfigError(f"the region {name} stands twice")
    return tuple(
        Site(
            shared=state,
            home=state.region(name),
            region=name,
            ports=ports.of_region(index),
        )
        for index, name in enumerate(regions)
    )


def nodes_of(state: StateDir, ports: Ports, sites: tuple[Site, ...]) -> dict[str, Node]:
    """Every process by its name, in the order in which they start."""
    nodes = [
        _node(state, "origin", "origin", ports, state.config_file),
        _node(state, "cloud", "cloud", ports, state.cloud_config_file),
    ]
    for site in sites:
        tiers: tuple[Tier, ...] = ("edge", "worker")
        nodes += [
            _node(site.home, tier, site.node(tier), site.ports, site.home.config_file)
            for tier in tiers
        ]
    return {node.name: node for node in nodes}


def _node(home: StateDir, tier: Tier, name: str, ports: Ports, config: Path) -> Node:
    return Node(
        name=name,
        tier=tier,
        config=config,
        run_file=home.run_file(tier),
        log=home.log(tier),
        port=getattr(ports, tier),
    )
