"""kill -9 of everything that can be killed: what was done stays done, and clients are told."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.ask import Answer
from infra.local_config import LOCAL_MODEL
from tests.fakes.artifact_proxy import ArtifactProxy, artifact_proxy
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.headwater import running_up
from tests.fakes.processes import alive, processes_in
from tests.fakes.waiting import until
from wire.sse import SSEDecoder

CONNECTIONS = 4
"""Chunks that a worker fetches at the same time."""
WHOLE = 6
"""Chunks that arrive before the kill."""
RECITE = [{"role": "user", "content": "Count from one to one hundred."}]


@pytest.fixture
def proxy(fleet: Fleet) -> Iterator[ArtifactProxy]:
    """Stands before the edge and lets a few chunks through, then only halves."""
    with artifact_proxy(fleet.urls.edge) as proxy:
        proxy.free = WHOLE
        yield proxy


def claimed(models: Path) -> int:
    """Chunks that a pull has written down as here."""
    return sum(bitmap.read_bytes().count(1) for bitmap in models.rglob(".partial-*/.chunks"))


def test_a_worker_killed_in_its_pull_fetches_only_what_was_missing(
    fleet: Fleet, proxy: ArtifactProxy, tmp_path: Path
) -> None:
    manifest = fleet.manifest(fleet.revision())
    sizes = {str(ref.id): ref.size for ref in manifest.chunk_refs().values()}
    assert len(sizes) > WHOLE + CONNECTIONS
    settings: dict[str, Any] = {
        "sources": [proxy.url],
        "heartbeat_to": [],
        "models_dir": tmp_path / "models",
        "trust_dir": tmp_path / "trust",
        "pull__parallelism__start": CONNECTIONS,
        "pull__parallelism__most": CONNECTIONS,
        "receive_threads": CONNECTIONS,
    }
    with fleet.extra("worker", "killed-worker", **settings) as worker:
        eventually(lambda: len(proxy.asked) == WHOLE + CONNECTIONS)
        eventually(lambda: claimed(tmp_path / "models") == WHOLE)
        before = set(proxy.given)
        killed = worker.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: not alive(killed))
        asked_before = list(proxy.asked)
        proxy.free = len(sizes)
        eventually(lambda: fleet.is_ready(worker), 30)
        boot = fleet.extra_status(worker)["waterfalls"][0]
    again = proxy.asked[len(asked_before) :]
    assert before.isdisjoint(again), "a chunk that was here was fetched again"
    assert sorted(before | set(again)) == sorted(sizes)
    repeated = [chunk for chunk in again if chunk in asked_before]
    assert len(repeated) == len(set(repeated)) <= CONNECTIONS
    assert boot["from_disk"] == sum(sizes[chunk] for chunk in before)
    assert boot["from_network"] == sum(sizes[chunk] for chunk in again)


async def test_an_engine_killed_in_a_stream_is_an_error_event_and_comes_back(fleet: Fleet) -> None:
    worker, engine = fleet.pid("worker"), fleet.engine_pid()
    answer = await broken_stream(fleet, engine)
    assert_cut(answer)
    await until(lambda: not alive(engine))
    async with fleet.asker() as asker:
        # Meanwhile the large model answers; afterwards the engine does again.
        meanwhile = await asker.ask(RECITE, model="auto", max_tokens=4)
        assert meanwhile.whole
        await asyncio.to_thread(fleet.settle)
        again = await asker.ask(RECITE, model=LOCAL_MODEL, max_tokens=4)
    assert again.whole
    assert fleet.pid("worker") == worker
    assert fleet.engine_pid() != engine


async def test_a_worker_killed_in_a_stream_is_an_error_event_and_comes_back(fleet: Fleet) -> None:
    worker, engine = fleet.pid("worker"), fleet.engine_pid()
    broken = fleet.metric("edge", "headwater_gateway_broken_streams_total", target="worker")
    answer = await broken_stream(fleet, worker)
    assert_cut(answer)
    async with fleet.asker() as asker:
        meanwhile = await asker.ask(RECITE, model="auto", max_tokens=4)
        assert meanwhile.target == "cloud" or fleet.is_back("worker", worker)
        assert meanwhile.whole
        await until(lambda: not alive(engine))  # an engine does not outlive its worker
        await asyncio.to_thread(fleet.settle)
        again = await asker.ask(RECITE, model=LOCAL_MODEL, max_tokens=4)
    assert again.whole
    assert fleet.pid("worker") != worker
    after = fleet.metric("edge", "headwater_gateway_broken_streams_total", target="worker")
    assert after == broken + 1


async def test_the_broken_stream_is_well_formed_to_its_end(fleet: Fleet) -> None:
    """Raw: every event is JSON, the last one is OpenAI's error, and the body ends as HTTP says."""
    engine = fleet.engine_pid()
    body: Any = {"model": LOCAL_MODEL, "messages": RECITE, "stream": True, **fleet.endless()}
    async with (
        fleet.async_openai() as client,
        client.chat.completions.with_streaming_response.create(**body) as response,
    ):
        decoder, events = SSEDecoder(), []
        async for piece in response.iter_bytes():
            events += decoder.feed(piece)
            if len(events) > 5 and alive(engine):
                os.kill(engine, signal.SIGKILL)
    data = [json.loads(event.data) for event in events]
    assert set(data[-1]["error"]) >= {"message", "type", "code"}
    assert not any("error" in one for one in data[:-1])


def test_a_killed_launcher_leaves_no_orphan(up_folder: Path) -> None:
    with running_up(up_folder) as up:
        tiers = processes_in(up_folder)
        assert len(tiers) >= 6, "four tiers and two engines"
        up.kill()
        eventually(lambda: processes_in(up_folder) == [], 30)


async def broken_stream(fleet: Fleet, victim: int) -> Answer:
    """A stream whose ``victim`` is killed after a few tokens."""
    seen: list[str] = []

    def on_text(text: str) -> None:
        seen.append(text)
        if len(seen) == 5:
            os.kill(victim, signal.SIGKILL)

    async with fleet.asker() as asker:
        return await asker.ask(RECITE, model=LOCAL_MODEL, on_text=on_text, **fleet.endless())


def assert_cut(answer: Answer) -> None:
    """The client knows that something is missing."""
    assert answer.text
    assert answer.error
    assert not answer.done
    assert not answer.finish_reason
