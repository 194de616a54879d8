from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from wire.health import main, problem
from wire.http_errors import error_middleware
from wire.http_server import add_operations


async def test_a_tier_that_is_ready_is_well_and_another_says_why_not() -> None:
    reason: list[str | None] = [None]
    app = web.Application(middlewares=[error_middleware()])
    add_operations(app, ready=lambda: reason[0], registry=CollectorRegistry())
    async with TestServer(app) as server:
        url = str(server.make_url("/readyz"))
        assert await asyncio.to_thread(problem, url) == ""
        assert await asyncio.to_thread(main, [url]) == 0
        reason[0] = "pulling"
        assert "pulling" in await asyncio.to_thread(problem, url)
        assert await asyncio.to_thread(main, [url]) == 1


def test_a_tier_that_is_not_there_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert main([f"http://127.0.0.1:{taken.getsockname()[1]}/readyz"]) == 1
    assert "refused" in capsys.readouterr().err


def test_one_that_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in problem(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.1)


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "127.0.0.1:7400", "http://", "http://[::1/"])
def test_what_is_no_url_is_not_asked(url: str) -> None:
    assert problem(url)


def test_a_url_must_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage" in capsys.readouterr().err
