from __future__ import annotations

from pathlib import Path

import pytest

from infra.local_sites import MAX_REGIONS, Ports, nodes_of, sites_of
from infra.state import StateDir
from wire.errors import ConfigError

STATE = StateDir(Path("/state"))
PORTS = Ports(origin=1, edge=2, worker=3, cloud=4)


def test_without_regions_everything_is_in_the_state_directory() -> None:
    (site,) = sites_of(STATE, PORTS, ())
    assert site.home == site.shared == STATE
    nodes = nodes_of(STATE, PORTS, (site,))
    assert list(nodes) == ["origin", "cloud", "edge", "worker"]
    assert [node.port for node in nodes.values()] == [1, 4, 2, 3]
    assert nodes["edge"].config == nodes["origin"].config == STATE.config_file


def test_every_region_has_an_edge_and_a_worker_in_a_folder_of_its_own() -> None:
    sites = sites_of(STATE, PORTS, ("eu", "us"))
    nodes = nodes_of(STATE, PORTS, sites)
    assert list(nodes) == ["origin", "cloud", "edge-eu", "worker-eu", "edge-us", "worker-us"]
    assert [node.port for node in nodes.values()] == [1, 4, 2, 3, 12, 13]
    assert len({node.log for node in nodes.values()}) == len(nodes)
    assert nodes["worker-us"].config.parent == STATE.region("us").root


def test_any_free_port_stays_any_free_port() -> None:
    assert sites_of(STATE, Ports(), ("eu", "us"))[1].ports == Ports()


@pytest.mark.parametrize("name", ["", "EU", "-eu", "eu-", "../up", "e u", "x" * 33])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a region"):
        sites_of(STATE, PORTS, (name,))


def test_a_region_stands_once_and_there_are_not_too_many() -> None:
    with pytest.raises(ConfigError, match="twice"):
        sites_of(STATE, PORTS, ("eu", "eu"))
    with pytest.raises(ConfigError, match="over the 16"):
        sites_of(STATE, PORTS, tuple(f"r{n}" for n in range(MAX_REGIONS + 1)))
