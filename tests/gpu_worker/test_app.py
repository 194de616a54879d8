from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from gpu_worker.app import WORKER, build_app
from gpu_worker.config import WorkerConfig
from gpu_worker.engine import EngineStartError
from gpu_worker.engines.config import EngineConfig
from gpu_worker.engines.make import make_engine
from gpu_worker.engines.openai_server import OpenAIConfig
from gpu_worker.fit_needs import FitConfig
from gpu_worker.order import EngineOrder
from tests.fakes.engine import FakeEngine
from tests.fakes.receivers import HttpSink
from tests.fakes.revisions import Revision
from tests.fakes.rolling import Faults, RollingEngine, model
from tests.fakes.waiting import until
from tests.fakes.worker_api import CHAT, StartApi
from tests.fakes.yard import Yard, a_yard
from wire.errors import ConfigError
from wire.http_server import serve
from wire.telemetry.config import TelemetryConfig

ONE, TWO = model(1), model(2)
TOKEN = {"Authorization": "Bearer t0ken"}
STREAM = {"model": "chat", "prompt_token_ids": [1], "stream": True}


@pytest.fixture
async def yard() -> AsyncIterator[Yard]:
    async with a_yard() as made:
        yield made


async def get(server: TestServer, path: str, headers: dict[str, str] | None = None) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.make_url(path), headers=headers) as answer,
    ):
        return answer.status, await answer.text()


# Boot


