"""What first boot is told, checked by cloud-init itself, by bash, and by the tiers' own loaders."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.cloud_init.render import FOLDER, MAX_USER_DATA_BYTES
from infra.config_view import load_config
from tests.fakes.first_boot import VALUES, user_data
from tests.fakes.units import FOLDER as UNITS
from tests.fakes.units import read_unit

ROOT = FOLDER.parents[1]
SCRIPTS = sorted(FOLDER.glob("*.sh"))
TIERS = sorted(VALUES)


def files(tier: str) -> dict[str, str]:
    """The files that user data writes: path → content."""
    return {file["path"]: file["content"] for file in parsed(tier)["write_files"]}


def parsed(tier: str) -> Any:
    return yaml.safe_load(user_data(tier))


def schema(file: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("cloud-init") is None:
        pytest.skip("cloud-init is not installed here")
    command = ["cloud-init", "schema", "--config-file", str(file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_cloud_init_takes_all_of_them_and_refuses_a_misspelt_one(tmp_path: Path) -> None:
    for tier in TIERS:
        file = tmp_path / f"{tier}.yaml"
        file.write_text(user_data(tier))
        done = schema(file)
        assert done.returncode == 0, f"{tier}: {done.stdout}{done.stderr}"
    file.write_text(user_data(tier).replace("ssh_authorized_keys:", "ssh_authorised_keys:"))
    assert schema(file).returncode != 0


@pytest.mark.parametrize("tier", TIERS)
def test_it_is_small_and_holds_no_secret(tier: str) -> None:
    text = user_data(tier)
    assert len(text.encode()) < MAX_USER_DATA_BYTES / 4
    assert not [word for word in ("SECRET", "password", "PRIVATE KEY", "api_key") if word in text]
    user = parsed(tier)["users"][0]
    assert user["lock_passwd"] is True
    assert parsed(tier)["disable_root"] is True
    assert "unattended-upgrades" in parsed(tier)["packages"]


@pytest.mark.parametrize("tier", TIERS)
def test_the_tiers_own_loader_takes_the_configuration(tier: str, tmp_path: Path) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(files(tier)["/etc/headwater/headwater.toml"])
    config: Any = load_config(tier, file)
    if tier == "edge":
        assert config.origins == ("https://origin.models.example.com",)
        assert config.reuse_port
        envs = [files(tier)[f"/etc/headwater/edge-{number}.env"] for number in (1, 2)]
        assert [text.split("OWN_PORT=")[1].strip() for text in envs] == ["7411", "7412"]
        assert config.fleet.region == "us-ord"
    elif tier == "worker":
        assert config.sources == config.heartbeat_to
        assert config.advertise_url == "http://10.0.0.101:7402"
    else:
        assert config.store == "s3://headwater-origin-store/store"
        # It is behind a server that speaks TLS, on the same machine.
        assert config.host == "127.0.0.1"


def test_every_script_is_one_for_bash() -> None:
    for script in SCRIPTS:
        subprocess.run(["bash", "-n", str(script)], check=True, timeout=30)
    for tier in TIERS:
        text = files(tier)["/usr/local/sbin/headwater-first-boot"]
        subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=30)
    if (found := shutil.which("shellcheck")) is not None:
        subprocess.run([found, *map(str, SCRIPTS)], check=True, timeout=60)


def release(tmp_path: Path) -> Path:
    """What `git archive` would give, of what install.sh needs."""
    source = tmp_path / "src"
    for name in ("infra/systemd", "infra/cloud_init", "infra/docker"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", source)
    return source


@pytest.mark.parametrize("tier", TIERS)
def test_install_lays_out_what_start_starts(tier: str, tmp_path: Path) -> None:
    source, root = release(tmp_path), tmp_path / "root"
    (root / "opt/headwater-0.1.0").mkdir(parents=True)
    # What pip does is tests/system/test_images.py's.
    (root / "opt/headwater-0.1.0/complete").touch()
    environ = {"PATH": os.environ["PATH"], "ROOT": str(root)}
    for _ in range(2):  # doing it again changes nothing
        subprocess.run(
            ["bash", str(source / "infra/cloud_init/install.sh"), tier],
            env=environ, check=True, timeout=60,
        )  # fmt: skip
    assert (root / "opt/headwater").readlink() == Path("/opt/headwater-0.1.0")
    assert (root / "etc/headwater/tier").read_text() == f"{tier}\n"
    start = (root / "usr/local/sbin/headwater-start").read_text()
    units = root / "etc/systemd/system"
    named = {
        word for word in start.replace("(", " ").replace(")", " ").split() if ".service" in word
    }
    assert {name.replace("@1", "@").replace("@2", "@") for name in named} == {
        path.name for path in UNITS.glob("*.service")
    }
    for name in named:
        assert (units / name.replace("@1", "@").replace("@2", "@")).is_file()
    path = read_unit(units / "headwater-start.path")
    assert path["Path.PathExists"] == ["/etc/headwater/credentials/complete"]
    if shutil.which("systemd-analyze"):
        checked = subprocess.run(
            ["systemd-analyze", "verify", str(units / "headwater-start.path")],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert "Unknown" not in checked.stderr
    # A drop-in goes with a unit that exists, and sets what its unit would set otherwise.
    for written in files(tier):
        if written.endswith(".service.d/bucket.conf"):
            assert (units / Path(written).parent.name.removesuffix(".d")).is_file()


def test_an_unknown_tier_installs_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(FOLDER / "install.sh"), "cache"],
        env={"PATH": os.environ["PATH"], "ROOT": str(tmp_path)},
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.returncode == 2
    assert not list(tmp_path.iterdir())


def first_boot(tmp_path: Path, sha256: str, archive: Path) -> subprocess.CompletedProcess[str]:
    """The script of user data, with its folders below ``tmp_path`` and curl replaced by cp."""
    tools = tmp_path / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "curl").write_text(
        f'#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\ncp {archive} "$2"\n'
    )
    (tools / "curl").chmod(0o755)
    text = files("edge")["/usr/local/sbin/headwater-first-boot"]
    for folder in ("/etc/headwater", "/opt/headwater-src", "/root/"):
        text = text.replace(folder, str(tmp_path) + folder)
    (tmp_path / "root").mkdir(exist_ok=True)
    (tmp_path / "etc/headwater").mkdir(parents=True, exist_ok=True)
    (tmp_path / "etc/headwater/first-boot.env").write_text(
        f"RELEASE_URL='https://x'\nRELEASE_SHA256='{sha256}'\n"
    )
    environ = {"PATH": f"{tools}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash"], input=text, env=environ, capture_output=True, text=True, timeout=60
    )


def test_another_release_than_the_named_one_is_not_installed(tmp_path: Path) -> None:
    archive = tmp_path / "release.tar.gz"
    script = tmp_path / "headwater/infra/cloud_init/install.sh"
    script.parent.mkdir(parents=True)
    script.write_text("echo installing $1\n")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "headwater", "headwater")
    sums = subprocess.run(["sha256sum", str(archive)], capture_output=True, text=True, check=True)
    done = first_boot(tmp_path, sums.stdout.split()[0], archive)
    assert done.stdout.splitlines()[-1] == "installing edge", done.stderr
    bad = first_boot(tmp_path, "1" * 64, archive)
    assert bad.returncode != 0
    assert "installing" not in bad.stdout


def test_an_enrolment_has_roots_files_only_for_root(tmp_path: Path) -> None:
    folder = tmp_path / "region"
    (folder / "credentials").mkdir(parents=True)
    (folder / "credentials/worker-token").write_text("t")
    (folder / "root.json").write_text("{}")
    (folder / "publisher.key").write_text("stays here")
    archive = tmp_path / "enrolment.tar"
    subprocess.run(
        ["bash", str(FOLDER / "enrol.sh"), "--pack", str(folder), str(archive)],
        check=True, timeout=30,
    )  # fmt: skip
    with tarfile.open(archive) as tar:
        members = {member.name: member for member in tar}
    assert set(members) == {"root.json", "credentials", "credentials/worker-token"}
    assert all(member.uid == 0 and member.mode & 0o077 == 0 for member in members.values())
    assert archive.stat().st_mode & 0o077 == 0


def test_python_finds_model_and_sources_as_start_asks_for_them(tmp_path: Path) -> None:
    """The line of Python in start.sh, on the worker's own configuration."""
    line = next(
        line for line in (FOLDER / "start.sh").read_text().splitlines() if "tomllib" in line
    )
    code = line.split(" -c '")[1].split("' ")[0]
    file = tmp_path / "headwater.toml"
    file.write_text(files("worker")["/etc/headwater/headwater.toml"])
    told = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert told == "edge-small http://10.0.0.11:7401,http://10.0.0.12:7401\n"
