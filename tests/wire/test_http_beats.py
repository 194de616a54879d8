from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.fakes.tier import Canned, stub_tier
from tests.fakes.waiting import until
from wire.http_beats import Answered, Beats

PATH = "/beat"
ANSWERS = {f"POST {PATH}": Canned({"said": "yes"})}


@asynccontextmanager
async def beating(
    *urls: str,
    answered: Answered = lambda _url, _body: None,
    interval_s: float = 0.01,
    body: Callable[[], bytes] = lambda: b"{}",
) -> AsyncIterator[Beats]:
    beats = Beats(urls, "t", PATH, body, interval_s=interval_s, answered=answered, name="beat")
    running = asyncio.create_task(beats.run())
    yield beats
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await beats.aclose()


async def test_every_answer_is_told_with_the_server_it_came_from() -> None:
    heard: list[tuple[str, bytes]] = []
    with stub_tier(ANSWERS) as one, stub_tier({f"POST {PATH}": Canned(b"", 204)}) as two:
        async with beating(
            one.url, two.url, answered=lambda url, body: heard.append((url, body)), interval_s=99
        ):
            await until(lambda: len(heard) == 2)
        assert sorted(heard) == sorted([(one.url, b'{"said": "yes"}'), (two.url, b"")])


async def test_a_refusal_is_told_nobody_and_logged_once_with_its_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    heard: list[bytes] = []
    refusing = {f"POST {PATH}": Canned({"detail": "not\x1b[2J here"}, 403)}
    with stub_tier(refusing) as server:
        # A server is waited for as long as an interval: none is lost meanwhile.
        async with beating(
            server.url, answered=lambda _url, body: heard.append(body), interval_s=1_000
        ) as beats:
            for count in range(1, 4):
                await until(lambda count=count: len(server.received) >= count)  # type: ignore[misc]
                beats.poke()
    logged = [line for line in capsys.readouterr().out.splitlines() if "refused (403)" in line]
    assert len(logged) == 1
    assert "not[2J here" in logged[0]
    assert heard == []


async def test_an_answer_that_cannot_be_read_ends_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with stub_tier(ANSWERS) as server:

        def refuse(_url: str, body: bytes) -> None:
            msgspec.json.decode(body, type=int)

        async with beating(server.url, answered=refuse):
            await until(lambda: len(server.received) >= 3)
    assert capsys.readouterr().out.count("answered nonsense") == 1


async def test_a_busy_event_loop_does_not_delay_a_beat() -> None:
    with stub_tier(ANSWERS) as server:
        async with beating(server.url):
            await until(lambda: len(server.received) >= 2)
            before = len(server.received)
            ends_s = time.monotonic() + 30
            while len(server.received) == before and time.monotonic() < ends_s:
                time.sleep(0.01)  # noqa: ASYNC251 - just that
            assert len(server.received) > before


async def test_a_goodbye_is_not_taken_back_by_a_beat_that_was_made_before_it() -> None:
    rounds = 20
    with stub_tier(ANSWERS) as server:
        for _ in range(rounds):
            leaving: list[asyncio.Task[None]] = []

            def body(leaving: list[asyncio.Task[None]] = leaving) -> bytes:
                if leaving:
                    return b'"left"'
                leaving.append(asyncio.ensure_future(beats.send()))
                return b'"here"'

            async with beating(server.url, body=body, interval_s=99) as beats:
                await until(lambda leaving=leaving: bool(leaving))  # type: ignore[misc]
                await leaving[0]
        assert [seen.body for seen in server.received] == [b'"here"', b'"left"'] * rounds


async def test_a_server_that_accepts_and_never_answers_delays_nobody_else() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stuck, stub_tier(ANSWERS) as server:
        url = f"http://127.0.0.1:{stuck.getsockname()[1]}"
        async with beating(url, server.url):
            await until(lambda: len(server.received) >= 3)


async def test_a_body_that_cannot_be_made_is_logged_and_the_next_one_sent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bugs = [ValueError("a bug")]

    def body() -> bytes:
        if bugs:
            raise bugs.pop()
        return b"{}"

    with stub_tier(ANSWERS) as server:
        async with beating(server.url, body=body):
            await until(lambda: len(server.received) >= 1)
    assert "no report could be made" in capsys.readouterr().out


async def test_whoever_has_the_name_is_told_and_whoever_lost_it_no_more() -> None:
    addresses = ["127.0.0.1"]
    heard: list[str] = []
    with stub_tier(ANSWERS) as server:
        port = int(server.url.rpartition(":")[2])
        beats = Beats(
            [f"dns+http://edges:{port}"],
            "t",
            PATH,
            lambda: b"{}",
            interval_s=0.01,
            answered=lambda url, _body: heard.append(url),
            name="beat",
            look_s=0.02,
            resolve=lambda _host, _port: list(addresses),
        )
        running = asyncio.create_task(beats.run())
        first = f"http://127.0.0.1:{port}"
        await until(lambda: first in heard)
        addresses[:] = []
        await until(lambda: "beat-" not in " ".join(t.name for t in threading.enumerate()))
        addresses[:] = ["127.0.0.1"]
        heard.clear()
        await until(lambda: first in heard)
        heard.clear()
        await beats.send()
        assert first in heard  # the goodbye goes to all that are known
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await beats.aclose()
