from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from prometheus_client import CollectorRegistry, Counter

from infra.ports import HeldPort
from tests.fakes.waiting import until
from wire.errors import ConfigError, UnauthorizedError
from wire.files import write_atomically
from wire.http_errors import error_middleware
from wire.http_server import (
    LIFE,
    add_operations,
    background,
    read_token,
    require_token,
    serve,
)


async def test_operations_tell_health_readiness_and_figures() -> None:
    registry = CollectorRegistry()
    Counter("things", "Things.", registry=registry).inc(3)
    reason: list[str | None] = ["booting"]
    app = web.Application(middlewares=[error_middleware()])
    add_operations(app, ready=lambda: reason[0], registry=registry)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/healthz")).status == 200
        not_ready = await client.get("/readyz")
        assert not_ready.status == 503
        assert (await not_ready.json(content_type=None))["detail"] == "booting"
        reason[0] = None
        assert (await client.get("/readyz")).status == 200
        assert "things_total 3.0" in await (await client.get("/metrics")).text()


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic right", "Bearer ríght"])
def test_another_token_is_refused(header: str) -> None:
    request = make_mocked_request("GET", "/", headers={"Authorization": header})
    with pytest.raises(UnauthorizedError) as caught:
        require_token(request, "right")
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"


def test_the_token_passes() -> None:
    require_token(make_mocked_request("GET", "/", headers={"Authorization": "Bearer t"}), "t")


def test_a_token_file_must_be_private_and_not_empty(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot read"):
        read_token(file)
    write_atomically(file, b"secret\n")
    assert read_token(file) == "secret"
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(file)
    file.chmod(0o600)
    file.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_token(file)


def test_a_credential_of_systemd_is_a_token_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    write_atomically(file, b"secret\n", mode=0o440)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(file)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_token(file) == "secret"
    file.chmod(0o444)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(file)


async def test_a_server_announces_itself_and_stops_on_a_signal(tmp_path: Path) -> None:
    ready = tmp_path / "ready.json"
    app = web.Application()

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hi")

    app.router.add_get("/", hello)
    bound: list[str] = []

    async def on_bound(url: str) -> None:
        bound.append(url)
        assert not ready.exists()

    task = asyncio.create_task(
        serve(app, host="127.0.0.1", port=0, ready_file=ready, drain_s=1, on_bound=on_bound)
    )
    await until(ready.exists)
    url = json.loads(ready.read_text())["url"]
    assert bound == [url]
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        assert await answer.text() == "hi"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 30)


async def test_a_port_of_its_own_leads_to_the_same_and_is_the_one_that_others_are_told(
    tmp_path: Path,
) -> None:
    ready, app = tmp_path / "ready.json", web.Application()

    async def hello(_request: web.Request) -> web.Response:
        return web.Response(text="hi")

    app.router.add_get("/", hello)
    shared, own = HeldPort(), HeldPort()
    task = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=shared.number,
            ready_file=ready,
            drain_s=1,
            reuse_port=True,
            own_port=own.number,
        )
    )
    await until(ready.exists)
    assert json.loads(ready.read_text())["url"] == f"http://127.0.0.1:{own.number}"
    async with aiohttp.ClientSession() as session:
        for port in (shared.number, own.number):
            async with session.get(f"http://127.0.0.1:{port}/") as answer:
                assert await answer.text() == "hi"
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 30)
    shared.close()
    own.close()


async def test_what_never_began_in_the_background_ends_in_silence() -> None:
    async def work() -> None:
        raise AssertionError("it must not begin")

    app = web.Application()
    (context,) = (background("early", work),)
    steps = context(app)
    await anext(steps)
    with pytest.raises(StopAsyncIteration):
        await anext(steps)


async def test_a_taken_port_is_named() -> None:
    server = TestServer(web.Application())
    async with server:
        with pytest.raises(ConfigError, match=str(server.port)):
            await serve(
                web.Application(),
                host="127.0.0.1",
                port=server.port or 0,
                ready_file=None,
                drain_s=0,
            )


async def test_background_work_lives_as_long_as_the_application() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    app = web.Application()
    app.cleanup_ctx.append(background("work", work))
    async with TestClient(TestServer(app)):
        await asyncio.wait_for(started.wait(), 30)
        assert not ended.is_set()
    assert ended.is_set()


async def test_told_to_stop_it_is_not_ready_while_it_still_answers(tmp_path: Path) -> None:
    app = web.Application(middlewares=[error_middleware()])
    add_operations(app, ready=lambda: None, registry=CollectorRegistry())
    told: list[bool] = []
    app[LIFE].on_stopping.append(lambda: told.append(app[LIFE].stopping))
    ready = tmp_path / "ready.json"
    task = asyncio.create_task(
        serve(
            app,
            host="127.0.0.1",
            port=0,
            ready_file=ready,
            drain_s=1,
            drain_delay_s=60,
        )
    )
    await until(ready.exists)
    url = json.loads(ready.read_text())["url"]
    assert await _status(url + "/readyz") == 200
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: bool(told))
    assert told == [True]
    # By connections of their own: the listener is still open.
    assert await _status(url + "/readyz") == 503
    assert await _status(url + "/healthz") == 200
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(task, 30)
    with pytest.raises(aiohttp.ClientConnectorError):
        await _status(url + "/healthz")


async def _status(url: str) -> int:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status
