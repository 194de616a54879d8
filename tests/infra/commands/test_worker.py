from __future__ import annotations

import json
import stat
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from infra.state import Ready, StateDir, write_private, write_ready
from tests.fakes.tier import Canned, StubTier, stub_tier
from tests.infra.test_timeline import made


@pytest.fixture
def worker() -> Iterator[StubTier]:
    waterfalls = [msgspec.to_builtins(made()), msgspec.to_builtins(made("roll"))]
    answer = Canned({"waterfalls": waterfalls, "report": {}})
    with stub_tier({"GET /admin/status": answer}) as stub:
        yield stub


@pytest.fixture
def state(tmp_path: Path, worker: StubTier, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    """A system that runs here, the stub its worker."""
    monkeypatch.setenv("HEADWATER_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("HEADWATER_ADMIN_TOKEN", raising=False)
    made_here = StateDir(tmp_path)
    away = "http://127.0.0.1:9"
    ready = Ready(
        origin=away,
        edge=away,
        worker=worker.url,
        cloud=away,
        api_key="k",
        admin_token="a",
        state_dir=str(tmp_path),
    )
    write_ready(made_here.ready_file, ready)
    write_private(made_here.worker_token, b"hwwrk-secret")
    return made_here


def report(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["worker", "report", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def sent_token(worker: StubTier) -> str | None:
    return worker.received[-1].headers.get("authorization")


@pytest.mark.usefixtures("state")
def test_the_local_workers_boot_and_roll_are_shown(worker: StubTier) -> None:
    status, out = report()
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    assert out.index("Boot of chat") < out.index("Roll of chat")
    assert sent_token(worker) == "Bearer hwwrk-secret"


@pytest.mark.usefixtures("state")
def test_as_json_it_is_what_the_worker_remembers() -> None:
    status, out = report("--json")
    found: list[dict[str, Any]] = json.loads(out)
    assert status == 0
    assert [waterfall["kind"] for waterfall in found] == ["boot", "roll"]
    assert {"name", "start_ms", "length_ms"} == found[0]["spans"][0].keys()


def test_it_is_drawn_into_a_file(state: StateDir) -> None:
    file = state.root / "boot.svg"
    status, _ = report("--svg", str(file))
    assert status == 0
    assert ET.parse(file).getroot().tag.endswith("svg")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_worker_elsewhere_needs_its_own_token(state: StateDir, worker: StubTier) -> None:
    with stub_tier(worker.answers) as other:
        status, out = report("--worker", other.url, "--json")
        assert (status, other.received) == (USAGE, []), "the local token was sent elsewhere"
        assert "--token-file" in json.loads(out)["error"]["message"]
        write_private(state.root / "token", b"other")
        status, _ = report("--worker", f"{other.url}/", "--token-file", str(state.root / "token"))
        assert (status, sent_token(other)) == (0, "Bearer other")


@pytest.mark.usefixtures("state")
def test_a_worker_that_has_not_booted_says_so(worker: StubTier) -> None:
    worker.answers["GET /admin/status"] = Canned({"waterfalls": []})
    status, out = report("--json")
    assert status == FAILED
    assert "not booted a model yet" in json.loads(out)["error"]["message"]


@pytest.mark.usefixtures("state")
def test_a_file_that_cannot_be_written_is_an_error() -> None:
    status, out = report("--svg", "/proc/none/boot.svg", "--json")
    assert status == USAGE
    assert "cannot write" in json.loads(out)["error"]["message"]
