"""A real worker in a process of its own, with the real llama.cpp: boot, answer, roll, stop."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from gpu_worker.__main__ import main
from tests.fakes.processes import engine_of, engines_of
from tests.fakes.quick_disk import quick_folder
from tests.fakes.revisions import Revision, SignedSource, make_revision
from tests.fakes.scripted_gguf import SCRIPT, write_scripted_gguf
from tests.fakes.waiting import alive, until
from tests.fakes.worker_api import CHAT
from wire.events import EventLog
from wire.files import write_atomically
from wire.http_errors import error_middleware
from wire.http_events import EventHub
from wire.http_routes import ArtifactRoutes

ROOT = Path(__file__).resolve().parents[2]
TOKEN = {"Authorization": "Bearer t0ken"}
OTHER_SCRIPT = "abcdefg"
PIECE = 512 * 1024


def revision_of_file(path: Path) -> Revision:
    data = path.read_bytes()
    return make_revision({"m.gguf": [data[at : at + PIECE] for at in range(0, len(data), PIECE)]})


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Revision, Revision]:
    """Two revisions that answer otherwise."""
    folder = tmp_path_factory.mktemp("models")
    return (
        revision_of_file(write_scripted_gguf(folder / "one.gguf")),
        revision_of_file(write_scripted_gguf(folder / "two.gguf", OTHER_SCRIPT)),
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as made:
        write_atomically(made / "token", b"t0ken")
        yield made


class Upstream:
    """A signed source over HTTP, with events."""

    def __init__(self) -> None:
        self.source = SignedSource()
        self.hub = EventHub(EventLog("e"))
        self.url = ""


@pytest.fixture
async def upstream(folder: Path) -> AsyncIterator[Upstream]:
    made = Upstream()
    write_atomically(folder / "root.json", made.source.root)
    app = web.Application(middlewares=[error_middleware()])
    with ThreadPoolExecutor(4) as executor:
        ArtifactRoutes(server=made.source, executor=executor).add_to(app)
        made.hub.add_to(app)
        async with TestServer(app) as server:
            made.url = str(server.make_url("")).rstrip("/")
            yield made


class Worker:
    """A running ``python -m gpu_worker``."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url

    async def get(self, path: str) -> tuple[int, dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(self.url + path, headers=TOKEN) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    async def until_serving(self, revision: Revision) -> dict[str, Any]:
        """Wait until this revision serves; the status."""
        async with asyncio.timeout(30):
            while True:
                _, status = await self.get("/admin/status")
                if (status["report"]["revision"], status["report"]["state"]) == (
                    revision.id,
                    "ready",
                ):
                    return status
                await asyncio.sleep(0.05)

    async def ask(self, max_tokens: int = 9) -> tuple[str, str]:
        """An answer, and the revision that gave it."""
        body = {"model": "chat", "prompt_token_ids": [1], "max_tokens": max_tokens}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url + CHAT, json=body, headers=TOKEN) as answer,
        ):
            text = (await answer.json())["choices"][0]["message"]["content"]
            return text, answer.headers["x-model-digest"]


@pytest.fixture
async def worker(folder: Path, upstream: Upstream) -> AsyncIterator[Worker]:
    ready = folder / "ready.json"
    (folder / "headwater.toml").write_text(
        f"""
        [worker]
        port = 0
        model = "chat"
        sources = ["{upstream.url}"]
        trust_root = "{folder}/root.json"
        trust_dir = "{folder}/trust"
        models_dir = "{folder}/models"
        token_file = "{folder}/token"
        ready_file = "{ready}"
        [worker.engine]
        slots = 2
        context_tokens = 512
        threads = 1
        warmup = false
        """
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpu_worker", "--config", str(folder / "headwater.toml")),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    await until(lambda: ready.exists() or process.returncode is not None, deadline_s=30)
    yield Worker(process, json.loads(ready.read_text())["url"])
    if process.returncode is None:
        process.kill()
        await process.wait()


async def test_a_worker_boots_answers_rolls_and_stops(
    upstream: Upstream, worker: Worker, models: tuple[Revision, Revision]
) -> None:
    one, two = models
    upstream.source.publish(one)
    upstream.hub.publish("channel", ["trust"])
    status = await worker.until_serving(one)
    boot = status["waterfalls"][0]
    assert {"start", "listen", "load", "probe", "probe: first token"} <= boot["steps_ms"].keys()
    assert boot["decisions"]["load"].startswith("mmap: ")
    assert boot["total_ms"] > 0
    text, digest = await worker.ask()
    assert digest == one.id
    assert text
    assert set(text) <= set(SCRIPT)

    upstream.source.publish(two)
    upstream.hub.publish("channel", ["trust"])
    rolled = await worker.until_serving(two)
    assert rolled["waterfalls"][-1]["from_seeds"] > 0
    text, digest = await worker.ask()
    assert (digest, set(text) <= set(OTHER_SCRIPT)) == (two.id, True)

    # The old one is still on its way out, perhaps.
    await until(lambda: len(engines_of(worker.process.pid)) == 1)
    engine = engine_of(worker.process.pid)
    worker.process.terminate()
    assert await asyncio.wait_for(worker.process.wait(), 30) == 0
    await until(lambda: not alive(engine) or psutil.Process(engine).status() == "zombie")


@pytest.fixture
def default_logging() -> Iterator[None]:
    """What a program sets for its whole process is undone."""
    yield
    structlog.reset_defaults()
    gc.unfreeze()


@pytest.mark.usefixtures("default_logging")
def test_a_configuration_that_cannot_be_used_is_exit_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "headwater.toml"
    file.write_text(f'[worker]\ntoken_file = "{tmp_path}/none"\n')
    assert main(["--config", str(file)]) == 2
    assert "cannot read the token file" in capsys.readouterr().err


@pytest.mark.usefixtures("default_logging")
def test_garbage_is_looked_for_again_but_not_among_what_was_imported(tmp_path: Path) -> None:
    assert main(["--config", str(tmp_path / "none.toml")]) == 2
    assert gc.isenabled()
    assert gc.get_freeze_count() > 10_000
