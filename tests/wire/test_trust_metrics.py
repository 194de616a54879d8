from __future__ import annotations

import math

import pytest
from prometheus_client import CollectorRegistry

from origin.documents import DAY_S
from origin.signing import Repository
from tests.fakes.revisions import ONLINE_KEY, PUBLISHER_KEY, ROOT_KEY
from wire.trust import TrustView
from wire.trust_metrics import TrustMetrics, trust_status

NOW = 1_000_000_000.0
VIEW = Repository.create(ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, now=NOW).view


@pytest.mark.parametrize(
    ("days", "state", "number"),
    [(0, "fresh", 0), (1, "expired_within_grace", 1), (8, "beyond_grace", 2)],
)
def test_state_is_told_as_word_and_number(days: int, state: str, number: int) -> None:
    registry = CollectorRegistry()
    view = VIEW.at(NOW + days * DAY_S)
    TrustMetrics(registry, lambda: view)
    assert registry.get_sample_value("headwater_trust_state") == number
    expires = registry.get_sample_value("headwater_trust_expires_timestamp_seconds")
    assert expires == NOW + DAY_S
    name = "headwater_trust_role_expires_timestamp_seconds"
    assert registry.get_sample_value(name, {"role": "timestamp"}) == NOW + DAY_S
    assert registry.get_sample_value(name, {"role": "root"}) == NOW + 365 * DAY_S
    told = trust_status(view)
    assert (told["state"], told["expired"]) == (state, days > 0)
    assert told["grace_until"] == NOW + 8 * DAY_S
    assert told["versions"] == dict.fromkeys(VIEW.versions, 1)


def test_before_the_first_bundle_there_is_nothing_to_tell() -> None:
    registry = CollectorRegistry()
    views: list[TrustView | None] = [None]
    TrustMetrics(registry, lambda: views[0])
    assert registry.get_sample_value("headwater_trust_state") == -1
    expires = registry.get_sample_value("headwater_trust_expires_timestamp_seconds")
    assert expires is not None
    assert math.isnan(expires)
    assert trust_status(None)["state"] == "none"
    views[0] = VIEW
    assert registry.get_sample_value("headwater_trust_state") == 0
