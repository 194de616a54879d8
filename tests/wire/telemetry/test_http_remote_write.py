from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry, Gauge

from tests.fakes.prometheus_messages import decode_body
from tests.fakes.receivers import HttpSink
from tests.fakes.waiting import until
from wire.errors import ConfigError, SourceUnavailableError
from wire.telemetry.config import TelemetryConfig
from wire.telemetry.http_remote_write import HttpReceiver
from wire.telemetry.http_telemetry import add_telemetry
from wire.telemetry.pipeline import Answer

Serve = Callable[[web.Application], Any]


async def test_a_request_is_what_the_specification_says(serve_app: Serve) -> None:
    sink = HttpSink()
    receiver = HttpReceiver(f"{await serve_app(sink.app())}/write", "shown", token="s3cret")
    assert await receiver.post(b"body") == Answer(204)
    await receiver.aclose()
    sent = sink.headers[0]
    assert sink.bodies == [b"body"]
    assert sent["content-encoding"] == "snappy"
    assert sent["content-type"] == "application/x-protobuf"
    assert sent["x-prometheus-remote-write-version"] == "0.1.0"
    assert sent["authorization"] == "Bearer s3cret"
    assert sent["user-agent"].startswith("headwater")


async def test_an_answer_is_told_with_its_reason_in_bounds(serve_app: Serve) -> None:
    sink = HttpSink()
    sink.answer = lambda: web.Response(
        status=429, text="slow\ndown" * 999, headers={"Retry-After": "7"}
    )
    receiver = HttpReceiver(f"{await serve_app(sink.app())}/write", "shown")
    answer = await receiver.post(b"")
    await receiver.aclose()
    assert (answer.status, answer.retry_after_s) == (429, 7.0)
    assert answer.reason.startswith("slowdown")
    assert len(answer.reason) <= 300


async def test_a_redirect_is_not_followed(serve_app: Serve) -> None:
    sink = HttpSink()
    sink.answer = lambda: web.Response(
        status=307, headers={"Location": "http://127.0.0.1:1/elsewhere"}
    )
    receiver = HttpReceiver(f"{await serve_app(sink.app())}/write", "shown", token="s3cret")
    assert (await receiver.post(b"")).status == 307
    await receiver.aclose()
    assert len(sink.bodies) == 1


async def _never_ends(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"tak")
    await asyncio.sleep(5.0)
    return response


async def test_what_was_taken_is_taken_though_the_answer_never_ends(serve_app: Serve) -> None:
    app = web.Application()
    app.router.add_post("/write", _never_ends)
    receiver = HttpReceiver(f"{await serve_app(app)}/write", "shown", timeout_s=1.0)
    assert await receiver.post(b"body") == Answer(200)
    await receiver.aclose()


@pytest.mark.parametrize("status", [200, 400])
async def test_an_answer_is_not_unpacked(serve_app: Serve, status: int) -> None:
    sink = HttpSink()
    sink.answer = lambda: web.Response(
        status=status, body=b"no gzip", headers={"Content-Encoding": "gzip"}
    )
    receiver = HttpReceiver(f"{await serve_app(sink.app())}/write", "shown")
    assert (await receiver.post(b"body")).status == status
    await receiver.aclose()


async def test_silence_and_absence_are_named_without_the_password(serve_app: Serve) -> None:
    sink = HttpSink()
    sink.delay_s = 5.0
    url = await serve_app(sink.app())
    for target in (f"{url}/write", "http://me:secret@127.0.0.1:1/write"):
        receiver = HttpReceiver(target, "http://shown/write", timeout_s=0.05)
        with pytest.raises(SourceUnavailableError) as caught:
            await receiver.post(b"")
        await receiver.aclose()
        assert caught.value.message.startswith("http://shown/write: ")
        assert "secret" not in caught.value.message


def app_with(config: TelemetryConfig, *, shares_port: bool = False) -> web.Application:
    app, registry = web.Application(), CollectorRegistry()
    Gauge("up", "", registry=registry).set(1)
    add_telemetry(app, registry, config, tier="edge", port=7401, shares_port=shares_port)
    return app


async def test_an_application_sends_while_it_lives(serve_app: Serve, tmp_path: Path) -> None:
    sink = HttpSink()
    config = TelemetryConfig(
        remote_write_url=f"{await serve_app(sink.app())}/write",
        spool_dir=tmp_path,
        labels={"region": "eu"},
    )
    async with TestServer(app_with(config)):
        await until(lambda: bool(sink.bodies))
    series = {one[0]["__name__"]: one for one in decode_body(sink.bodies[0])}
    labels, samples = series["up"]
    assert labels.pop("instance").endswith(":7401")
    assert labels == {"__name__": "up", "job": "headwater-edge", "tier": "edge", "region": "eu"}
    assert [value for value, _ in samples] == [1.0]
    assert "headwater_telemetry_samples_total" in series
    assert len(sink.bodies) >= 2, "the last look was sent as well"
    assert (tmp_path / "edge" / "0" / "state").exists()


async def test_two_processes_of_one_port_are_told_apart(serve_app: Serve, tmp_path: Path) -> None:
    sink = HttpSink()
    url = f"{await serve_app(sink.app())}/write"
    config = TelemetryConfig(remote_write_url=url, spool_dir=tmp_path)
    apps = [app_with(config, shares_port=True) for _ in range(2)]
    async with TestServer(apps[0]), TestServer(apps[1]):
        await until(lambda: len(sink.bodies) >= 2)
    instances = {labels["instance"] for body in sink.bodies for labels, _ in decode_body(body)}
    assert len(instances) == 2
    assert {name.rpartition(":")[2] for name in instances} == {"7401/0", "7401/1"}


async def test_a_folder_that_cannot_be_used_does_not_stop_the_tier(
    serve_app: Serve, tmp_path: Path
) -> None:
    sink, blocked = HttpSink(), tmp_path / "file"
    blocked.write_text("no folder")
    config = TelemetryConfig(
        remote_write_url=f"{await serve_app(sink.app())}/write", spool_dir=blocked
    )
    async with TestServer(app_with(config)):
        await until(lambda: bool(sink.bodies))


@pytest.mark.parametrize(
    "wrong",
    [{"remote_write_url": "prometheus:9090"}, {"bearer_token_file": Path("/nowhere/token")}],
)
def test_what_cannot_be_used_is_said_at_the_start(wrong: dict[str, Any]) -> None:
    config = TelemetryConfig(**{"remote_write_url": "http://127.0.0.1:1/w", **wrong})
    with pytest.raises(ConfigError):
        app_with(config)
