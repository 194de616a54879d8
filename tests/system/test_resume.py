"""kill -9 of a worker in the middle of an answer, while another one serves the same revision."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.child import Child
from infra.local_config import LOCAL_MODEL
from tests.fakes.fleet import Fleet, eventually
from tests.fakes.processes import engine_of
from wire.sse import SSEDecoder

OTHER = "other-worker"
RECITE: Any = [{"role": "user", "content": "Count from one to one hundred."}]
TRIES = 5
KILL_AFTER = 10
"""Events that the client has by then."""
SEEDED = {"temperature": 0.9, "seed": 11}
SAMPLED = {"temperature": 0.9}


@dataclass(frozen=True, slots=True)
class Heard:
    """What a client got."""

    text: str
    ids: int
    """Different ids of the answer in its chunks."""
    tokens: int
    """As the usage says."""
    done: bool
    comments: list[bytes]


@pytest.fixture
def other(fleet: Fleet, tmp_path: Path) -> Iterator[Child]:
    """A second worker of the same model, known to the edge as ready."""
    settings: dict[str, Any] = {
        "models_dir": tmp_path / "models",
        "trust_dir": tmp_path / "trust",
    }
    with fleet.extra("worker", OTHER, **settings) as worker:
        eventually(lambda: known_as_ready(fleet, worker), 60)
        yield worker


def known_as_ready(fleet: Fleet, other: Child) -> bool:
    """Of this life of both: the one before, under the same name, may not be forgotten yet."""
    states = {w["url"]: w["state"] for w in fleet.status("edge")["workers"]}
    return states == {fleet.urls.worker: "ready", other.url: "ready"}


async def ask(
    fleet: Fleet, fields: dict[str, Any], victim: Callable[[str], int] | None = None
) -> Heard:
    """One answer, as the stock client reads it.

    Args:
        victim: the process to kill in its middle, by the name of the worker that answers.
    """
    decoder, raw, events = SSEDecoder(), b"", 0
    async with (
        fleet.async_openai() as client,
        client.chat.completions.with_streaming_response.create(
            model=LOCAL_MODEL,
            messages=RECITE,
            stream=True,
            stream_options={"include_usage": True},
            **fields,
        ) as response,
    ):
        async for piece in response.iter_bytes():
            raw += piece
            events += len(decoder.feed(piece))
            if events >= KILL_AFTER and victim is not None:
                os.kill(victim(response.headers["x-headwater-worker"]), signal.SIGKILL)
                victim = None
    return heard(raw)


async def ask_and_kill(
    fleet: Fleet, other: Child, fields: dict[str, Any], victim: Callable[[str], int]
) -> Heard:
    """One answer that was broken off and went on. Where this machine is busy elsewhere, all of an
    answer may have left before its worker is killed; then another one is asked for."""
    for _ in range(TRIES):
        before = resumed(fleet)
        answer = await ask(fleet, fields, victim)
        if resumed(fleet) == before + 1:
            return answer
        await asyncio.to_thread(eventually, lambda: known_as_ready(fleet, other), 60)
    raise AssertionError("no answer went on after its worker was killed")


def heard(raw: bytes) -> Heard:
    data = [event.data for event in SSEDecoder().feed(raw)]
    chunks = [json.loads(item) for item in data if item != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    return Heard(
        text="".join(choice["delta"].get("content") or "" for choice in choices),
        ids=len({chunk["id"] for chunk in chunks if "id" in chunk}),
        tokens=sum(chunk["usage"]["completion_tokens"] for chunk in chunks if chunk.get("usage")),
        done=data[-1] == "[DONE]",
        comments=[block for block in raw.split(b"\n\n") if block.startswith(b": cont")],
    )


def worker_of(fleet: Fleet, other: Child) -> Callable[[str], int]:
    """A worker's process by its name."""

    def find(name: str) -> int:
        pid = other.pid if name == OTHER else fleet.pid("worker")
        assert pid is not None
        return pid

    return find


@pytest.mark.parametrize("sampling", [{}, SEEDED], ids=["greedy", "seeded"])
async def test_the_same_text_goes_on(fleet: Fleet, other: Child, sampling: dict[str, Any]) -> None:
    # Long enough to be cut in its middle; the longer, the more tokens that are as good as equal.
    fields = fleet.endless(800) | sampling
    expected = await ask(fleet, fields)
    answer = await ask_and_kill(fleet, other, fields, worker_of(fleet, other))
    assert answer.text == expected.text
    assert (answer.tokens, answer.done, answer.ids) == (expected.tokens, True, 1)
    assert answer.comments == []


def resumed(fleet: Fleet) -> float:
    return fleet.metric("edge", "headwater_gateway_resumed_streams_total")


async def test_a_sampled_answer_says_so_in_a_comment(fleet: Fleet, other: Child) -> None:
    fields = fleet.endless() | SAMPLED
    answer = await ask_and_kill(fleet, other, fields, worker_of(fleet, other))
    assert (answer.tokens, answer.done, answer.ids) == (1_500, True, 1)
    assert answer.comments == [b": continued on another worker; sampled anew"]


async def test_a_worker_whose_engine_alone_is_killed_is_followed_too(
    fleet: Fleet, other: Child
) -> None:
    fields = fleet.endless(800)
    expected = await ask(fleet, fields)
    find = worker_of(fleet, other)
    answer = await ask_and_kill(fleet, other, fields, lambda name: engine_of(find(name)))
    assert (answer.text, answer.done) == (expected.text, True)
