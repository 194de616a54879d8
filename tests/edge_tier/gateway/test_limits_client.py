from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import RedisCluster

from edge_tier.gateway.limits_client import AwayError, Circuit, RedisLimits, Script, connect

ADD = Script.of("return redis.call('INCRBY', KEYS[1], ARGV[1])")


@pytest.fixture
async def circuit(redis_server: Any, clock: Any) -> AsyncIterator[Circuit]:
    config = RedisLimits(timeout_s=60.0, circuit_s=1.0)
    made = Circuit(connect(redis_server.url, config), config, clock)
    yield made
    for _ in range(2):
        await made.aclose()


async def test_a_script_is_sent_once_and_then_known_by_its_name(
    circuit: Circuit, redis_server: Any
) -> None:
    assert [await circuit.run(ADD, ["k"], [2]) for _ in range(3)] == [2, 4, 6]
    with redis_server.admin() as admin:
        commands = admin.info("commandstats")
    assert commands["cmdstat_eval"]["calls"] == 1


async def test_a_redis_that_is_gone_is_left_alone_and_then_asked_again(
    circuit: Circuit, redis_server: Any, clock: Any
) -> None:
    await circuit.run(ADD, ["k"], [1])
    redis_server.kill()
    asked = []
    for _ in range(3):
        with pytest.raises(AwayError) as away:
            await circuit.run(ADD, ["k"], [1])
        asked.append(away.value.asked)
    assert (asked, circuit.is_open) == ([True, False, False], True)
    redis_server.start()
    clock.advance(1.0)
    assert await circuit.run(ADD, ["k"], [1]) == 1
    assert (circuit.losses, circuit.is_open) == (1, False)


async def test_a_script_that_fails_is_told_as_a_redis_that_is_gone(circuit: Circuit) -> None:
    """Nobody may get a server error because limits are broken."""
    with pytest.raises(AwayError):
        await circuit.run(Script.of("return redis.call('NO_SUCH')"), ["k"], [])


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 20])
async def test_a_client_may_leave_at_any_moment_and_breaks_no_connection_of_others(
    circuit: Circuit, redis_server: Any, steps: int
) -> None:
    await circuit.run(ADD, ["k"], [1])
    redis_server.pause()
    leaving = [asyncio.create_task(circuit.run(ADD, ["other"], [100])) for _ in range(20)]
    for _ in range(steps):
        await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    async with asyncio.timeout(30):  # long before the circuit's own time is over
        await asyncio.gather(*leaving, return_exceptions=True)
    redis_server.resume()
    assert [await circuit.run(ADD, ["k"], [1]) for _ in range(20)] == [*range(2, 22)]


async def test_a_cluster_gets_a_client_that_knows_slots() -> None:
    client = connect("redis://127.0.0.1:1", RedisLimits(cluster=True))
    assert isinstance(client, RedisCluster)
    await client.aclose()


@pytest.mark.parametrize(
    "wrong",
    [{"lease_fraction": 0.0}, {"lease_fraction": 1.1}, {"stream_lease_s": 2.0, "upkeep_s": 1.0}],
)
def test_what_could_not_work_cannot_be_configured(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RedisLimits(**wrong)  # type: ignore[arg-type]
