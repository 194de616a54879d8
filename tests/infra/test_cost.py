"""The arithmetic of cost: what always holds, and figures that were worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.cost import (
    Terms,
    Volume,
    break_even_day,
    cloud_per_month,
    hybrid,
    in_cloud,
    local,
    machines_for,
    parity,
    swings,
)
from infra.cost_prices import DAYS_PER_MONTH
from wire.errors import ConfigError

TERMS = Terms(
    gpu_per_month=400.0, prompt_per_s=1_000.0, output_per_s=100.0, cloud_prompt=2.0,
    cloud_output=12.0, base_per_month=150.0, egress_per_gb=0.005, egress_gb_included=1_000.0,
)  # fmt: skip
VOLUME = Volume(prompt_tokens=2e9, output_tokens=300e6, egress_gb=3_000.0)

tokens = st.floats(0, 1e12)
volumes = st.builds(Volume, prompt_tokens=tokens, output_tokens=tokens, egress_gb=st.floats(0, 1e6))
money = st.floats(0, 1e5)
all_terms = st.builds(
    Terms,
    gpu_per_month=money, prompt_per_s=st.floats(10, 1e5), output_per_s=st.floats(10, 1e4),
    cloud_prompt=st.floats(0, 100), cloud_output=st.floats(0, 100),
    utilisation=st.floats(0.01, 1), spare=st.integers(0, 5), base_per_month=money,
    egress_per_gb=st.floats(0, 1), egress_gb_included=st.floats(0, 1e6), investment=money,
    commitment_days=st.floats(0, 2_000),
)  # fmt: skip
shares = st.floats(0, 1)


def test_worked_out_by_hand() -> None:
    # 2e6 + 3e6 busy seconds a month, 50 % of 2,628,000: 3.8, so 4 machines and one to spare.
    assert machines_for(VOLUME, TERMS) == 5
    assert cloud_per_month(VOLUME, TERMS) == pytest.approx(2_000 * 2 + 300 * 12)
    own = local(VOLUME, TERMS)
    assert own.per_month == pytest.approx(5 * 400 + 150 + 2_000 * 0.005)
    half = hybrid(VOLUME, TERMS, 0.5)
    assert half.machines == 3
    assert half.per_month == pytest.approx(3 * 400 + 160 + 3_800)


def test_an_investment_is_earned_back() -> None:
    terms = replace(TERMS, investment=10_880.0)
    day = break_even_day(local(VOLUME, terms), in_cloud(VOLUME, terms))
    assert day == pytest.approx(2 * DAYS_PER_MONTH)  # 5,440 dollars a month
    dear = replace(terms, gpu_per_month=4_000.0)
    assert break_even_day(local(VOLUME, dear), in_cloud(VOLUME, dear)) is None
    assert break_even_day(local(VOLUME, TERMS), in_cloud(VOLUME, TERMS)) == 0.0


def test_nothing_asked_costs_what_stands_there() -> None:
    nothing = Volume()
    assert machines_for(nothing, TERMS) == 0
    assert in_cloud(nothing, TERMS).per_month == 0.0
    assert local(nothing, TERMS).per_month == pytest.approx(150.0)
    assert parity(nothing, TERMS) is None
    assert break_even_day(local(nothing, TERMS), in_cloud(nothing, TERMS)) is None


@given(volumes, all_terms, shares, st.floats(1, 1e3))
def test_more_never_costs_less(volume: Volume, terms: Terms, share: float, factor: float) -> None:
    try:
        more = hybrid(volume.times(factor), terms, share)
    except ConfigError:
        return  # over a million machines
    less = hybrid(volume, terms, share)
    assert more.machines >= less.machines
    assert more.per_month >= less.per_month * (1 - 1e-9)
    cloud, more_cloud = in_cloud(volume, terms), in_cloud(volume.times(factor), terms)
    assert more_cloud.per_month >= cloud.per_month * (1 - 1e-9)


@given(volumes, all_terms, shares)
def test_on_the_break_even_day_both_have_cost_the_same(
    volume: Volume, terms: Terms, share: float
) -> None:
    try:
        way = hybrid(volume, terms, share)
    except ConfigError:
        return
    other = in_cloud(volume, terms)
    day = break_even_day(way, other)
    if day is None:
        # However long: by the day it costs no less, and it owes more, or as much and dearer.
        assert way.total(1e9) >= other.total(1e9) * (1 - 1e-9)
    elif day == 0:
        assert way.total(0) <= 1e-6
    else:
        assert way.total(day) == pytest.approx(other.total(day), rel=1e-6, abs=1e-3)
        assert way.total(day / 2) >= other.total(day / 2) * (1 - 1e-9) - 1e-6


@given(volumes, all_terms, shares)
def test_all_local_and_all_cloud_are_the_ends_of_hybrid(
    volume: Volume, terms: Terms, share: float
) -> None:
    try:
        assert replace(hybrid(volume, terms, 1.0), name="local") == local(volume, terms)
    except ConfigError:
        return
    assert hybrid(volume, terms, 0.0).machines == 0
    assert 0 <= machines_for(volume.times(share), terms) <= machines_for(volume, terms)


@given(volumes, all_terms)
def test_at_parity_both_cost_the_same_or_a_machine_more_tips_it(
    volume: Volume, terms: Terms
) -> None:
    free = replace(terms, egress_per_gb=0.0, investment=0.0, commitment_days=0.0)
    factor = parity(volume, free)
    if factor is None or factor > 1e6:
        return
    try:
        own = local(volume.times(factor), free)
    except ConfigError:
        return
    cloud = in_cloud(volume.times(factor), free)
    # On the edge between two counts of machines rounding may say the larger one.
    step = free.gpu_per_month
    assert own.per_month - step <= cloud.per_month * (1 + 1e-6) + 1e-6


def test_what_matters_most_comes_first() -> None:
    found = swings(VOLUME, TERMS, 1.0)
    assert len(found) == 6
    widths = [abs(swing.high - swing.low) for swing in found]
    assert widths == sorted(widths, reverse=True)
    named = {swing.name: swing for swing in found}
    assert named["price of the cloud"].high - named["price of the cloud"].low == pytest.approx(
        0.5 * 7_600
    )
    assert named["price of GPU machines"].low > named["price of GPU machines"].high


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Volume(prompt_tokens=-1),
        lambda: Volume(output_tokens=float("nan")),
        lambda: Volume(egress_gb=float("inf")),
        lambda: replace(TERMS, output_per_s=0.0),
        lambda: replace(TERMS, utilisation=0.0),
        lambda: hybrid(VOLUME, TERMS, 1.5),
        lambda: machines_for(Volume(output_tokens=1e18), TERMS),
    ],
)
def test_what_cannot_be_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        wrong()  # type: ignore[operator]
