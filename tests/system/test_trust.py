"""Keys that change under a running system, and an edge in an attacker's hands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.demo_models import NAMES
from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.hostile_edge import hostile_edge
from wire.errors import TrustError, TrustExpiredError
from wire.http_client import BlockingClient
from wire.paths import TRUST_BUNDLE
from wire.trust_bundle import CHANNELS, TIMESTAMP, TrustBundle, TrustLimits, decode_bundle


def headwater(fleet: Fleet, *arguments: str) -> dict[str, Any]:
    """The JSON of a command on the fleet's state directory."""
    given = [*arguments, "--state-dir", str(fleet.state.root), "--json"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def published(fleet: Fleet) -> TrustBundle:
    client = BlockingClient(fleet.urls.origin)
    try:
        answer = client.get(f"{TRUST_BUNDLE}?root=0", limit_bytes=1 << 24)
    finally:
        client.close()
    return decode_bundle(bytes(answer.body), TrustLimits())


@pytest.mark.parametrize(
    "flags", [["--online"], ["--root", "--publisher"], []], ids=["online", "root+publisher", "none"]
)
def test_running_tiers_follow_a_rotation_without_a_restart(
    fleet: Fleet, tmp_path: Path, flags: list[str]
) -> None:
    pids = {tier: fleet.pid(tier) for tier in ("origin", "edge", "worker")}
    before = fleet.status("edge")["trust"]["versions"]["root"]
    done = headwater(fleet, "origin", "rotate", *flags)
    assert done["accepted"]
    for tier in ("edge", "worker"):

        def has_followed(tier: Any = tier) -> bool:
            return bool(fleet.status(tier)["trust"]["versions"].get("root") == before + 1)

        eventually(has_followed)
        assert fleet.status(tier)["trust"]["state"] == "fresh"
    assert {tier: fleet.pid(tier) for tier in ("origin", "edge", "worker")} == pids
    # Publishing and rolling go on with the new keys, and a cold client follows from the first root.
    fleet.roll(fleet.revision())
    added = fleet.publish_demo(NAMES[0], "beta").revision
    assert fleet.revision(channel="beta") == added
    assert fleet.pull(LOCAL_MODEL, tmp_path / "models").report.revision == fleet.revision()
    fleet.settle()


def test_a_pull_from_a_hostile_edge_is_refused_and_an_honest_one_beside_it_is_enough(
    fleet: Fleet, tmp_path: Path
) -> None:
    """Frozen, mixed and garbled documents, and bent bytes; with an honest edge it all arrives."""
    bundle = published(fleet)
    garbled = {**bundle.roles, CHANNELS: bundle.roles[CHANNELS].replace(b"stable", b"stab1e")}
    unsigned = {**bundle.roles, TIMESTAMP: b'{"signed": {}, "signatures": []}'}
    with hostile_edge() as hostile:
        hostile.passed_to = fleet.urls.edge
        hostile.damage = lambda body: body[:-1] + bytes([body[-1] ^ 1]) if body else body
        for number, roles in enumerate((garbled, unsigned)):
            hostile.serve(TrustBundle(roles, bundle.roots))
            folder = tmp_path / str(number)
            with pytest.raises(TrustError) as caught:
                fleet.pull(LOCAL_MODEL, folder, hostile.url)
            assert not isinstance(caught.value, TrustExpiredError)
            assert not list(folder.glob("**/*.gguf"))
            pulled = fleet.pull(LOCAL_MODEL, folder, hostile.url, fleet.urls.edge)
            assert pulled.report.revision == fleet.revision()
            assert list(folder.glob("**/*.gguf"))
