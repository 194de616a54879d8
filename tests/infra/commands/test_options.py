from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from infra.commands.options import Access, Place
from infra.state import Ready, ReadyRegion, StateDir, write_private, write_ready
from wire.errors import ConfigError

READY = Ready(
    origin="http://127.0.0.1:1",
    edge="http://127.0.0.1:2",
    worker="http://127.0.0.1:3",
    cloud="http://127.0.0.1:4",
    api_key="hw-k-own",
    admin_token="hwadm-own",
    state_dir="",
)


@pytest.fixture
def running(tmp_path: Path) -> Path:
    """The state directory of a system that runs."""
    state = StateDir(tmp_path)
    write_ready(state.ready_file, READY)
    write_private(state.worker_token, b"hwwrk-own")
    write_private(state.cloud_token, b"hwcld-own")
    return tmp_path


def test_a_running_system_needs_no_options(running: Path) -> None:
    where = Place(state_dir=running)
    assert where.origin_admin() == Access(url=READY.origin, secret="hwadm-own")
    assert where.edge_admin() == Access(url=READY.edge, secret="hwadm-own")
    assert where.edge_client() == Access(url=READY.edge, secret="hw-k-own")


def test_options_win_over_the_state_directory(running: Path) -> None:
    where = Place(state_dir=running, edge="http://other:1/", api_key="hw-k-given")
    assert where.edge_client() == Access(url="http://other:1", secret="hw-k-given")


def test_secrets_of_the_state_directory_go_to_its_own_urls_only(running: Path) -> None:
    where = Place(state_dir=running, origin="http://evil:1", edge="http://evil:2")
    with pytest.raises(ConfigError, match="HEADWATER_ADMIN_TOKEN"):
        where.origin_admin()
    with pytest.raises(ConfigError, match="HEADWATER_API_KEY"):
        where.edge_client()
    assert {access.secret for access in where.reachable().values()} == {""}


def test_its_own_url_may_be_spelled_out(running: Path) -> None:
    where = Place(state_dir=running, edge=READY.edge + "/")
    assert where.edge_client().secret == "hw-k-own"


def test_nothing_that_runs_says_what_to_do(tmp_path: Path) -> None:
    where = Place(state_dir=tmp_path)
    for ask in (where.origin_admin, where.edge_client, where.reachable):
        with pytest.raises(ConfigError, match="headwater up"):
            ask()


def test_a_token_file_wins_over_the_environment(running: Path) -> None:
    write_private(running / "token", b"hwadm-file\n")
    where = Place(
        state_dir=running,
        origin="http://other:1",
        token_file=running / "token",
        admin_token="hwadm-environment",
    )
    assert where.origin_admin().secret == "hwadm-file"


def test_a_token_file_that_is_not_there_is_named(running: Path) -> None:
    with pytest.raises(ConfigError, match="absent"):
        Place(state_dir=running, token_file=running / "absent").origin_admin()


def test_every_tier_of_a_running_system_is_reachable_with_its_token(running: Path) -> None:
    found = Place(state_dir=running).reachable()
    assert {name: access.secret for name, access in found.items()} == {
        "origin": "hwadm-own",
        "edge": "hwadm-own",
        "worker": "hwwrk-own",
        "cloud": "hwcld-own",
    }


def test_tiers_given_on_the_command_line_are_the_only_ones(running: Path) -> None:
    found = Place(state_dir=running, edge="http://other:1", admin_token="t").reachable()
    assert found == {"edge": Access(url="http://other:1", secret="t")}


def test_keys_and_root_are_the_state_directorys_unless_given(tmp_path: Path) -> None:
    where = Place(state_dir=tmp_path)
    assert where.publisher_key(None) == tmp_path / "keys" / "publisher.key"
    assert where.trust_root(None) == tmp_path / "keys" / "root.json"
    assert where.publisher_key(Path("mine")) == Path("mine")


def with_regions(folder: Path) -> Path:
    """The state directory of two regions."""
    state = StateDir(folder)
    regions = tuple(
        ReadyRegion(
            name=name, edge=f"http://127.0.0.1:{port}", worker=f"http://127.0.0.1:{port + 1}"
        )
        for name, port in (("eu", 11), ("us", 21))
    )
    first = regions[0]
    ready = replace(READY, edge=first.edge, worker=first.worker, regions=regions)
    write_ready(state.ready_file, ready)
    write_private(state.cloud_token, b"hwcld-own")
    for region in regions:
        write_private(state.region(region.name).worker_token, f"hwwrk-{region.name}".encode())
    return folder


def test_an_edge_may_be_named_by_its_region(tmp_path: Path) -> None:
    folder = with_regions(tmp_path)
    expected = Access(url="http://127.0.0.1:21", secret="hw-k-own")
    assert Place(state_dir=folder, edge="us").edge_client() == expected
    assert Place(state_dir=folder, edge=expected.url).edge_client() == expected
    assert Place(state_dir=folder).edge_client().url == "http://127.0.0.1:11"
    assert Place(state_dir=folder, edge="us").reachable()["edge"].url == expected.url


def test_a_region_that_is_not_here_is_named_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="eu, us"):
        Place(state_dir=with_regions(tmp_path), edge="asia").edge_client()
    with pytest.raises(ConfigError, match="none"):
        Place(state_dir=tmp_path / "other", edge="asia", api_key="k").edge_client()


def test_every_tier_of_every_region_is_known(tmp_path: Path) -> None:
    where = Place(state_dir=with_regions(tmp_path))
    names = ["origin", "edge-eu", "worker-eu", "edge-us", "worker-us", "cloud"]
    assert list(where.reachable()) == names
    assert where.worker("http://127.0.0.1:22").secret == "hwwrk-us"
    assert where.worker(None).secret == "hwwrk-eu"