async def test_a_worker_boots_and_tells_its_edge(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker(name="gpu-1") as (worker, server):
        assert (await get(server, "/readyz"))[0] == 503 or worker.serving.state == "ready"
        await yard.until_ready(worker, ONE)
        assert (await get(server, "/readyz"))[0] == 200
        await until(lambda: yard.edge.states()[-1:] == ["ready"])
    last = [report for report in yard.edge.reports if report.state == "ready"][-1]
    assert (last.worker, last.model, last.channel) == ("gpu-1", "chat", "stable")
    assert (last.revision, last.slots, last.reason) == (ONE.id, 4, "")
    assert {"trust", "pull", "check", "load", "probe"} <= last.boot.keys()
    assert all(report.url for report in yard.edge.reports)


async def test_nobody_is_told_of_a_worker_before_it_listens(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    app = await build_app(replace(yard.config, heartbeat_s=0.01), make_engine=yard.make_engine)
    async with TestServer(app):
        await yard.until_ready(app[WORKER], ONE)
        assert not yard.edge.reports
        app[WORKER].bound("http://127.0.0.1:1")
        await until(lambda: bool(yard.edge.reports))
    assert yard.edge.reports[0].url == "http://127.0.0.1:1"


async def test_the_address_to_advertise_wins(yard: Yard) -> None:
    async with yard.worker(advertise_url="https://gpu.example:443") as (worker, _server):
        assert worker.report().url == "https://gpu.example:443"


async def test_a_worker_without_a_name_has_one_of_its_own(yard: Yard) -> None:
    async with yard.worker() as (worker, _server):
        assert worker.report().worker.endswith(f"-{os.getpid()}")
    async with yard.worker(port=7402) as (worker, _server):
        assert worker.report().worker.endswith("-7402")


async def test_a_load_that_fails_is_reported(yard: Yard) -> None:
    yard.faults[yard.edge.source.publish(ONE)] = Faults(start=EngineStartError("out of memory"))
    async with yard.worker() as (_worker, server):
        await until(lambda: yard.edge.states()[-1:] == ["failed"])
        assert "out of memory" in yard.edge.reports[-1].reason
        status, text = await get(server, "/readyz")
        assert (status, "out of memory" in text) == (503, True)


async def test_a_model_that_fits_nowhere_is_reported_with_what_is_missing(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker(fit=FitConfig(memory_share=0.0)) as (worker, _server):
        await until(lambda: worker.report().reason != "")
        assert "load_failed: " in worker.report().reason
        assert "nothing fits: the model needs" in worker.report().reason
        assert yard.engines == []


async def test_the_engine_is_told_how_many_layers_fit(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker() as (worker, _server):
        await yard.until_ready(worker, ONE)
    assert yard.engines[0].order.gpu_layers == 2  # its one layer, and the output


async def test_status_shows_the_waterfall_and_the_sources_to_those_who_may(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker() as (worker, server):
        await yard.until_ready(worker, ONE)
        assert (await get(server, "/admin/status"))[0] == 401
        _, text = await get(server, "/admin/status", TOKEN)
        _, metrics = await get(server, "/metrics")
    status = json.loads(text)
    assert status["report"]["revision"] == ONE.id
    assert status["waterfalls"][0]["from_network"] == ONE.unique_bytes
    (source,) = status["sources"]
    assert source["chunks"] == 3
    name = source["name"]
    assert f'headwater_worker_source_chunks_total{{source="{name}"}} 3.0' in metrics


# Following the channel


async def test_an_event_makes_it_look(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker() as (worker, _server):
        await yard.until_ready(worker, ONE)
        # The event stream begins with a reset, so a second look follows the first.
        await until(lambda: yard.edge.source.calls["trust"] >= 2)
        yard.edge.source.publish(TWO)
        yard.edge.hub.publish("channel", ["trust", "channel:chat@stable"])
        await yard.until_ready(worker, TWO)
        await until(lambda: yard.edge.reports[-1].revision == TWO.id)


async def test_without_events_it_looks_now_and_then(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker(revalidate_s=0.02) as (worker, _server):
        await yard.until_ready(worker, ONE)
        yard.edge.source.publish(TWO)
        await yard.until_ready(worker, TWO)


async def test_a_report_names_what_ended_the_engine(yard: Yard) -> None:
    refused = EngineStartError("unknown architecture", fault="bad_file")
    yard.faults[ONE.id] = Faults(start=refused)
    yard.edge.source.publish(ONE)
    async with yard.worker() as (worker, _server):
        await until(lambda: worker.report().state == "failed")
        assert worker.report().fault == "bad_file"
        yard.edge.source.publish(TWO)
        yard.edge.hub.publish("channel", ["trust"])
        await yard.until_ready(worker, TWO)
        assert worker.report().fault == ""
        yard.engines[-1].fault = "hung"
        assert worker.report().fault == "hung"


async def test_a_load_that_breaks_is_told_and_not_the_last(yard: Yard) -> None:
    def make_engine(order: EngineOrder) -> RollingEngine:
        if not any(report.refused for report in yard.edge.reports):  # not told yet
            raise RuntimeError("a bug")
        return yard.make_engine(order)

    yard.edge.source.publish(ONE)
    looks = {"revalidate_s": 0.02, "retry_failed_s": 0.3}
    async with yard.worker(make_engine, **looks) as (worker, _server):
        await yard.until_ready(worker, ONE)
    told = {(report.refused, report.fault, report.reason) for report in yard.edge.reports}
    assert (ONE.id, "crashed", "unexpected: RuntimeError: a bug") in told


async def test_a_restart_without_its_edge_serves_from_disk(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker() as (worker, _server):
        await yard.until_ready(worker, ONE)
    away = ("http://127.0.0.1:9",)
    async with yard.worker(sources=away, heartbeat_to=away) as (worker, server):
        await yard.until_ready(worker, ONE)
        assert (await get(server, "/readyz"))[0] == 200


# The end


class Process:
    """A worker served as its program serves it, until a signal."""

    def __init__(self, app: web.Application, config: WorkerConfig) -> None:
        self.worker = app[WORKER]
        self.url = ""
        self.task = asyncio.create_task(
            serve(
                app,
                host="127.0.0.1",
                port=0,
                ready_file=None,
                drain_s=config.drain_s,
                drain_delay_s=config.drain_delay_s,
                on_bound=self._bound,
            )
        )

    async def _bound(self, url: str) -> None:
        self.url = url
        self.worker.bound(url)


async def start(yard: Yard, revision: Revision) -> Process:
    yard.edge.source.publish(revision)
    app = await build_app(yard.config, make_engine=yard.make_engine)
    process = Process(app, yard.config)
    await until(lambda: bool(process.url))
    await yard.until_ready(process.worker, revision)
    await until(lambda: yard.edge.states()[-1:] == ["ready"])
    return process


async def test_on_sigterm_it_says_so_first_and_lets_streams_finish(yard: Yard) -> None:
    process = await start(yard, ONE)
    engine = yard.engines[0]
    engine.capacity, engine.held_from = 50, 1
    engine.gate.clear()
    async with aiohttp.ClientSession() as session:
        posts = [session.post(process.url + CHAT, json=STREAM, headers=TOKEN) for _ in range(50)]
        answers = await asyncio.gather(*posts)
        await engine.until_open(50)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: yard.edge.states()[-1:] == ["draining"])
        assert not process.task.done()
        assert engine.open == 50
        engine.gate.set()
        texts = await asyncio.gather(*(answer.text() for answer in answers))
    assert all(text.rstrip().endswith("data: [DONE]") for text in texts)
    await asyncio.wait_for(process.task, 30)
    assert engine.closed
    assert yard.edge.states() == ["booting", "ready", "draining"][-len(yard.edge.states()) :]


async def test_in_the_delay_new_requests_are_answered_while_edges_are_told(yard: Yard) -> None:
    yard.config = replace(yard.config, drain_delay_s=60.0)
    process = await start(yard, ONE)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: yard.edge.states()[-1:] == ["draining"])
    async with aiohttp.ClientSession() as session:
        async with session.get(process.url + "/readyz") as ready:
            assert ready.status == 503
        async with session.post(process.url + CHAT, json=STREAM, headers=TOKEN) as answer:
            assert (await answer.text()).rstrip().endswith("data: [DONE]")
    assert not process.task.done()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(process.task, 30)
    assert yard.engines[0].closed


async def test_streams_that_outlive_the_deadline_end_with_an_error_event(yard: Yard) -> None:
    yard.config = replace(yard.config, drain_s=0.1)
    process = await start(yard, ONE)
    engine = yard.engines[0]
    engine.held_from = 1
    engine.gate.clear()
    async with (
        aiohttp.ClientSession() as session,
        session.post(process.url + CHAT, json=STREAM, headers=TOKEN) as answer,
    ):
        await engine.until_open(1)
        engine.batches = []
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: engine.closed)
        engine.gate.set()
        text = await answer.text()
    assert "[DONE]" not in text
    await asyncio.wait_for(process.task, 30)


async def test_a_roll_under_way_does_not_make_a_stopping_worker_ready_again(yard: Yard) -> None:
    process = await start(yard, ONE)
    yard.faults[yard.edge.source.publish(TWO)] = Faults(hang=True)
    yard.edge.hub.publish("channel", ["trust"])
    await until(lambda: len(yard.engines) == 2)
    await yard.engines[1].starting.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(process.task, 30)
    assert [engine.closed for engine in yard.engines] == [True, True]
    assert "ready" not in yard.edge.states()[yard.edge.states().index("draining") :]


# What it is built from


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a tmpfs")
async def test_weights_in_memory_are_gone_when_the_worker_is(yard: Yard) -> None:
    name = f"test-{os.getpid()}"
    folder = Path("/dev/shm") / f"headwater-{name}"
    yard.edge.source.publish(ONE)
    async with yard.worker(name=name, weights_in_memory=True) as (worker, _server):
        await yard.until_ready(worker, ONE)
        path = yard.engines[0].order.path
        assert path == folder / "chat" / ONE.id / "model.gguf"
        assert path.read_bytes() == ONE.files["model.gguf"]
        boot = worker.roller.waterfalls[0]
        assert boot.decisions["load"].startswith("mmap: they stand in memory")
        assert not yard.config.models_dir.exists()
    assert not folder.exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="needs a tmpfs")
async def test_weights_that_memory_cannot_take_are_not_pulled(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    config = replace(yard.config, name=f"full-{os.getpid()}", weights_in_memory=True)
    app = await build_app(config, make_engine=yard.make_engine, free_memory=lambda: 100)
    async with TestServer(app):
        worker = app[WORKER]
        await until(lambda: "the memory has 100 B to spare" in worker.roller.reason)
        assert f"needs {ONE.manifest.size} B more" in worker.roller.reason


async def test_metrics_show_the_boot(yard: Yard) -> None:
    yard.edge.source.publish(ONE)
    async with yard.worker() as (worker, server):
        await yard.until_ready(worker, ONE)
        _, text = await get(server, "/metrics")
    assert 'headwater_worker_boot_seconds{model="chat",step="pull: fetch"}' in text
    assert f'headwater_worker_boot_bytes{{model="chat",source="{worker_source(yard)}"}}' in text


def worker_source(yard: Yard) -> str:
    """The edge, as a source of this worker is named."""
    return urlsplit(yard.config.sources[0]).netloc


async def lose_token(config: WorkerConfig) -> WorkerConfig:
    config.token_file.unlink()
    return config


async def lose_root(config: WorkerConfig) -> WorkerConfig:
    config.trust_root.unlink()
    return config


async def spoil_root(config: WorkerConfig) -> WorkerConfig:
    config.trust_root.write_bytes(b"{}")
    return config


async def name_no_source(config: WorkerConfig) -> WorkerConfig:
    return replace(config, sources=())


async def name_a_source_twice(config: WorkerConfig) -> WorkerConfig:
    return replace(config, sources=config.sources * 2)


async def name_it_oddly(config: WorkerConfig) -> WorkerConfig:
    return replace(config, name="gpu 1")


async def name_a_file(config: WorkerConfig) -> WorkerConfig:
    return replace(config, sources=("file:///etc/passwd",))


@pytest.mark.parametrize(
    "spoil",
    [
        name_it_oddly,
        lose_token,
        lose_root,
        spoil_root,
        name_no_source,
        name_a_source_twice,
        name_a_file,
    ],
)
async def test_what_cannot_be_used_is_a_configuration_error(yard: Yard, spoil: Any) -> None:
    with pytest.raises(ConfigError):
        await build_app(await spoil(yard.config), make_engine=yard.make_engine)


async def test_a_worker_over_a_server_that_runs_already_takes_messages_only(
    yard: Yard, start_api: StartApi, tmp_path: Path
) -> None:
    """The server is another worker's API."""
    behind = FakeEngine()
    api = await start_api(behind)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text("t0ken")
    url = str(api.server.make_url("/")).rstrip("/")
    there = OpenAIConfig(url=url, served_model="chat-small", key_file=key)
    engine = EngineConfig(kind="openai", openai=there)
    make = partial(make_engine, engine, yard.config.supervisor)
    yard.edge.source.publish(ONE)
    async with (
        yard.worker(make, engine=engine) as (worker, server),
        aiohttp.ClientSession() as http,
    ):
        await yard.until_ready(worker, ONE)
        assert "messages_only" in worker.report().features
        assert not list(yard.config.models_dir.rglob("*.gguf"))
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "x"}]}
        async with http.post(server.make_url(CHAT), json=asked, headers=TOKEN) as answer:
            assert (await answer.json())["choices"][0]["message"]["content"] == "Hello"
        asked = {"prompt_token_ids": [1]}
        async with http.post(server.make_url(CHAT), json=asked, headers=TOKEN) as answer:
            assert answer.status == 400
            assert (await answer.json())["error"]["code"] == "token_ids_unsupported"


async def test_a_worker_sends_its_metrics(yard: Yard, tmp_path: Path) -> None:
    sink = HttpSink()
    async with TestServer(sink.app()) as receiver:
        telemetry = TelemetryConfig(
            remote_write_url=str(receiver.make_url("/write")), spool_dir=tmp_path
        )
        async with yard.worker(telemetry=telemetry):
            await until(lambda: bool(sink.bodies))
    assert {"headwater_worker_slots", "headwater_telemetry_pending_samples"} <= sink.metrics
