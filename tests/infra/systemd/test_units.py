"""The units, checked by systemd's own tools and against the configuration of the tiers."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from origin.config import OriginConfig
from tests.fakes.units import FOLDER, UNITS, Machine, environment_of, read_unit
from wire.settings import load

KINDS: dict[str, type[Any]] = {
    "origin": OriginConfig,
    "edge": EdgeConfig,
    "worker": WorkerConfig,
}
EXPOSURE = {"headwater-origin": 1.3, "headwater-edge@": 1.3, "headwater-worker": 1.6}
"""Of 10, as ``systemd-analyze security`` reckons. The worker has a GPU's devices."""
by_unit = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)


def tier_of(path: Path) -> str:
    return path.stem.removeprefix("headwater-").rstrip("@")


def analyze(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    environ = {"PATH": "/usr/bin:/bin", "SYSTEMD_LOG_LEVEL": "warning", **variables}
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=30)


def test_every_unit_is_what_systemd_takes(tmp_path: Path) -> None:
    """All at once: a run costs half a second, and a warning is a failure."""
    shutil.copytree(FOLDER, tmp_path / "units")
    names = []
    for path in (tmp_path / "units").glob("*.service"):
        # The programs of an installation are not here; this one's stands for them.
        path.write_text(path.read_text().replace("/opt/headwater/bin/python", sys.executable))
        names.append(path.name.replace("@.", "@artifacts."))
    names += [path.name for path in (tmp_path / "units").glob("*.slice")]
    done = analyze(
        "verify", "--man=no", *names, SYSTEMD_UNIT_PATH=f"{tmp_path}/units:/lib/systemd/system"
    )
    ours = [line for line in done.stderr.splitlines() if "headwater" in line]
    assert ours == []
    assert done.returncode == 0, done.stderr


def test_a_unit_that_is_wrong_is_found(tmp_path: Path) -> None:
    text = (FOLDER / "headwater-origin.service").read_text()
    text = text.replace("/opt/headwater/bin/python", sys.executable)
    (tmp_path / "bad.service").write_text(text.replace("UMask=0077", "UMask=9"))
    assert "mode value" in analyze("verify", "--man=no", str(tmp_path / "bad.service")).stderr


@by_unit
def test_the_sandbox_leaves_little_open(path: Path) -> None:
    limit = round(EXPOSURE[path.stem] * 10)
    done = analyze("security", "--offline=true", f"--threshold={limit}", str(path))
    assert done.returncode == 0, done.stdout[-3000:]
    assert "Overall exposure level" in done.stdout


@by_unit
def test_every_variable_of_a_unit_is_a_key_of_its_tier(path: Path, tmp_path: Path) -> None:
    machine, unit = Machine(tmp_path), read_unit(path)
    environ = {name: machine.expand(text) for name, text in environment_of(unit).items()}
    tier = tier_of(path)
    ours = [name for name in environ if name.startswith("HEADWATER_")]
    assert all(name.startswith(f"HEADWATER_{tier.upper()}__") for name in ours)
    load(tier, KINDS[tier], file=FOLDER / "headwater.toml", environ=environ)
    assert not [text for text in environ.values() if "%" in text]


@by_unit
def test_a_service_has_the_time_that_its_configuration_takes(path: Path) -> None:
    tier = tier_of(path)
    config = load(tier, KINDS[tier], file=FOLDER / "headwater.toml", environ={})
    stop_s = int(read_unit(path)["Service.TimeoutStopSec"][0])
    assert config.drain_delay_s > 0
    # What follows the streams, as wire.http_server asks for.
    assert config.drain_delay_s + config.drain_s + 10 <= stop_s


@by_unit
def test_an_engine_is_not_told_to_stop_before_its_streams_end(path: Path) -> None:
    unit = read_unit(path)
    assert unit["Service.KillMode"] == ["mixed"]
    assert unit["Service.Type"] == ["notify"]
    assert unit["Service.RestartPreventExitStatus"] == ["2"]


@by_unit
def test_every_secret_is_a_credential_that_the_tier_is_told_of(path: Path) -> None:
    unit = read_unit(path)
    loaded = {line.partition(":")[0] for line in unit["Service.LoadCredential"]}
    told = {
        text.removeprefix("%d/") for text in environment_of(unit).values() if text.startswith("%d/")
    }
    assert loaded == told
    assert not re.search(r"hwadm-|hwwrk-|hwedg-", path.read_text())


def test_the_planes_share_the_machine_by_weight() -> None:
    prompts = read_unit(FOLDER / "headwater-prompts.slice")
    artifacts = read_unit(FOLDER / "headwater-artifacts.slice")
    for key in ("Slice.CPUWeight", "Slice.IOWeight"):
        assert int(prompts[key][0]) >= 8 * int(artifacts[key][0])
    drop_in = read_unit(FOLDER / "headwater-edge@artifacts.service.d" / "10-plane.conf")
    assert drop_in["Service.Slice"] == ["headwater-artifacts.slice"]
    environ = environment_of(drop_in)
    assert load("edge", EdgeConfig, file=None, environ=environ).plane == "artifacts"


def test_the_environment_file_is_of_keys_that_exist() -> None:
    lines = (FOLDER / "headwater.env").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert environ
    for tier, kind in KINDS.items():
        load(tier, kind, file=None, environ=environ)


def test_the_users_are_made(tmp_path: Path) -> None:
    program = shutil.which("systemd-sysusers")
    if program is None:
        pytest.skip("systemd-sysusers is not installed")
    (tmp_path / "etc").mkdir()
    file = FOLDER / "headwater.sysusers.conf"
    subprocess.run([program, f"--root={tmp_path}", str(file)], check=True, timeout=30)
    made = {line.split(":")[0] for line in (tmp_path / "etc/passwd").read_text().splitlines()}
    assert made == {read_unit(path)["Service.User"][0] for path in UNITS}


def test_the_secrets_folder_is_roots_alone(tmp_path: Path) -> None:
    program = shutil.which("systemd-tmpfiles")
    if program is None:
        pytest.skip("systemd-tmpfiles is not installed")
    credentials = tmp_path / "etc/headwater/credentials"
    credentials.mkdir(parents=True, mode=0o755)
    (credentials / "admin-token").touch(mode=0o644)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    file = str(FOLDER / "headwater.tmpfiles.conf")
    subprocess.run([program, "--create", f"--root={tmp_path}", file], check=True, timeout=30)
    assert credentials.stat().st_mode & 0o777 == 0o700
    assert (credentials / "admin-token").stat().st_mode & 0o777 == 0o600
