"""What the pods' files, variables, ports and times have to do with each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.fakes.kubernetes import (
    OVERLAYS,
    ROOT,
    SECTIONS,
    Object,
    Pod,
    bytes_of,
    configuration,
    image_variables,
    mounted,
    named,
    of_kind,
    overlay,
    pod,
    tiers,
)
from tests.fakes.kubernetes_checks import grace_problem, startup_budget_s
from wire.discovery import PREFIX
from wire.errors import ConfigError

SECRET_FILES = (
    "admin_token_file",
    "edge_token_file",
    "worker_token_file",
    "token_file",
    "origin_token_file",
    "pull_tokens_file",
    "keys_dir",
)
MODEL_BYTES = "headwater.dev/model-bytes"
PULL_RATE = "headwater.dev/pull-bytes-per-second"


@pytest.fixture(params=OVERLAYS)
def built(request: pytest.FixtureRequest) -> list[Object]:
    return overlay(request.param)


def configured(objects: list[Object], folder: Path) -> list[tuple[Pod, Any]]:
    return [(found, configuration(objects, found, folder)) for found in tiers(objects)]


def files_of(config: Any) -> list[Path]:
    """Every file with a secret that a tier is told of."""
    found = [getattr(config, name) for name in SECRET_FILES if getattr(config, name, None)]
    if hasattr(config, "gateway"):
        gateway, fleet = config.gateway, config.fleet
        found += [gateway.keys_file, gateway.pepper_file, fleet.token_file]
    if getattr(config, "s3", None) is not None and config.s3.credentials_file:
        found.append(config.s3.credentials_file)
    return found


def test_the_tiers_take_what_they_are_told(built: list[Object], tmp_path: Path) -> None:
    for found, config in configured(built, tmp_path):
        assert config.host == "0.0.0.0", found.name
        assert found.ports == {"http": config.port}


def test_what_an_image_presets_does_not_stand_over_a_file(
    built: list[Object], tmp_path: Path
) -> None:
    """But for how long a tier serves on after SIGTERM, which is the image's to say."""
    if not (ROOT.parent / "docker").exists():
        pytest.skip("there are no Dockerfiles in infra/docker")
    for found in tiers(built):
        preset = image_variables(found)
        assert preset
        delay = f"HEADWATER_{SECTIONS[found.component].upper()}__DRAIN_DELAY_S"
        rest = {name: value for name, value in preset.items() if name != delay}
        plain = configuration(built, found, tmp_path)
        assert configuration(built, found, tmp_path, preset=rest) == plain, found.name


@pytest.mark.parametrize("name", ["origin", "eu-west", "us-east"])
def test_the_variables_say_what_the_files_say(name: str, tmp_path: Path) -> None:
    objects = overlay(name)
    for found, config in configured(objects, tmp_path):
        file = configuration(objects, found, tmp_path, shared=False)
        assert files_of(config) == files_of(file), found.name
        assert config.drain_s == file.drain_s, found.name


def test_a_misspelt_key_would_be_seen(tmp_path: Path) -> None:
    objects = overlay("laptop")
    named(objects, "ConfigMap", "headwater-region")["data"]["HEADWATER_EDGE__DRAIN"] = "1"
    with pytest.raises(ConfigError, match="no key 'drain'"):
        configuration(objects, pod(objects, "edge"), tmp_path)


def test_secrets_come_from_secrets_and_state_goes_where_it_may(
    built: list[Object], tmp_path: Path
) -> None:
    """No path of a configuration is outside of what is mounted: the image cannot be written."""
    for found, config in configured(built, tmp_path):
        for file in files_of(config):
            assert "secret" in mounted(found, str(file)), f"{found.name}: {file}"
        for name in ("trust_dir", "models_dir"):
            if hasattr(config, name):
                kinds = set(mounted(found, str(getattr(config, name)))) - {"name"}
                assert kinds <= {"emptyDir", "claim"}, f"{found.name}: {name}"
        if hasattr(config, "trust_root"):
            assert mounted(found, str(config.trust_root))["configMap"]["name"] == "headwater-trust"


def test_a_pod_is_not_killed_while_it_drains(built: list[Object], tmp_path: Path) -> None:
    for found, config in configured(built, tmp_path):
        drain_s = config.drain_s + getattr(config, "drain_delay_s", 0.0)
        assert grace_problem(found, drain_s) == ""


def test_a_grace_that_is_too_short_is_seen() -> None:
    edge = pod(overlay("eu-west"), "edge")
    assert "are less than preStop 10 + drain 200" in grace_problem(edge, 200)


def test_a_full_cache_fits_its_volume(built: list[Object], tmp_path: Path) -> None:
    """A pod whose emptyDir is over its limit is evicted, with all that it had cached."""
    for found, config in configured(built, tmp_path):
        if SECTIONS[found.component] != "edge":
            continue
        limit = bytes_of(mounted(found, str(config.cache.folder))["emptyDir"]["sizeLimit"])
        cache = config.cache.store.cache_bytes
        on_their_way = config.cache.fill_bytes_in_flight
        assert cache + on_their_way + 2**26 <= limit <= 1.35 * cache, found.name


