"""What a deployment by our Terraform costs, and that its page says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from infra.cost_deployment import bill, read_variables
from infra.cost_prices import load_prices
from wire.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "infra/terraform/terraform.tfvars.example"
PAGE = ROOT / "docs/how-to/terraform.md"


def test_the_default_deployment_costs_what_its_page_says() -> None:
    found = bill(read_variables(EXAMPLE), load_prices(), 100)
    counts = {item.what: item.count for item in found.items}
    assert counts == {"origin": 1, "edges": 4, "GPU workers": 2, "object storage, GB": 100}
    text = PAGE.read_text()
    assert f"**${found.total:,.2f} a month**" in text
    assert f"${found.gpus:,.2f} of it for GPU machines" in text
    assert found.base + found.gpus == pytest.approx(found.total)
    # GPU machines bring nothing into the pool of transfer that we know of.
    assert found.egress_gb_included == 5 * 4_000


def test_every_machine_that_terraform_takes_by_default_has_a_price() -> None:
    variables, prices = read_variables(EXAMPLE), load_prices()
    for name in ("origin_type", "edge_type", "gpu_type"):
        assert prices.machine(variables[name]).usd_per_month > 0


def test_balancers_and_volumes_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "my.tfvars.json"
    regions = {"us-ord": {"edges": 3, "gpu_workers": 0}}
    file.write_text(json.dumps({"regions": regions, "load_balancers": True, "cache_volume_gb": 50}))
    found = {item.what: item for item in bill(read_variables(file), load_prices(), 0).items}
    assert found["NodeBalancers"].count == 1
    assert found["volumes, GB"].count == 150
    assert found["GPU workers"].total == 0


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"regions": []},
        {"regions": {"a": {"edges": "2", "gpu_workers": 0}}},
        {"regions": {"a": {"edges": -1, "gpu_workers": 0}}},
        {"regions": {}, "origin_type": "g9", "edge_type": "g9", "gpu_type": "g9"},
    ],
)
def test_what_is_no_deployment_is_refused(variables: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        bill(variables, load_prices(), 0)


def test_what_is_no_terraform_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tfvars"
    file.write_text("regions = {{{")
    with pytest.raises(ConfigError, match="no Terraform"):
        read_variables(file)
    with pytest.raises(ConfigError, match="cannot read"):
        read_variables(tmp_path / "none")
