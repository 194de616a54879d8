from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local import Local, child_environment, prepare, prepare_site
from infra.local_sites import Ports, Tier, sites_of
from infra.state import READY_NAME, StateDir, read_secret
from origin.keys import load_key
from tests.fakes.waiting import alive, until
from wire.errors import ConflictError

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = """
import asyncio, sys
from pathlib import Path
from infra.local import Local

async def main():
    async with Local(Path(sys.argv[1])) as local:
        await local.start("origin")
        await local.ready("origin")
        print(local.child("origin").pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


def content(state: StateDir) -> dict[str, bytes]:
    """Every file of a state directory with its bytes."""
    return {
        str(path.relative_to(state.root)): path.read_bytes()
        for path in state.root.rglob("*")
        if path.is_file()
    }


async def prepare_all(state: StateDir) -> None:
    """What a start makes, without regions."""
    await prepare(state)
    prepare_site(*sites_of(state, Ports(), ()))


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.make()
    return made


async def test_the_first_start_makes_keys_tokens_and_a_repository(state: StateDir) -> None:
    await prepare_all(state)
    load_key(state.publisher_key)
    load_key(state.keys / "root.key", read_secret(state.passphrase_file))
    assert state.trust_root.exists()
    assert (state.origin_store / "trust" / "documents.json").exists()
    files = (state.admin_token, state.worker_token, state.cloud_token, state.edge_report_token)
    assert len({read_secret(file) for file in files}) == 4


async def test_every_secret_is_for_its_owner_alone(state: StateDir) -> None:
    await prepare_all(state)
    secret = [*(state.root / "secrets").iterdir(), *state.keys.glob("*.key"), state.passphrase_file]
    assert len(secret) == 11
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}


async def test_later_starts_find_everything_again(state: StateDir) -> None:
    await prepare_all(state)
    first = content(state)
    await prepare_all(state)
    assert content(state) == first


async def test_a_first_start_that_was_cut_off_is_begun_anew(state: StateDir) -> None:
    (state.root / ".initializing" / "keys").mkdir(parents=True)
    (state.root / ".initializing" / "keys" / "root.key").write_text("half")
    await prepare_all(state)
    load_key(state.keys / "root.key", read_secret(state.passphrase_file))
    assert not (state.root / ".initializing").exists()


async def test_a_first_start_cut_off_while_moving_is_finished(state: StateDir) -> None:
    await prepare_all(state)
    first = content(state)
    whole = state.root / ".initialized"
    whole.mkdir()
    state.origin_store.rename(whole / "origin")
    await prepare_all(state)
    assert content(state) == first


async def test_keys_that_are_there_are_never_replaced(state: StateDir) -> None:
    state.keys.mkdir()
    (state.keys / "root.key").write_text("mine")
    await prepare_all(state)
    assert [path.name for path in state.keys.iterdir()] == ["root.key"]


def test_the_commands_own_secrets_stay_with_the_command() -> None:
    environ = {"HEADWATER_API_KEY": "k", "HEADWATER_ADMIN_TOKEN": "t", "HOME": "/root"}
    tiers: tuple[Tier, ...] = ("origin", "edge", "worker", "cloud")
    for tier in tiers:
        kept = child_environment(environ, tier)
        assert kept["HOME"] == "/root"
        assert not {"HEADWATER_API_KEY", "HEADWATER_ADMIN_TOKEN"} & set(kept)


def test_the_cloud_server_has_variables_of_its_own() -> None:
    environ = {"HEADWATER_WORKER__MODEL": "edge-small", "HEADWATER_CLOUD__MODEL": "cloud-xl"}
    worker = child_environment(environ, "worker")
    cloud = child_environment(environ, "cloud")
    assert worker["HEADWATER_WORKER__MODEL"] == "edge-small"
    assert cloud["HEADWATER_WORKER__MODEL"] == "cloud-xl"
    assert not [name for name in (*worker, *cloud) if name.startswith("HEADWATER_CLOUD__")]


def test_a_folder_named_like_a_tier_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    (tmp_path / "origin" / "__init__.py").write_text("raise SystemExit('the wrong origin')")
    command = [sys.executable, "-c", "import origin.config"]
    environ = child_environment(dict(os.environ), "origin")
    subprocess.run(command, cwd=tmp_path, env=environ, check=True)


async def test_a_tier_starts_and_stops_with_the_context(tmp_path: Path) -> None:
    async with Local(tmp_path / "state") as local:
        url = await local.start("origin")
        await local.ready("origin")
        pid = local.child("origin").pid
        assert local.urls.origin == url
        local.announce()
        assert f'origins = ["{url}"]' in local.state.config_file.read_text()
        assert alive(pid)
    assert not alive(pid)


async def test_the_api_key_is_made_once(tmp_path: Path) -> None:
    async with Local(tmp_path) as first:
        key = first.new_api_key
        assert key == first.api_key
    async with Local(tmp_path) as second:
        assert second.new_api_key == ""
        assert second.api_key == key


async def test_a_key_that_opens_nothing_is_replaced(tmp_path: Path) -> None:
    async with Local(tmp_path) as first:
        old = first.api_key
        first.state.edge_keys.unlink()
    async with Local(tmp_path) as second:
        assert second.new_api_key == second.api_key != old


async def test_a_second_launcher_is_refused_and_disturbs_nothing(tmp_path: Path) -> None:
    async with Local(tmp_path) as first:
        first.urls = first.urls.knowing("edge", "http://127.0.0.1:2")
        first.announce()
        with pytest.raises(ConflictError, match="in use"):
            async with Local(tmp_path):
                pass
        assert (tmp_path / READY_NAME).exists()


async def test_ready_files_say_the_same_and_go_with_the_system(tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "ready"
    async with Local(tmp_path / "state") as local:
        ready = local.announce(other)
        assert json.loads(other.read_text()) == json.loads(local.state.ready_file.read_text())
        assert ready.state_dir == str(tmp_path / "state")
        assert stat.S_IMODE(other.stat().st_mode) == 0o600
    assert not other.exists()
    assert not (tmp_path / "state" / READY_NAME).exists()


async def test_a_stale_ready_file_is_removed_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / READY_NAME).write_text("{}")
    async with Local(tmp_path):
        assert not (tmp_path / READY_NAME).exists()


async def test_a_killed_launcher_leaves_no_process(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", LAUNCHER, str(tmp_path / "state")]
    launcher = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, env=environ
    )
    assert launcher.stdout is not None
    tier = int(await launcher.stdout.readline())
    assert alive(tier)
    launcher.send_signal(signal.SIGKILL)
    await launcher.communicate()
    await until(lambda: not alive(tier))


async def test_each_region_has_tokens_of_its_own_and_all_share_the_keys(tmp_path: Path) -> None:
    async with Local(tmp_path, regions=("a", "b")) as local:
        homes = [local.state.region(name) for name in ("a", "b")]
        assert local.api_key == local.new_api_key
    secrets = [read_secret(home.worker_token) for home in homes]
    secrets += [read_secret(home.edge_pull_token) for home in homes]
    assert len(set(secrets)) == 4
    assert not (tmp_path / "secrets" / "worker-token").exists()


async def test_the_regions_of_a_system_stand_in_its_ready_file(tmp_path: Path) -> None:
    async with Local(tmp_path / "two", regions=("a", "b")) as local:
        ready = json.loads(local.announce().state_dir and local.state.ready_file.read_text())
        assert [region["name"] for region in ready["regions"]] == ["a", "b"]
        assert "[edge]" not in local.state.config_file.read_text()
        assert 'region = "b"' in local.state.region("b").config_file.read_text()
    async with Local(tmp_path / "one") as local:
        local.announce()
        assert "regions" not in json.loads(local.state.ready_file.read_text())
