from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gpu_worker.heartbeat import Heartbeat
from tests.fakes.tier import Canned, StubTier, stub_tier
from tests.fakes.waiting import until
from wire.paths import HEARTBEAT
from wire.workers import (
    Command,
    HeartbeatAnswer,
    WorkerReport,
    decode_heartbeat,
    decode_report,
)

ACCEPTED = {f"POST {HEARTBEAT}": Canned(b"{}")}
NOBODY = "http://127.0.0.1:9"
Report = Callable[[], WorkerReport]


def report(state: str = "ready") -> WorkerReport:
    fields: dict[str, Any] = {
        "worker": "gpu-1",
        "url": "http://127.0.0.1:7402",
        "model": "chat",
        "channel": "stable",
        "revision": "a" * 64,
        "state": state,
        "slots": 4,
        "busy": 1,
        "queue": 0,
        "ttl_s": 4.0,
        "boot": {"load": 12.5},
    }
    return WorkerReport(**fields)


@asynccontextmanager
async def beating(
    *edges: str, interval_s: float = 30.0, make: Report = report
) -> AsyncIterator[Heartbeat]:
    heartbeat = Heartbeat(edges, "t0ken", make, interval_s=interval_s)
    running = asyncio.create_task(heartbeat.run())
    yield heartbeat
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await heartbeat.aclose()


def states(edge: StubTier) -> list[str]:
    return [json.loads(received.body)["state"] for received in edge.received]


async def test_a_report_reaches_every_edge_with_the_token() -> None:
    with stub_tier(ACCEPTED) as one, stub_tier(ACCEPTED) as two:
        async with beating(one.url, two.url):
            await until(lambda: bool(one.received and two.received))
        for edge in (one, two):
            assert edge.received[0].path == HEARTBEAT
            assert edge.received[0].headers["authorization"] == "Bearer t0ken"
            assert decode_report(edge.received[0].body) == report()


async def test_it_beats_without_news_and_at_once_with_them() -> None:
    with stub_tier(ACCEPTED) as edge:
        async with beating(edge.url, interval_s=0.02):
            await until(lambda: len(edge.received) >= 3)
    state = ["booting"]
    with stub_tier(ACCEPTED) as edge:
        async with beating(edge.url, interval_s=1_000, make=lambda: report(state[0])) as heartbeat:
            await until(lambda: len(edge.received) == 1)
            state[0] = "ready"
            heartbeat.poke()
            await until(lambda: len(edge.received) == 2)
        assert states(edge) == ["booting", "ready"]


async def test_news_during_a_beat_are_not_lost() -> None:
    with stub_tier(ACCEPTED) as edge:
        pokes: list[Heartbeat] = []

        def make() -> WorkerReport:
            if pokes:
                pokes.pop().poke()  # while this report is made
            return report()

        async with beating(edge.url, interval_s=1_000, make=make) as heartbeat:
            await until(lambda: len(edge.received) == 1)
            pokes.append(heartbeat)
            heartbeat.poke()
            await until(lambda: len(edge.received) == 3)


@pytest.mark.parametrize("status", [401, 500])
async def test_an_edge_that_refuses_or_is_away_is_told_again_and_delays_nobody(
    status: int,
) -> None:
    refusing = {f"POST {HEARTBEAT}": Canned({"detail": "no"}, status)}
    with stub_tier(refusing) as bad, stub_tier(ACCEPTED) as good:
        async with beating(NOBODY, bad.url, good.url, interval_s=0.02):
            await until(lambda: len(good.received) >= 3 and len(bad.received) >= 3)


async def beats(heartbeat: Heartbeat, edge: StubTier, count: int) -> None:
    for _ in range(count):
        before = len(edge.received)
        heartbeat.poke()
        await until(lambda before=before: len(edge.received) > before)  # type: ignore[misc]


async def test_only_news_about_an_edge_are_logged(capsys: pytest.CaptureFixture[str]) -> None:
    with stub_tier({}) as edge:
        # So long an interval because an edge is waited for as long: none is lost meanwhile.
        async with beating(edge.url, interval_s=1_000) as heartbeat:
            await beats(heartbeat, edge, 3)
            edge.answers.update(ACCEPTED)
            await beats(heartbeat, edge, 3)
    logged = [line for line in capsys.readouterr().out.splitlines() if "heartbeat" in line]
    assert len(logged) == 2
    assert "refused (404)" in logged[0]
    assert "accepted" in logged[1]


async def test_a_worker_with_several_models_tells_of_all_of_them_at_once() -> None:
    heard: list[tuple[str, HeartbeatAnswer]] = []
    commands = [{"id": "c1", "node": "gpu-1", "action": "drain"}]
    answers = {f"POST {HEARTBEAT}": Canned({"commands": commands})}
    with stub_tier(answers) as edge:
        heartbeat = Heartbeat(
            (edge.url,),
            "t",
            lambda: (report("ready"), report("asleep")),
            interval_s=1,
            answered=lambda url, answer: heard.append((url, answer)),
        )
        await heartbeat.send()
        await heartbeat.aclose()
        (received,) = edge.received
    assert [told.state for told in decode_heartbeat(received.body)] == ["ready", "asleep"]
    wanted = Command(id="c1", node="gpu-1", action="drain")
    assert heard == [(edge.url, HeartbeatAnswer(commands=(wanted,)))]


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_an_answer_may_say_nothing(body: bytes) -> None:
    heard: list[HeartbeatAnswer] = []
    with stub_tier({f"POST {HEARTBEAT}": Canned(body, 200 if body else 204)}) as edge:
        heartbeat = Heartbeat(
            (edge.url,),
            "t",
            report,
            interval_s=1,
            answered=lambda _url, answer: heard.append(answer),
        )
        await heartbeat.send()
        await heartbeat.aclose()
    assert heard == [HeartbeatAnswer()]


async def test_the_goodbye_waits_for_all_edges() -> None:
    with stub_tier(ACCEPTED) as edge:
        heartbeat = Heartbeat((edge.url, NOBODY), "t", lambda: report("draining"), interval_s=0.2)
        await heartbeat.send()
        assert states(edge) == ["draining"]
        await heartbeat.aclose()


async def test_a_worker_without_edges_has_nobody_to_tell() -> None:
    heartbeat = Heartbeat((), "t", report, interval_s=1)
    await asyncio.wait_for(heartbeat.run(), 30)
    await heartbeat.send()
    heartbeat.poke()
    await heartbeat.aclose()
