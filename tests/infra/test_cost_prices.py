"""The dated file of prices: ours, a user's, and ones that cannot be."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from infra.cost_prices import DEFAULT_FILE, EXAMPLE, STALE_DAYS, doubts, load_prices
from wire.errors import ConfigError


def test_every_price_of_ours_has_a_day_and_a_source() -> None:
    prices = load_prices()
    entries = dict(prices.entries())
    assert len(entries) >= 10
    assert all(price.source.startswith((EXAMPLE, "http", "github.com/", "OpenAI"))
               for price in entries.values())  # fmt: skip
    assert prices.defaults.gpu in prices.machines
    assert prices.defaults.cloud in prices.cloud
    assert prices.defaults.gpu in prices.speeds


def test_a_month_is_never_dearer_than_its_cap() -> None:
    prices = load_prices()
    assert prices.machine("g6-dedicated-2").usd_per_month == 36.0
    assert prices.machine("g2-gpu-rtx4000a1-s").usd_per_month == pytest.approx(0.52 * 730)


def test_old_prices_and_examples_are_told_of_where_they_count() -> None:
    prices = load_prices()
    cloud = prices.cloud_model("gpt-5.6-terra")
    used = {"cloud.gpt-5.6-terra"}
    assert doubts(prices, used, cloud.as_of + timedelta(days=STALE_DAYS)) == []
    (said,) = doubts(prices, used, cloud.as_of + timedelta(days=STALE_DAYS + 1))
    assert "91 days old" in said
    (said,) = doubts(prices, {"balancer"}, cloud.as_of)
    assert "examples" in said
    assert "balancer" in said


def test_a_users_file_is_taken_in_place_of_ours(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(DEFAULT_FILE.read_text().replace("usd_per_hour = 0.52", "usd_per_hour = 1.00"))
    assert load_prices(file).machine("g2-gpu-rtx4000a1-s").usd_per_month == 730.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("usd_per_hour = 0.52", "usd_per_hour = -1", "usd_per_hour"),
        ("usd_per_hour = 0.52", "usd_per_hor = 0.52", "usd_per_hor"),
        ("as_of = 2026-09-17", 'as_of = "soon"', "as_of"),
        ("output_per_s = 150", "output_per_s = 0", "output_per_s"),
        ("[storage]", "[storage", "prices in"),
    ],
)
def test_a_file_that_cannot_be_is_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(DEFAULT_FILE.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError, match=said):
        load_prices(file)


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="6-luna"):
        load_prices().cloud_model("nothing")
    with pytest.raises(ConfigError, match="g6-nanode-1"):
        load_prices().machine("nothing")
    with pytest.raises(ConfigError, match="cannot read"):
        load_prices(tmp_path / "none")
