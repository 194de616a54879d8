"""``headwater cost``: its options, a real page of metrics over HTTP, its answer and exit status."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.cli import app
from infra.commands.output import FAILED, USAGE
from tests.fakes.prometheus import Prometheus
from tests.infra.test_cost_volume import page

ROOT = Path(__file__).resolve().parents[3]
DOCS = ROOT / "docs"
EXAMPLE = ROOT / "infra/terraform/terraform.tfvars.example"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["cost", *arguments])


def found(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def meter() -> Iterator[str]:
    """An edge's page of metrics, and Prometheus's query, on one port."""
    edge = page()
    rows = [
        {"metric": {"gen_ai_token_type": "input", "target": "worker"}, "value": [0, "1e9"]},
        {"metric": {"gen_ai_token_type": "output", "target": "cloud"}, "value": [0, "1e9"]},
    ]

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.path.startswith("/api/v1/query?query=sum%20by")
            text = json.dumps({"data": {"result": rows}}) if asked else edge
            known = asked or self.path == "/metrics"
            self.send_response(200 if known else 404)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - theirs
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_an_edge_metered(meter: str) -> None:
    answer = found("--from-metrics", f"{meter}/metrics", "--days", "10")
    assert answer["volume_per_month"]["prompt_tokens"] == pytest.approx(4_000 * 365 / 12 / 10)
    assert answer["share_local"] == pytest.approx(0.24)
    assert [way["name"] for way in answer["ways"]] == ["local", "hybrid", "cloud"]


def test_what_all_edges_metered(meter: str) -> None:
    answer = found("--prometheus", meter, "--days", "365")
    assert answer["volume_per_month"]["output_tokens"] == pytest.approx(1e9 / 12)
    assert answer["share_local"] == pytest.approx(0.5)
    assert run("--prometheus", f"{meter}/other", "--json").exit_code == FAILED


def test_a_real_prometheus_understands_the_question(tmp_path: Path) -> None:
    with Prometheus(tmp_path / "prometheus") as server:
        result = run("--prometheus", server.url, "--days", "30")
    # It answered, and not that it cannot read this; but it has scraped nothing.
    assert "has no gen_ai_client_token_usage" in result.output
    assert result.exit_code == USAGE


def test_a_plot_beside_the_table(tmp_path: Path) -> None:
    file = tmp_path / "cost.svg"
    asked = ("--prompt-tokens", "2B", "--output-tokens", "300M", "--invest", "5000")
    result = run(*asked, "--plot", str(file))
    assert result.exit_code == 0, result.output
    assert "break-even" in result.stdout
    assert "breaks even" in file.read_text()
    assert run(*asked, "--plot", str(tmp_path / "cost.png")).exit_code == USAGE
    assert run(*asked, "--plot", str(tmp_path / "no/cost.svg")).exit_code == USAGE


def test_a_bill_alone() -> None:
    answer = found("--deployment", str(EXAMPLE))
    assert answer["total_usd"] == pytest.approx(sum(item["usd"] for item in answer["items"]))
    assert run("--deployment", str(EXAMPLE), "--plot", "a.svg").exit_code == USAGE
    assert "total" in run("--deployment", str(EXAMPLE)).stdout


def test_a_commitment_comes_due_at_once() -> None:
    asked = ("--prompt-tokens", "2B", "--output-tokens", "300M")
    free, bound = found(*asked), found(*asked, "--commit-days", "365")
    assert free["ways"][0]["break_even_day"] == 0
    assert bound["ways"][0]["break_even_day"] > 0
    assert bound["ways"][0]["upfront_usd"] == pytest.approx(12 * free["ways"][0]["per_month_usd"])


def test_nothing_asked_is_a_question() -> None:
    result = run()
    assert result.exit_code == USAGE
    assert "--prompt-tokens" in result.output


def test_the_page_shows_what_is_printed_and_drawn(tmp_path: Path) -> None:
    shown = (DOCS / "how-to/cost.md").read_text().split("```")[1]
    lines = shown.splitlines()
    asked = " ".join(line.strip(" \\") for line in lines[1:3]).removeprefix("$ headwater cost ")
    words = asked.replace("infra/terraform/terraform.tfvars.example", str(EXAMPLE)).split()
    words[-1] = str(tmp_path / "cost.svg")
    result = CliRunner().invoke(app, ["cost", *words], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    printed = [line.rstrip() for line in result.stdout.splitlines()]
    # Notes depend on the day.
    table = [line for line in shown.split("note:")[0].splitlines()[3:] if line]
    assert [line for line in printed if line][: len(table)] == table
    assert (tmp_path / "cost.svg").read_text() == (DOCS / "figures/cost.svg").read_text()
