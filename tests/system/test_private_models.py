"""A private model in the whole system: the worker gets it, and nobody else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra import demo_models
from infra.local_config import LOCAL_MODEL
from infra.publishing import open_publisher
from origin.publish import Published
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.publishing import with_key
from tests.fakes.replays import ask
from wire.paths import manifest_path

CHANNEL = "hidden"


@pytest.fixture
def hidden(fleet: Fleet, tmp_path: Path) -> Published:
    """A private revision that differs from every other in one number."""
    data = demo_models.path("edge-small-r1").read_bytes()
    file = tmp_path / "edge-small-hidden.gguf"
    file.write_bytes(with_key(data, "llama.attention.layer_norm_rms_epsilon", 1.25e-5))
    admin, key = fleet.local.admin_token, fleet.state.publisher_key
    with open_publisher(fleet.urls.origin, admin, key) as desk:
        return desk.publish(file, LOCAL_MODEL, CHANNEL, private=True)


def test_a_worker_boots_from_a_private_revision_that_is_closed_to_others(
    fleet: Fleet, hidden: Published, tmp_path: Path
) -> None:
    settings = {
        "channel": CHANNEL,
        "models_dir": tmp_path / "models",
        "trust_dir": tmp_path / "trust",
        "heartbeat_to": [],
    }
    with fleet.extra("worker", "hidden", **settings) as worker:
        eventually(lambda: fleet.is_ready(worker), 60)
        report = fleet.extra_status(worker)["report"]
        assert report["revision"] == hidden.revision
    for url in (fleet.urls.origin, fleet.urls.edge):
        assert ask("GET", url + manifest_path(hidden.revision)).status == 404
        listed = ask("GET", f"{url}/api/models/{LOCAL_MODEL}/refs").json["branches"]
        assert CHANNEL not in {branch["name"] for branch in listed}
        for name in (CHANNEL, hidden.revision, hidden.revision[:40]):
            assert ask("HEAD", f"{url}/{LOCAL_MODEL}/resolve/{name}/model.json").status == 404
