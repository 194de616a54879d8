from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from edge_tier.gateway.classify import threshold_for_local_share
from infra.cli import app
from tests.fakes.tier import Canned, stub_tier
from wire.sse import encode

POLICIES = """
[policies.night]
[[policies.night.routes]]
name = "batches"
when = { latency = "batch" }
target = "cloud"
"""
HEADERS = {
    "Content-Type": "text/event-stream",
    "x-headwater-route": "worker; model=edge-small",
    "x-headwater-plan": "complexity 0.10 < 0.50; rule batches",
    "Server-Timing": "parse;dur=0.100, route;dur=0.004",
}
CHOICE = {"index": 0, "delta": {"content": "Hi"}, "finish_reason": "length"}
STREAM = encode(json.dumps({"id": "c", "choices": [CHOICE]})) + encode("[DONE]")


def run(*arguments: str, status: int = 0) -> str:
    env = {"COLUMNS": "80", "HEADWATER_CONFIG": "", "HEADWATER_API_KEY": ""}
    result = CliRunner().invoke(app, ["route", "explain", *arguments], env=env)
    assert result.exit_code == status, result.output
    return result.output


@pytest.fixture
def policies(tmp_path: Path) -> str:
    file = tmp_path / "policies.toml"
    file.write_text(POLICIES)
    return f"--policy={file}"


def test_a_prompt_is_explained_without_anything_running(policies: str) -> None:
    night = (policies, "--policy-name=night")
    out = run("What is the capital of France?", *night)
    assert "batches" in out
    assert "latency = batch, but it is interactive" in out
    assert max(map(len, out.splitlines())) <= 80
    found = json.loads(run("Hello", *night, "--hint", "latency=batch", "--json"))
    assert found["plan"]["rule"] == "batches"
    assert found["plan"]["steps"][0]["target"] == "cloud"
    assert found["plan"]["priority"] == "batch"


def test_the_configuration_says_threshold_and_policy_file(policies: str, tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    file = policies.partition("=")[2]
    config.write_text(
        f'[edge.gateway]\npolicy_file = "{file}"\n[edge.gateway.pipeline.route]\nthreshold = 0.01\n'
    )
    out = run("Hello", f"--config={config}", "--policy-name=night", "--json")
    found = json.loads(out)
    assert found["policy"] == "night"
    assert found["complexity"]["threshold"] == 0.01
    assert found["plan"]["steps"][0]["target"] == "cloud"


def test_a_share_that_stays_local_sets_the_threshold_as_on_an_edge(tmp_path: Path) -> None:
    config = tmp_path / "headwater.toml"
    config.write_text("[edge.gateway.pipeline.route]\nlocal_share = 0.9\n")
    found = json.loads(run("Hello", f"--config={config}", "--json"))
    assert found["complexity"]["threshold"] == threshold_for_local_share(0.9)


def test_what_an_edge_would_measure_may_be_said(tmp_path: Path) -> None:
    file = tmp_path / "policies.toml"
    file.write_text(
        """
        [[policies.default.routes]]
        name = "busy"
        when = { load_min = 2 }
        target = "cloud"
        [[policies.default.routes]]
        name = "nearly used up"
        when = { budget_used_min = 0.9 }
        target = "local"
        """
    )
    for option, row in (("--load=2.5", "busy"), ("--budget-used=0.95", "nearly used up")):
        found = json.loads(run("Hello", f"--policy={file}", option, "--json"))
        assert found["plan"]["rule"] == row


def test_a_side_may_be_away() -> None:
    found = json.loads(run("Hello", "--without=local", "--json"))
    assert [step["target"] for step in found["plan"]["steps"]] == ["cloud"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--hint=latency"],
        ["--hint=speed=high"],
        ["--hint=latency=soon"],
        ["--policy=none.toml"],
        ["--policy-name=gone"],
        ["--edge=http://127.0.0.1:9"],
        ["--edge=http://127.0.0.1:9", "--api-key=k", "--tenant=shop"],
    ],
    ids=" ".join,
)
def test_what_cannot_be_meant_is_a_usage_error(arguments: list[str]) -> None:
    assert "error: " in run("Hello", *arguments, status=2)


def test_an_edge_is_asked_for_one_token() -> None:
    with stub_tier({"POST /v1/chat/completions": Canned(STREAM, headers=HEADERS)}) as edge:
        asked = (f"--edge={edge.url}", "--api-key=hw-k-s", "--hint=cost=low")
        out = run("Hello", *asked)
        found = json.loads(run("Hello", *asked, "--json"))
    for text in ("worker; model=edge-small", "rule batches", "route", "4 µs"):
        assert text in out
    assert found["stages_ms"] == {"parse": 0.1, "route": 0.004}
    sent = edge.received[0]
    assert json.loads(sent.body)["max_tokens"] == 1
    assert sent.headers["x-headwater-explain"] == "1"
    assert sent.headers["x-headwater-cost"] == "low"
