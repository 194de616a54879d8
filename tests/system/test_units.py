"""The systemd units' own command lines, environment and credentials, run as systemd would: ready is
said, the watchdog is fed, SIGTERM ends it well. Memory that is written cannot be run, as the units
say."""

from __future__ import annotations

import signal
from pathlib import Path

from infra.local_setup import prepare, prepare_site
from infra.local_sites import Ports, sites_of
from infra.state import StateDir
from tests.fakes.ports import free_port
from tests.fakes.units import FOLDER, Machine, read_unit, running
from wire.health import problem

CREDENTIALS = {
    "admin-token": "admin-token",
    "edge-report-token": "edge-report-token",
    "worker-token": "worker-token",
    "origin-token": "edge-pull-token",
}


async def machine_of(root: Path) -> Machine:
    """A machine on which everything was laid out as the how-to says."""
    state = StateDir(root / "made")
    state.make()
    await prepare(state)
    prepare_site(*sites_of(state, Ports(), ()))
    machine = Machine(root)
    etc, credentials = root / "etc/headwater", machine.credentials
    for folder in (etc, credentials, root / "var/lib/headwater-origin"):
        folder.mkdir(parents=True)
    (etc / "headwater.toml").write_text((FOLDER / "headwater.toml").read_text())
    (etc / "root.json").write_bytes(state.trust_root.read_bytes())
    for name, made in CREDENTIALS.items():
        file = credentials / name
        file.write_bytes((state.root / "secrets" / made).read_bytes())
        # As systemd 254 and later lays them: the group's bit is an access control list's mask.
        file.chmod(0o440)
    home = root / "var/lib/headwater-origin"
    state.keys.rename(home / "keys")
    state.origin_store.rename(home / "store")
    state.pull_tokens("origin").rename(home / "pull-tokens.json")
    return machine


async def test_origin_and_edge_run_by_their_units(tmp_path: Path) -> None:
    machine = await machine_of(tmp_path)
    file = tmp_path / "etc/headwater/headwater.toml"
    ports = {7400: free_port(), 7401: free_port()}
    text = file.read_text().replace("origin.internal", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
    for port, used in ports.items():
        text = text.replace(str(port), str(used))
    file.write_text(text.replace("drain_delay_s = 5.0", "drain_delay_s = 60.0"))
    origin = read_unit(FOLDER / "headwater-origin.service")
    edge = read_unit(FOLDER / "headwater-edge@.service")
    with (
        running(origin, machine, tmp_path / "origin.log") as first,
        running(edge, machine, tmp_path / "edge.log") as second,
    ):
        assert first.wait_for("READY")["STATUS"] == "serving"
        assert second.wait_for("READY")["STATUS"] == "serving"
        assert second.wait_for("WATCHDOG")
        for service, port in ((second, ports[7401]), (first, ports[7400])):
            url = f"http://127.0.0.1:{port}"
            assert problem(f"{url}/readyz") == ""
            service.process.send_signal(signal.SIGTERM)
            assert service.wait_for("STOPPING")["STATUS"] == "stopping"
            # Whoever balances load is told, and what comes meanwhile is still answered.
            assert "503" in problem(f"{url}/readyz")
            assert problem(f"{url}/healthz") == ""
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(30) == 0
    assert (tmp_path / "var/cache/headwater-edge/1").is_dir()
    assert (tmp_path / "var/lib/headwater-edge/pepper").stat().st_mode & 0o777 == 0o600
