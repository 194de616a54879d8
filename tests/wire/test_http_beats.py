from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from tests.fakes.tier import Canned, stub_tier
from tests.fakes.waiting import until
from wire.http_beats import Answered, Beats

PATH = "/beat"
ANSWERS = {f"POST {PATH}": Canned({"said": "yes"})}


@asynccontextmanager
async def beating(*urls: str, answered: Answered, interval_s: float = 0.01) -> AsyncIterator[Beats]:
    beats = Beats(
        urls, "t", PATH, lambda: b"{}", interval_s=interval_s, answered=answered, name="beat"
    )
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
        async with beating(server.url, answered=lambda _url, body: heard.append(body)):
            await until(lambda: len(server.received) >= 3)
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
