from __future__ import annotations

import re
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from infra.local_config import (
    Urls,
    Value,
    cloud_tables,
    local_url,
    origin_tables,
    render,
    site_tables,
    tier_tables,
    to_toml,
)
from infra.local_sites import Ports, sites_of
from infra.state import StateDir
from origin.config import OriginConfig
from wire.settings import load

STATE = StateDir(Path("/state"))
PORTS = Ports(origin=1, edge=2, worker=3, cloud=4)
URLS = Urls(
    origin="http://127.0.0.1:1",
    edge="http://127.0.0.1:2",
    worker="http://127.0.0.1:3",
    cloud="http://127.0.0.1:4",
)

keys = st.from_regex(re.compile(r"[a-z][a-z_0-9]{0,12}"), fullmatch=True)
text = st.text(st.characters(exclude_categories=["Cs"]))
scalars = (
    st.integers(-(2**53), 2**53) | st.booleans() | text | st.lists(text) | st.floats(-1e9, 1e9)
)
inner: st.SearchStrategy[dict[str, Value]] = st.recursive(
    st.dictionaries(keys, scalars, max_size=4),
    lambda below: st.dictionaries(keys, scalars | below, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(keys, inner, max_size=3))
def test_what_is_written_can_be_read(tables: dict[str, Value]) -> None:
    assert tomllib.loads(to_toml(tables)) == tables


def test_every_tier_takes_its_table(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(render(tier_tables(STATE, PORTS, URLS)))
    origin = load("origin", OriginConfig, file=file, environ={})
    edge = load("edge", EdgeConfig, file=file, environ={})
    worker = load("worker", WorkerConfig, file=file, environ={})
    assert (origin.port, edge.port, worker.port) == (1, 2, 3)
    assert edge.origins == (URLS.origin,)
    assert edge.fleet.token_file == origin.edge_token_file is not None
    assert edge.gateway.cloud.url == URLS.cloud
    assert worker.sources == worker.heartbeat_to == (URLS.edge,)


def test_the_cloud_server_is_a_worker_without_an_edge(tmp_path: Path) -> None:
    file = tmp_path / "cloud.toml"
    file.write_text(render(cloud_tables(STATE, PORTS, URLS)))
    cloud = load("worker", WorkerConfig, file=file, environ={})
    assert cloud.model == "cloud-large"
    assert cloud.sources == (URLS.origin,)
    assert cloud.heartbeat_to == ()


def test_the_cloud_has_a_token_and_folders_of_its_own(tmp_path: Path) -> None:
    tiers, cloud = tier_tables(STATE, PORTS, URLS), cloud_tables(STATE, PORTS, URLS)
    worker, server = tiers["worker"], cloud["worker"]
    assert isinstance(worker, dict)
    assert isinstance(server, dict)
    for name in ("name", "token_file", "trust_dir", "models_dir", "ready_file"):
        assert worker[name] != server[name]


def test_the_files_hold_no_secret() -> None:
    written = render(tier_tables(STATE, PORTS, URLS)) + render(cloud_tables(STATE, PORTS, URLS))
    assert set(re.findall(r'(\w+token\w*) = "([^"]*)"', written)) <= {
        ("admin_token_file", "/state/secrets/admin-token"),
        ("origin_token_file", "/state/secrets/edge-pull-token"),
        ("pull_tokens_file", "/state/secrets/origin-pull-tokens.json"),
        ("pull_tokens_file", "/state/secrets/edge-pull-tokens.json"),
        ("worker_token_file", "/state/secrets/worker-token"),
        ("token_file", "/state/secrets/worker-token"),
        ("edge_token_file", "/state/secrets/edge-report-token"),
        ("token_file", "/state/secrets/edge-report-token"),
        ("token_file", "/state/secrets/cloud-token"),
    }


def test_urls_that_are_not_known_yet_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(render(tier_tables(STATE, Ports(), Urls())))
    edge = load("edge", EdgeConfig, file=file, environ={})
    assert edge.origins == ()
    assert edge.gateway.cloud.url == ""
    assert edge.gateway.cloud.token_file == ""


def test_learning_a_url_leaves_the_others() -> None:
    assert Urls(origin="http://o").knowing("edge", "http://e") == Urls(
        origin="http://o", edge="http://e"
    )


def test_the_console_may_ask_the_edges() -> None:
    edges = [local_url(2), local_url(12)]
    tables = tomllib.loads(render(origin_tables(STATE, PORTS, edges)))
    assert tables["origin"]["console"]["edges"] == ["http://127.0.0.1:2", "http://127.0.0.1:12"]


def test_a_region_has_what_its_own_machine_would_have(tmp_path: Path) -> None:
    sites = sites_of(STATE, PORTS, ("eu-west", "us-east"))
    assert set(origin_tables(STATE, PORTS)) == {"origin"}
    edges, workers = [], []
    for site in sites:
        file = tmp_path / f"{site.region}.toml"
        file.write_text(render(site_tables(site, URLS)))
        edges.append(load("edge", EdgeConfig, file=file, environ={}))
        workers.append(load("worker", WorkerConfig, file=file, environ={}))
    assert [edge.fleet.region for edge in edges] == ["eu-west", "us-east"]
    assert [edge.fleet.name for edge in edges] == ["edge-eu-west", "edge-us-east"]
    assert [worker.name for worker in workers] == ["worker-eu-west", "worker-us-east"]
    assert [edge.port for edge in edges] == [2, 12]
    assert [worker.port for worker in workers] == [3, 13]
    for edge, worker in zip(edges, workers, strict=True):
        assert edge.worker_token_file == worker.token_file
    for name in ("worker_token_file", "origin_token_file", "trust_dir", "ready_file"):
        assert len({getattr(edge, name) for edge in edges}) == 2
    for name in ("models_dir", "trust_dir", "ready_file"):
        assert len({getattr(worker, name) for worker in workers}) == 2
    assert len({edge.cache.folder for edge in edges}) == 2
    # What callers hold opens every region, and one root is trusted everywhere.
    assert len({(edge.gateway.keys_file, edge.trust_root) for edge in edges}) == 1
