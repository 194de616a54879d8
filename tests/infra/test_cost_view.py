"""What people read of a comparison."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from infra.cost import Terms, Volume
from infra.cost_view import Comparison, tokens, usd

TERMS = Terms(
    gpu_per_month=380.0, prompt_per_s=1_500.0, output_per_s=150.0, cloud_prompt=2.0,
    cloud_output=12.0, investment=50_000.0, base_per_month=1_000_000.0,
)  # fmt: skip


@pytest.mark.parametrize("volume", [Volume(), Volume(prompt_tokens=2e12, output_tokens=3e11)])
def test_it_fits_80_columns_whatever_the_figures(volume: Volume) -> None:
    found = Comparison(
        volume=volume, terms=TERMS, share=0.7, cloud_name="gpt-5.6-terra",
        gpu_name="g2-gpu-rtx4000a1-s", bill=None, notes=("examples: storage",),
    )  # fmt: skip
    out = io.StringIO()
    found.show(Console(file=out, width=80))
    text = out.getvalue()
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "…" not in text
    assert "hybrid, 70% local" in text
    assert "examples: storage" in text
    ways = found.as_dict()["ways"]
    assert [way["name"] for way in ways] == ["local", "hybrid", "cloud"]
    assert ways[-1]["break_even_day"] is None


def test_amounts() -> None:
    assert (usd(1234.6), usd(-12.5, 2)) == ("$1,235", "-$12.50")
    assert [tokens(n) for n in (2e9, 3e8, 1_500, 12)] == ["2B", "300M", "1.5k", "12"]
