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

from infra.local import Local, child_environment
from infra.local_sites import Tier
from infra.state import READY_NAME, read_secret
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