def test_a_worker_has_time_for_its_first_pull(built: list[Object], tmp_path: Path) -> None:
    for found, config in configured(built, tmp_path):
        if found.component != "worker":
            continue
        size, rate = int(found.annotations[MODEL_BYTES]), int(found.annotations[PULL_RATE])
        assert startup_budget_s(found) >= size / rate + config.load_timeout_s


def test_a_worker_s_disk_holds_the_revision_before_and_the_next(tmp_path: Path) -> None:
    for name in ("eu-west", "us-east"):
        objects = overlay(name)
        worker = pod(objects, "worker")
        config = configuration(objects, worker, tmp_path)
        claim = mounted(worker, str(config.models_dir))["claim"]
        held = (2 + config.keep_previous) * int(worker.annotations[MODEL_BYTES])
        assert bytes_of(claim["resources"]["requests"]["storage"]) > held
        assert claim["storageClassName"] == "local-nvme"


def test_heartbeats_and_reports_reach_everybody_behind_a_name(
    built: list[Object], tmp_path: Path
) -> None:
    """A name that is looked up must have no address of its own, and be of this namespace."""
    services = {s["metadata"]["name"]: s["spec"] for s in of_kind(built, "Service")}
    for found, config in configured(built, tmp_path):
        urls = getattr(config, "heartbeat_to", ()) or (
            config.fleet.report_to if SECTIONS[found.component] == "edge" else ()
        )
        for url in urls:
            host, _, port = url.removeprefix(PREFIX).partition("//")[2].partition(":")
            if url.startswith(PREFIX):
                assert services[host]["clusterIP"] == "None", found.name
                assert services[host]["ports"][0]["port"] == int(port)
            else:
                assert url.startswith("https://"), found.name


def test_a_worker_hears_of_edges_before_they_are_ready() -> None:
    pods = named(overlay("eu-west"), "Service", "edge-pods")["spec"]
    assert pods["publishNotReadyAddresses"] is True


def test_a_region_asks_the_origin_over_tls_only(tmp_path: Path) -> None:
    for name in ("eu-west", "us-east"):
        for found, config in configured(overlay(name), tmp_path):
            if found.component == "edge":
                assert all(url.startswith("https://") for url in config.origins)
                assert config.fleet.region == name
                assert len(config.fleet.report_to) == 2


def test_planes_are_apart_where_asked_for(tmp_path: Path) -> None:
    objects = overlay("us-east")
    planes = {
        found.workload["metadata"]["name"]: config.plane
        for found, config in configured(objects, tmp_path)
        if SECTIONS[found.component] == "edge"
    }
    assert planes == {
        "edge": "prompts",
        "edge-artifacts": "artifacts",
        "node-cache": "artifacts",
    }
    prompts, artifacts = pod(objects, "edge").labels, pod(objects, "edge-artifacts").labels
    served = {
        service: [
            plane
            for plane, labels in (("prompts", prompts), ("artifacts", artifacts))
            if named(objects, "Service", service)["spec"]["selector"].items() <= labels.items()
        ]
        for service in ("edge", "edge-artifacts", "edge-pods")
    }
    assert served == {
        "edge": ["prompts"],
        "edge-artifacts": ["artifacts"],
        "edge-pods": ["prompts"],
    }


def test_a_worker_asks_the_cache_of_its_node_first(tmp_path: Path) -> None:
    objects = overlay("us-east")
    config = configuration(objects, pod(objects, "worker"), tmp_path)
    assert config.sources == ("http://node-cache:7401", "http://edge-artifacts:7401")
    service = named(objects, "Service", "node-cache")["spec"]
    assert service["internalTrafficPolicy"] == "Local"


def test_gpus_are_asked_for_in_regions_only() -> None:
    for name in ("eu-west", "us-east"):
        assert pod(overlay(name), "worker").container["resources"]["limits"]["nvidia.com/gpu"]
    laptop = overlay("laptop")
    assert "nvidia.com/gpu" not in str(laptop)
    assert {found["kind"] for found in laptop}.isdisjoint({"ScaledObject", "PodMonitor"})


def test_a_laptop_is_not_asked_for_much() -> None:
    """A kind cluster on two cores and 4 GB must be able to schedule it."""
    milli, memory = 0, 0
    for found in tiers(overlay("laptop")):
        assert found.workload["spec"]["replicas"] == 1, found.name
        asked = found.container["resources"]["requests"]
        milli += int(asked["cpu"].removesuffix("m"))
        memory += bytes_of(asked["memory"])
    assert milli <= 1_000
    assert memory <= 2**30
