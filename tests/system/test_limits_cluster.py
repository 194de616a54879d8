"""Limits that are shared through a Redis Cluster: a real one, though of a single node."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis import Redis

from edge_tier.gateway.limits import LimitsConfig, RateLimitedError
from edge_tier.gateway.limits_client import RedisLimits, connect
from edge_tier.gateway.limits_redis import RedisLimiter
from edge_tier.gateway.request import SharedLimits
from tests.edge_tier.gateway.conftest import RedisServer
from tests.fakes.limits import acme_with, charge, refusal
from tests.fakes.ports import free_port
from tests.fakes.waiting import until

BUS = 10_000
"""Nodes of a cluster talk to each other on a port that lies so much higher."""
CONFIG = RedisLimits(cluster=True, timeout_s=10.0, circuit_s=0.0)


@pytest.fixture
def cluster() -> Iterator[RedisServer]:
    server = RedisServer(cluster_port=free_port(beside=BUS))
    yield server
    server.stop()


def _form(server: RedisServer) -> bool:
    with Redis.from_url(server.url) as admin:
        state: dict[str, str] = admin.execute_command("CLUSTER INFO")
        if int(state["cluster_slots_assigned"]) == 0:
            admin.execute_command("CLUSTER ADDSLOTS", *range(2**14))
        return state["cluster_state"] == "ok"


async def test_a_cluster_keeps_limits_of_keys_tenants_and_models(cluster: RedisServer) -> None:
    await until(lambda: _form(cluster))
    shared = LimitsConfig(
        tenants={"acme": SharedLimits(concurrent_streams=3)},
        models={"m": SharedLimits(requests_per_minute=4)},
    )
    edges = [RedisLimiter(connect(cluster.url, CONFIG), CONFIG, shared) for _ in range(2)]
    acme = acme_with(tokens_per_day=100)
    held = [await edges[n % 2].reserve(acme, charge(10)) for n in range(3)]
    assert "3 requests at once" in await refusal(edges[1], acme, charge(10))
    await edges[0].settle(held[0], 4, 0)
    assert await refusal(edges[1], acme, charge(10)) == ""
    await edges[1].settle(held[1], 10, 0)
    assert "of the model" in await refusal(edges[0], acme, charge(10))
    assert "has 66 left" in await refusal(edges[0], acme, charge(67, model="another"))
    assert not any(edge.degraded for edge in edges)

    cluster.kill()
    answers = await asyncio.gather(
        *(edge.reserve(acme, charge(5)) for edge in edges * 10), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, BaseException)]
    assert {type(answer) for answer in refused} == {RateLimitedError}
    assert len(answers) - len(refused) == 2  # one for each lease, of four a minute
    for edge in edges:
        await edge.aclose()
