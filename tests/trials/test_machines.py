"""The pure parts of ``make try-machines``: what it checks first, writes, calls and judges."""

from __future__ import annotations

import io
import json
import re
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from infra.cloud_init.render import OPTIONAL, names, render, template
from tests.trials import nspawn
from tests.trials.machine_checks import fleet_lacks, verdict
from tests.trials.machine_image import Seed, certificates, hosts, make_base, run
from tests.trials.machine_origin import (
    EDGE_PORTS,
    RELEASES,
    origin_config,
    release_of,
    values_of,
)
from tests.trials.machines import PORTS, free, lacks
from tests.trials.stepping import Steps, TrialError, wait_for


def everywhere(name: str) -> str | None:
    return f"/usr/bin/{name}"


def without(absent: str) -> Callable[[str], str | None]:
    return lambda name: None if name == absent else everywhere(name)


def test_what_the_host_lacks_is_named() -> None:
    assert "root" in lacks(1000, everywhere)
    assert lacks(0, without("systemd-nspawn")) == "not installed: systemd-nspawn"
    assert lacks(0, everywhere) == ""


def test_a_port_that_somebody_has_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(TrialError, match=f"port {port};"):
            free([port])


def test_the_ports_are_those_of_the_templates() -> None:
    told = template("edge") + template("worker")
    ports = set(re.findall(r"^ +(?:port = |HEADWATER_EDGE__OWN_PORT=)(\d+)$", told, re.MULTILINE))
    assert ports == {"7401", "7402", *map(str, EDGE_PORTS)}
    assert set(map(int, ports)) <= set(PORTS)


@pytest.mark.parametrize("tier", ["edge", "worker"])
def test_the_user_data_says_where_the_release_is(tier: str) -> None:
    release = release_of(b"content", 8443)
    values = values_of(tier, "trial", "http://127.0.0.1:7400", release)
    assert values.keys() >= names(template(tier)) - OPTIONAL.keys()
    told = yaml.safe_load(render(template(tier), values))
    env = next(f for f in told["write_files"] if f["path"] == "/etc/headwater/first-boot.env")
    assert f"RELEASE_URL='https://{RELEASES}:8443/headwater-0.1.0.tar.gz'" in env["content"]
    assert f"ENROLMENT_URL='https://{RELEASES}:8443/{tier}.tar'" in env["content"]


def test_the_origin_reads_its_configuration(tmp_path: Path) -> None:
    origin = tomllib.loads(origin_config(tmp_path))["origin"]
    assert origin["edge_token_file"] == f"{tmp_path}/edge-report-token"


def test_certificates_of_a_bundle_are_taken_apart() -> None:
    one = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    two = one.replace("AAAA", "BBBB")
    key = "-----BEGIN PRIVATE KEY-----\nCCCC\n-----END PRIVATE KEY-----\n"
    assert certificates(key + one + "# a name\n" + two) == [one, two]


def test_a_machine_finds_itself_and_the_host() -> None:
    assert (
        hosts("trial-edge", ("releases.test",)) == "127.0.0.1 localhost trial-edge releases.test\n"
    )
    assert yaml.safe_load(Seed("trial-edge", "").meta_data) == {
        "instance-id": "trial-edge",
        "local-hostname": "trial-edge",
    }


def test_a_base_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="no Debian"):
        make_base(tmp_path / "made", tmp_path)


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(TrialError, match=r"status 3\nwhy"):
        run("sh", "-c", "echo why; exit 3")
    assert run("echo", "well") == "well"


def test_a_host_without_systemd_keeps_its_own_unit() -> None:
    under = nspawn.argv(Path("/m"), "trial", under_systemd=True)
    assert "--keep-unit" not in under
    assert nspawn.argv(Path("/m"), "trial", under_systemd=False) == [*under, "--keep-unit"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/usr/lib/systemd/systemd", "--system"], True),
        (["(sd-stubinit)"], False),
        ([], False),
    ],
)
def test_the_first_process_is_told_from_others(command: list[str], expected: bool) -> None:
    assert nspawn.is_init(command) is expected


def test_what_says_nothing_is_left_out_of_a_log() -> None:
    log = "FAILED\nci-info: | 9 |\n\n<14>Nov 28\nssh-rsa AAAA root@trial\n[1.0] cloud-init[9]: x\n"
    assert nspawn.telling(log, without=" cloud-init[") == "FAILED"
    assert nspawn.telling("line\n" * 400).count("line") == 30


def test_what_a_fleet_lacks_is_named() -> None:
    edges = [{"name": "e-1", "workers": 1}, {"name": "e-2", "workers": 0}]
    assert fleet_lacks({"edges": edges[:1]}) == "1 edges"
    assert fleet_lacks({"edges": edges}) == "without one worker: e-2"
    edges[1]["workers"] = 1
    assert fleet_lacks({"edges": edges, "healthy": False}) == "it is not healthy"
    assert fleet_lacks({"edges": edges, "healthy": True}) == ""


def test_the_verdict_is_in_what_fit_printed() -> None:
    said = "model  edge-small\n\nboot would take it\nthe model: 0.6 GB of 17.7 GB usable\n"
    assert verdict(said) == "boot would take it"
    assert verdict("boot would refuse it\n") == ""


def test_a_step_that_fails_is_in_the_table() -> None:
    told: list[str] = []
    steps = Steps(tell=told.append)
    with steps.step("first") as step:
        step.seen = "all"
    with pytest.raises(TrialError), steps.step("second"):
        raise TrialError("why")
    found = json.loads(json.dumps(steps.as_json("why")))
    assert [(one["step"], one["ok"], one["seen"]) for one in found["steps"]] == [
        ("first", True, "all"),
        ("second", False, "FAILED"),
    ]
    assert (found["ok"], found["problem"]) == (False, "why")
    assert told == ["first ...", "second ..."]
    out = io.StringIO()
    Console(file=out, width=80).print(steps.as_table())
    assert "FAILED" in out.getvalue()


def test_waiting_ends_with_the_machine_and_at_the_deadline() -> None:
    wait_for("it", lambda: "", 0.0, lambda: False)
    with pytest.raises(TrialError, match="the machine ended; not yet"):
        wait_for("it", lambda: "not yet", 60.0, lambda: False)
    with pytest.raises(TrialError, match="not within 0 s: not yet"):
        wait_for("it", lambda: "not yet", 0.0, lambda: True)
