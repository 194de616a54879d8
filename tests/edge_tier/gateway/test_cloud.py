"""edge_tier.gateway.cloud."""

from __future__ import annotations

from edge_tier.gateway.breaker import BreakerConfig
from edge_tier.gateway.cloud import Cloud, CloudConfig
from tests.fakes.clock import ManualClock


def test_without_a_url_there_is_none() -> None:
    cloud = Cloud(CloudConfig(), None)
    assert cloud.pool is None
    assert cloud.offered == cloud.ready == frozenset()


def test_what_it_serves_may_be_asked_while_its_breaker_is_closed() -> None:
    clock = ManualClock()
    breaker = BreakerConfig(failures=1, open_s=5)
    config = CloudConfig(url="http://127.0.0.1:9", models=("a", "b"), breaker=breaker)
    cloud = Cloud(config, None, clock=clock)
    assert cloud.offered == cloud.ready == {"a", "b"}
    cloud.breaker.failed()
    assert cloud.offered == {"a", "b"}
    assert cloud.ready == frozenset()
    clock.advance(5)
    assert cloud.ready == {"a", "b"}
