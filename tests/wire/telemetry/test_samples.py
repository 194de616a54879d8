from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tests.fakes.prometheus_messages import decode
from wire.telemetry.remote_write import encode_request
from wire.telemetry.samples import MAX_STEP_BACK_MS, Sampler, Scrape, Stamps

MANY = 1_000


def read(scrape: Scrape) -> dict[str, tuple[dict[str, str], float]]:
    """By name; for metrics with one series each."""
    found = {}
    for labels, samples in decode(encode_request(scrape.series, 1)):
        name = labels.pop("__name__")
        found[name] = (labels, samples[0][0])
    return found


def test_what_a_scrape_would_give_is_sampled_but_for_times_of_creation() -> None:
    registry = CollectorRegistry()
    Counter("asked", "", registry=registry).inc(3)
    Histogram("took", "", buckets=(1,), registry=registry).observe(0.5)
    Gauge("last_created", "", registry=registry).set(9)
    found = read(Sampler(registry, {}, max_series=MANY).take())
    assert {name: value for name, (_, value) in found.items()} == {
        "asked_total": 3,
        "took_bucket": 1,
        "took_count": 1,
        "took_sum": 0.5,
        "last_created": 9,
    }


def test_a_series_keeps_its_own_label_before_the_common_one() -> None:
    registry = CollectorRegistry()
    Gauge("up", "", ["tier"], registry=registry).labels("cloud").set(1)
    found = read(Sampler(registry, {"tier": "edge", "region": "eu"}, max_series=MANY).take())
    assert found == {"up": ({"tier": "cloud", "region": "eu"}, 1.0)}


def test_series_are_bounded_and_the_rest_is_counted() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("up", "", ["n"], registry=registry)
    for number in range(10):
        gauge.labels(str(number)).set(1)
    scrape = Sampler(registry, {}, max_series=4).take()
    assert (len(scrape.series), scrape.over) == (4, 6)


def test_a_long_value_is_cut() -> None:
    registry = CollectorRegistry()
    Gauge("up", "", ["n"], registry=registry).labels("x" * 5_000).set(1)
    assert len(read(Sampler(registry, {}, max_series=4).take())["up"][0]["n"]) == 1_024


def test_a_series_that_ends_is_marked_stale_once() -> None:
    registry = CollectorRegistry()
    gauge = Gauge("up", "", ["n"], registry=registry)
    gauge.labels("a").set(1)
    sampler = Sampler(registry, {}, max_series=MANY)
    assert len(sampler.take().series) == 1
    gauge.remove("a")
    assert [math.isnan(value) for _, value in sampler.take().series] == [True]
    assert sampler.take().series == ()


def test_a_collector_that_says_a_series_twice_gives_one_sample() -> None:
    class Twice(Collector):
        def collect(self) -> Iterable[Metric]:
            yield GaugeMetricFamily("up", "", value=1)
            yield GaugeMetricFamily("up", "", value=2)

    registry = CollectorRegistry()
    registry.register(Twice())
    assert read(Sampler(registry, {}, max_series=MANY).take()) == {"up": ({}, 2.0)}


@given(st.integers(0, 50), st.integers(1, 10))
@settings(deadline=None)
def test_batches_are_all_of_a_scrape_in_order(series: int, most: int) -> None:
    scrape = Scrape(tuple((bytes([n]), float(n)) for n in range(series)), 0)
    batches = list(scrape.batches(most))
    assert [one for batch in batches for one in batch] == list(scrape.series)
    assert all(1 <= len(batch) <= most for batch in batches)


def test_a_clock_that_steps_back_is_waited_for() -> None:
    stamps = Stamps()
    assert [stamps.next(wall) for wall in (100.0, 90.0, 90.0, 101.0)] == [
        100_000,
        100_001,
        100_002,
        101_000,
    ]
    assert stamps.corrected == 2


def test_a_clock_that_was_a_day_ahead_is_believed_when_it_comes_back() -> None:
    stamps = Stamps()
    stamps.next(86_500.0)
    assert [stamps.next(wall) for wall in (100.0, 115.0)] == [100_000, 115_000]
    assert stamps.corrected == 1


def test_an_earlier_process_counts() -> None:
    assert Stamps(100_000).next(99.0) == 100_001


@given(st.lists(st.floats(0, 1e6), min_size=2))
@settings(deadline=None)
def test_stamps_only_go_back_by_more_than_a_step(walls: list[float]) -> None:
    stamps = Stamps()
    given_ = [stamps.next(wall) for wall in walls]
    for before, after in itertools.pairwise(given_):
        assert after > before or before - after > MAX_STEP_BACK_MS


@pytest.mark.parametrize("series", [3, 5])
def test_labels_are_encoded_once_while_they_are_remembered(series: int) -> None:
    registry = CollectorRegistry()
    gauge = Gauge("up", "", ["n"], registry=registry)
    sampler = Sampler(registry, {}, max_series=2)
    for number in range(series):
        gauge.clear()
        gauge.labels(str(number)).set(number)
        assert read(Scrape(sampler.take().series[:1], 0)) == {"up": ({"n": str(number)}, number)}
