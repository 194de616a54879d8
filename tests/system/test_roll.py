"""A roll to a new revision: no stream is cut, little moves, and a bad revision changes nothing."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gpu_worker.disk import ModelFolder
from infra import demo_models
from infra.ask import Answer, Asker
from infra.local_config import LOCAL_MODEL
from origin.publish import Published
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.publishing import with_key
from tests.fakes.waiting import until

STREAMS = 10
RECITE = [{"role": "user", "content": "Count from one to one hundred."}]
EPSILON = "llama.attention.layer_norm_rms_epsilon"
BROKEN: dict[str, tuple[str, int | float]] = {
    "a layer is missing": ("llama.block_count", 99),
    "llama.cpp aborts": (EPSILON, -1e-5),
}


@pytest.fixture(scope="module")
def second(_running: Fleet) -> Published:
    """The second revision, on a channel of its own: published, and nobody has it yet."""
    made = _running.publish_demo("edge-small-r2", "next")
    # Another file's tests may have rolled this fleet to it before.
    models = ModelFolder(_running.state.tier("worker") / "models")
    shutil.rmtree(models.path(LOCAL_MODEL, made.revision), ignore_errors=True)
    return made


@pytest.fixture
def rolling(fleet: Fleet) -> Iterator[Fleet]:
    """The fleet; its stable channel points to the first revision again afterwards."""
    first = fleet.revision()
    yield fleet
    fleet.roll(first)
    fleet.settle()


def serves(fleet: Fleet, revision: str) -> bool:
    return bool(fleet.status("worker")["report"]["revision"] == revision)


def sizes_of(fleet: Fleet, revision: str) -> dict[str, int]:
    return {ref.id: ref.size for ref in fleet.manifest(revision).chunk_refs().values()}


@dataclass
class Recital:
    """A stream that is followed by the next until it is told to stop."""

    max_tokens: int
    began: int = 0
    answers: list[Answer] = field(default_factory=list)
    over: bool = False

    async def run(self, asker: Asker) -> None:
        fields: dict[str, Any] = {"max_tokens": self.max_tokens, "temperature": 0.0}
        while not self.over:
            self.answers.append(
                await asker.ask(RECITE, model=LOCAL_MODEL, on_text=self._heard, **fields)
            )

    def _heard(self, _text: str) -> None:
        self.began += 1


@asynccontextmanager
async def reciting(fleet: Fleet, count: int) -> AsyncIterator[list[Recital]]:
    """So many streams all the time; every last one has ended when the block has."""
    # Of different lengths, so that they do not all end at once.
    recitals = [Recital(150 + 20 * number) for number in range(count)]
    async with fleet.asker() as asker, asyncio.TaskGroup() as group:
        for recital in recitals:
            group.create_task(recital.run(asker))
        try:
            await until(lambda: all(recital.began for recital in recitals), deadline_s=30)
            yield recitals
        finally:
            for recital in recitals:
                recital.over = True


async def test_a_roll_under_ten_streams_cuts_none_and_moves_only_what_changed(
    rolling: Fleet, second: Published
) -> None:
    first, new = rolling.revision(), second.revision
    sent = rolling.metric("edge", "headwater_edge_served_bytes_total")
    async with reciting(rolling, STREAMS) as recitals:
        await asyncio.to_thread(rolling.roll, new)
        await asyncio.to_thread(eventually, lambda: serves(rolling, new), 60)
        flipped = time.monotonic()
    async with rolling.asker() as asker:
        after = [await asker.ask(RECITE, model=LOCAL_MODEL, max_tokens=4) for _ in range(3)]
    assert {answer.digest for answer in after} == {new}
    recited = [answer for recital in recitals for answer in recital.answers]
    assert all(answer.whole for answer in recited)
    old = [answer for answer in recited if answer.digest == first]
    assert len(old) >= STREAMS
    assert {answer.digest for answer in recited if answer not in old} <= {new}
    # The roll is seen some time after it was done, so the first that met it says when that was.
    new_since = min([answer.started_s for answer in recited if answer.digest == new] or [flipped])
    assert any(answer.started_s + answer.total_s > new_since for answer in old)
    assert not any(answer.started_s > flipped for answer in old)

    fall = rolling.status("worker")["waterfalls"][-1]
    had, needed = sizes_of(rolling, first), sizes_of(rolling, new)
    changed = sum(size for chunk, size in needed.items() if chunk not in had)
    assert fall["revision"] == new
    assert fall["from_network"] == changed < fall["size"] / 2
    assert fall["from_seeds"] == fall["size"] - changed
    assert rolling.metric("edge", "headwater_edge_served_bytes_total") == sent + changed


def test_the_previous_revision_stays_on_disk_and_is_the_way_back(
    rolling: Fleet, second: Published
) -> None:
    first, new = rolling.revision(), second.revision
    rolling.roll(new)
    eventually(lambda: serves(rolling, new))
    models = rolling.state.tier("worker") / "models" / LOCAL_MODEL
    eventually(lambda: {path.name for path in models.iterdir()} == {first, new})
    rolling.roll(first)
    eventually(lambda: serves(rolling, first))
    back = rolling.status("worker")["waterfalls"][-1]
    assert back["from_disk"] == back["size"]
    assert back["from_network"] == 0
    with rolling.openai() as client:
        answer = client.chat.completions.with_raw_response.create(
            model=LOCAL_MODEL, messages=[{"role": "user", "content": "Hello"}], max_tokens=1
        )
    assert answer.headers["x-model-digest"] == first


@pytest.mark.parametrize(("key", "value"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_revision_that_does_not_load_leaves_the_old_one_serving(
    rolling: Fleet, tmp_path: Path, key: str, value: int | float
) -> None:
    first = rolling.revision()
    worker, engine = rolling.pid("worker"), rolling.engine_pid()
    good = demo_models.path("edge-small-r1").read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(with_key(good, key, value))
    async with reciting(rolling, 1) as (recital,):
        published = await asyncio.to_thread(rolling.publish, broken, LOCAL_MODEL)
        assert published.revision != first
        await asyncio.to_thread(eventually, lambda: reason_of(rolling) != "", 30)
    async with rolling.asker() as asker:
        after = await asker.ask(RECITE, model=LOCAL_MODEL, max_tokens=4)
    assert all(answer.whole for answer in [*recital.answers, after])
    assert {answer.digest for answer in [*recital.answers, after]} == {first}
    assert "load_failed" in reason_of(rolling)
    assert published.revision[:12] in reason_of(rolling)
    assert (rolling.pid("worker"), rolling.engine_pid()) == (worker, engine)
    edge = rolling.status("edge")["workers"][0]
    assert (edge["state"], edge["revision"]) == ("ready", first)
    assert edge["reason"] == reason_of(rolling)


def reason_of(fleet: Fleet) -> str:
    """Why the worker's last roll failed."""
    return str(fleet.status("worker")["report"]["reason"])
