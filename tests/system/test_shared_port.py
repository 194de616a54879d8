"""Two edge processes on one port, as the systemd units run them: both know the worker, so a request
is answered whichever of them takes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import pytest

from infra.ask import CHAT_PATH
from infra.local_config import LOCAL_MODEL
from infra.ports import HeldPort
from tests.fakes.fleet import Fleet, eventually

REQUESTS = 40
BODY = {"model": LOCAL_MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}


@pytest.fixture
def ports() -> Iterator[list[int]]:
    """One to share, and one for each process."""
    held = [HeldPort() for _ in range(3)]
    yield [port.number for port in held]
    for port in held:
        port.close()


async def test_every_process_of_a_shared_port_serves_with_its_workers(
    fleet: Fleet, ports: list[int], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        edges = []
        for own in ports[1:]:
            settings = {
                "port": ports[0],
                "reuse_port": "true",
                "own_port": own,
                "cache__folder": tmp_path / f"cache-{own}",
                "trust_dir": tmp_path / f"trust-{own}",
            }
            edges.append(stack.enter_context(fleet.extra("edge", f"shared-{own}", **settings)))
        urls = [f"http://127.0.0.1:{own}" for own in ports[1:]]
        assert [edge.url for edge in edges] == urls
        settings = {
            "sources": urls,
            "heartbeat_to": urls,
            "models_dir": tmp_path / "models",
            "trust_dir": tmp_path / "trust",
        }
        worker = stack.enter_context(fleet.extra("worker", "of-both", **settings))
        eventually(lambda: fleet.is_ready(worker), 60)
        statuses = await _ask(f"http://127.0.0.1:{ports[0]}", fleet.local.api_key)
        answered = [fleet.extra_metric(edge, "headwater_gateway_answers_total") for edge in edges]
    assert statuses == [200] * REQUESTS
    # That the kernel gives one of them none of so many connections has a chance of 2 in 10^12.
    assert min(answered) > 0
    assert sum(answered) == REQUESTS


async def _ask(url: str, key: str) -> list[int]:
    """The statuses of requests on a connection each."""
    statuses = []
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        for _ in range(REQUESTS):
            headers = {"Authorization": f"Bearer {key}"}
            async with session.post(f"{url}{CHAT_PATH}", json=BODY, headers=headers) as answer:
                await answer.read()
                statuses.append(answer.status)
    return statuses
