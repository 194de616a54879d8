"""The compose file: read by Compose itself, and held against the images and the tiers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from origin.config import OriginConfig
from tests.fakes.dockerfile import IMAGES, ROOT, image
from wire.settings import load

FOLDER = ROOT / "infra" / "compose"
KINDS: dict[str, type[Any]] = {
    "origin": OriginConfig,
    "edge": EdgeConfig,
    "worker": WorkerConfig,
}
by_image = pytest.mark.parametrize("tier", IMAGES)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return found


def defaults(value: str) -> str:
    """``${NAME:-default}`` → its default."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_compose_takes_it_with_a_gpu_and_all_that_watches(tmp_path: Path) -> None:
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")
    command = [program, "-f", "compose.yaml", "-f", "gpu.yaml", "--profile", "watch", "config"]
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        command, cwd=FOLDER, env=environ, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read = yaml.safe_load(done.stdout)
    assert set(read["services"]) >= {*IMAGES, "redis", "prometheus", "grafana"}
    assert read["services"]["edge"]["image"] == "headwater-edge:local"


def test_every_service_has_as_few_rights_as_can_be(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged", False)
        assert service["logging"]["options"]["max-size"]
        assert not service["image"].endswith(":latest")
        assert ":" in service["image"]


@by_image
def test_every_variable_is_a_key_of_the_tier(compose: dict[str, Any], tier: str) -> None:
    given = compose["services"][tier].get("environment", {})
    assert all(name.startswith(f"HEADWATER_{tier.upper()}__") for name in given)
    environ = {name: defaults(str(value)) for name, value in given.items()}
    load(tier, KINDS[tier], file=None, environ=image(tier)[1][-1].environment | environ)


@by_image
def test_every_secret_of_an_image_is_given_to_its_service(
    compose: dict[str, Any], tier: str
) -> None:
    wanted = {
        Path(value).name
        for value in image(tier)[1][-1].environment.values()
        if value.startswith("/run/secrets/")
    }
    assert set(compose["services"][tier]["secrets"]) == wanted
    for name in wanted:
        assert compose["secrets"][name] == {"file": f"./secrets/{name}"}


@by_image
def test_a_container_has_the_time_that_its_streams_take(compose: dict[str, Any], tier: str) -> None:
    config = load(tier, KINDS[tier], file=None, environ=image(tier)[1][-1].environment)
    grace_s = seconds(compose["services"][tier]["stop_grace_period"])
    assert config.drain_delay_s + config.drain_s + 10 <= grace_s


@by_image
def test_what_is_kept_is_a_volume(compose: dict[str, Any], tier: str) -> None:
    (volume,) = image(tier)[1][-1].last("VOLUME").command
    name, _, place = compose["services"][tier]["volumes"][0].partition(":")
    assert place == volume
    assert name in compose["volumes"]


def test_the_tiers_find_each_other(compose: dict[str, Any]) -> None:
    services = compose["services"]
    text = (FOLDER / "compose.yaml").read_text() + (FOLDER / "prometheus.yml").read_text()
    for host, port in re.findall(r"(?:http://|redis://|\")([a-z]\w+):(\d{4})", text):
        if host == "redis":
            continue
        assert image(host)[1][-1].last("EXPOSE").value == port
    assert services["edge"]["depends_on"]["origin"] == {"condition": "service_healthy"}
    assert services["worker"]["depends_on"]["edge"] == {"condition": "service_healthy"}


def test_prometheus_takes_what_it_is_told(tmp_path: Path) -> None:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    command = [program, "check", "config", str(FOLDER / "prometheus.yml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_only_the_edge_is_open_to_others(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for port in service.get("ports", ()):
            assert defaults(port).startswith("127.0.0.1:") or name == "edge"


def test_no_secret_stands_in_a_file_that_is_shipped() -> None:
    assert "infra/compose/secrets/" in (ROOT / ".gitignore").read_text()
    for path in (".env", "compose.yaml", "gpu.yaml"):
        assert not re.search(r"hw(adm|wrk|edg)-|PASSWORD=", (FOLDER / path).read_text())
