"""What every Dockerfile must say. That its commands work is for tests/system/test_images.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.config import EdgeConfig
from gpu_worker.config import WorkerConfig
from origin.config import OriginConfig
from tests.fakes.dockerfile import IMAGES, ROOT, Stage, image, in_context, read_dockerfile
from wire.settings import load

KINDS: dict[str, type[Any]] = {
    "origin": OriginConfig,
    "edge": EdgeConfig,
    "worker": WorkerConfig,
}
COMMAND = ("origin", "edge_tier", "gpu_worker", "infra")
"""What the `headwater` command is made of."""
by_image = pytest.mark.parametrize("tier", IMAGES)


def final(tier: str) -> Stage:
    return image(tier)[1][-1]


@by_image
def test_it_is_built_in_two_stages_from_a_base_that_can_be_pinned(tier: str) -> None:
    arguments, stages = image(tier)
    assert [stage.name for stage in stages] == ["build", ""]
    assert all(stage.base.startswith("${") for stage in stages)
    base = arguments["PYTHON_IMAGE"]
    assert ":" in base
    assert not base.endswith(":latest")


@by_image
def test_it_runs_as_somebody_without_a_name(tier: str) -> None:
    user, _, group = final(tier).last("USER").value.partition(":")
    assert int(user) > 1000
    assert int(group) > 1000
    names = [one.name for one in final(tier).instructions]
    assert "RUN" not in names[names.index("USER") :]


@by_image
def test_what_is_installed_has_a_hash(tier: str) -> None:
    for stage in image(tier)[1]:
        for one in stage.all("RUN"):
            if " install " in one.value and "pip" in one.value:
                assert one.value.count("--require-hashes") == one.value.count("pip --python")
            assert "curl" not in one.value
            if "apt-get" in one.value:
                assert "--no-install-recommends" in one.value
                assert one.value.endswith("rm -rf /var/lib/apt/lists/*")
        assert stage.all("ADD") == []
        assert all("://" not in one.value for one in stage.all("COPY"))


@by_image
def test_nothing_is_copied_but_what_the_image_is_made_of(tier: str) -> None:
    _, (build, last) = image(tier)
    for one in build.all("COPY"):
        source = one.rest.split()[0]
        assert (ROOT / source).exists()
        assert in_context(source), f".dockerignore leaves {source} out"
    packages = {
        one.rest.split()[0] for one in build.all("COPY") if (ROOT / one.rest.split()[0]).is_dir()
    }
    own = {"origin": set(COMMAND), "edge": {"edge_tier"}, "worker": {"gpu_worker"}}
    assert packages == {"wire"} | own[tier]
    assert all(one.flags["from"] == "build" for one in last.all("COPY"))


@by_image
def test_it_stops_and_is_watched_as_the_tier_expects(tier: str) -> None:
    stage = final(tier)
    config = load(tier, KINDS[tier], file=None, environ=stage.environment)
    assert stage.last("STOPSIGNAL").value == "SIGTERM"
    assert stage.last("EXPOSE").value == str(config.port)
    check = stage.last("HEALTHCHECK").command
    assert check == ["python", "-m", "wire.health", f"http://127.0.0.1:{config.port}/readyz"]
    assert config.host == "0.0.0.0"
    assert config.drain_delay_s > 0
    modules = {"origin": "origin", "edge": "edge_tier", "worker": "gpu_worker"}
    assert stage.last("CMD").command == ["python", "-m", modules[tier]]


@by_image
def test_every_path_is_a_volume_or_a_secret(tier: str) -> None:
    stage = final(tier)
    (volume,) = stage.last("VOLUME").command
    ours = {n: v for n, v in stage.environment.items() if n.startswith("HEADWATER_")}
    for name, value in ours.items():
        assert name.startswith(f"HEADWATER_{tier.upper()}__")
        if value.startswith("/"):
            below = Path(value).parents
            assert {Path(volume), Path("/run/secrets")} & set(below), name
        if name.endswith("TOKEN_FILE"):
            assert value.startswith("/run/secrets/")


@by_image
def test_no_default_is_left_beside_the_volume(tier: str) -> None:
    """A path that is relative would be written to the working directory, which is the volume."""
    stage = final(tier)
    assert stage.last("WORKDIR").value == stage.last("VOLUME").command[0]


def test_secrets_and_what_no_image_needs_stay_out_of_the_build() -> None:
    assert in_context("wire/http_server.py")
    assert in_context("infra/docker/edge.lock")
    for path in (
        ".git/config",
        ".venv/bin/python",
        ".headwater/secrets/admin-token",
        "infra/admin-token",
        "origin/online.key",
        "tests/conftest.py",
        "infra/demo_models/cloud-large.gguf",
        "wire/__pycache__/chat.pyc",
        "infra/systemd/headwater.toml",
    ):
        assert not in_context(path), path


def test_a_dockerfile_is_read_as_docker_reads_it() -> None:
    arguments, stages = read_dockerfile(
        "ARG BASE=a:1\n# a word\nFROM ${BASE} AS build\nRUN one && \\\n    two\n"
        'FROM b:2\nENV A=1 \\\n    B="two words"\nCOPY --from=build --chown=1:2 /x /y\n'
        'HEALTHCHECK --interval=1s CMD ["a", "b"]\n'
    )
    assert arguments == {"BASE": "a:1"}
    assert stages[0].last("RUN").value == "one && two"
    assert stages[1].environment == {"A": "1", "B": "two words"}
    assert stages[1].last("COPY").flags == {"from": "build", "chown": "1:2"}
    assert stages[1].last("COPY").rest == "/x /y"
    assert stages[1].last("HEALTHCHECK").command == ["a", "b"]


@given(st.lists(st.sampled_from(["wire", "tests", "a.key", "__pycache__", "x"]), min_size=1))
def test_a_key_is_never_in_the_build(parts: list[str]) -> None:
    assert not in_context("/".join(["wire", *parts, "private.key"]))
