"""gpu_worker.resuming: an answer goes on that another worker began."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gpu_worker.answers import AnswersConfig
from gpu_worker.engine import EngineBrokenError, Finish, Generation, Sink, Token, TokenEvent
from gpu_worker.engines.llamacpp import LlamaCpp
from gpu_worker.resuming import Replay, ReplayDiffersError, continued, whole_usage
from gpu_worker.routes import RoutesConfig
from tests.fakes.engine import FakeEngine, FakeStream, finish
from tests.fakes.scripted_gguf import SCRIPT
from tests.fakes.worker_api import ASK, CHAT, STREAM, StartApi, WorkerApi, content
from wire.journal import JournalWanted
from wire.sse import SSEDecoder

StartLlama = Callable[..., Awaitable[LlamaCpp]]
NAMED = {"id": "chatcmpl-one", "created": 7}
WORDS: list[list[TokenEvent]] = [
    [Token("a", None, (1,))],
    [Token("é", None, (-1, 2))],
    [Token("b", None, (3, 4)), Token("c", None, (5,))],
    [Finish(reason="stop", prompt_tokens=3, completion_tokens=7, ids=(6,))],
]


def journal(*ids: int, replay: bool = False) -> JournalWanted:
    return JournalWanted(id="chatcmpl-one", created=7, ids=ids, replay=replay)


async def rest(stream: Replay) -> str:
    texts = [e.text async for batch in stream for e in batch if isinstance(e, Token)]
    return "".join(texts)


async def raw(worker: WorkerApi, body: dict[str, Any]) -> bytes:
    async with worker.post(CHAT, body) as answer:
        assert answer.status == 200, await answer.text()
        return bytes(await answer.read())


@pytest.mark.parametrize(
    ("expected", "text"),
    [((1,), "ébc"), ((1, -1, 2), "bc"), ((1, -1, 2, 3, 4), "c"), ((1, -1, 2, 3, 4, 5), "")],
)
async def test_what_the_client_has_is_not_given_again(expected: tuple[int, ...], text: str) -> None:
    engine = FakeEngine(WORDS)
    stream = Replay(FakeStream(engine), expected)
    batches = [batch async for batch in _to_finish(stream)]
    assert "".join(e.text for batch in batches for e in batch if isinstance(e, Token)) == text
    assert isinstance(batches[-1][-1], Finish)
    await stream.aclose()
    assert engine.open == 0


async def _to_finish(stream: Replay) -> Any:
    async for batch in stream:
        yield batch
        if isinstance(batch[-1], Finish):
            return


@pytest.mark.parametrize("expected", [(9,), (1, 2), (1, -2, 2), (1, -1, 2, 3), (1, -1, 2, 3, 4, 9)])
async def test_other_tokens_are_another_answer(expected: tuple[int, ...]) -> None:
    stream = Replay(FakeStream(FakeEngine(WORDS)), expected)
    with pytest.raises(ReplayDiffersError):
        await rest(stream)
    await stream.aclose()


async def test_an_event_that_says_nothing_is_in_no_journal() -> None:
    """So it is no reason to call an answer another one."""
    silent: list[list[TokenEvent]] = [WORDS[0], [Token("")], *WORDS[1:]]
    stream = Replay(FakeStream(FakeEngine(silent)), (1, -1, 2, 3, 4))
    batches = [batch async for batch in _to_finish(stream)]
    assert "".join(e.text for batch in batches for e in batch if isinstance(e, Token)) == "c"


async def test_an_answer_that_ends_too_early_is_another_one() -> None:
    stream = Replay(FakeStream(FakeEngine(WORDS)), (1, -1, 2, 3, 4, 5, 8))
    with pytest.raises(ReplayDiffersError):
        await rest(stream)


async def test_a_replay_that_breaks_is_broken() -> None:
    with pytest.raises(EngineBrokenError):
        await rest(Replay(FakeStream(FakeEngine(WORDS[:1])), (1, 2)))


class Collected(Sink):
    """Keeps what it is given, and has room at times."""

    def __init__(self) -> None:
        self.events: list[TokenEvent] = []
        self.drains = 0

    def give(self, batch: list[TokenEvent]) -> bool:
        self.events += batch
        return len(self.events) % 2 == 0

    async def drained(self) -> None:
        self.drains += 1


@pytest.mark.parametrize("expected", [(1,), (1, -1, 2), (1, -1, 2, 3, 4, 5)])
async def test_it_may_be_pumped_from_the_start(expected: tuple[int, ...]) -> None:
    sink = Collected()
    stream = Replay(FakeStream(FakeEngine(WORDS)), expected)
    await stream.pump(sink)
    assert isinstance(sink.events[-1], Finish)
    assert sum(isinstance(event, Finish) for event in sink.events) == 1


def test_what_goes_on_after_tokens_has_them_behind_its_prompt() -> None:
    asked: list[Generation] = []

    def open_stream(request: Generation) -> Any:
        asked.append(request)

    request = Generation(prompt=(1, 2), max_tokens=10)
    continued(open_stream, request, journal(5, 6))
    continued(open_stream, Generation(prompt=(1, 2)), journal(5))
    continued(open_stream, request, journal())
    assert [(one.prompt, one.max_tokens) for one in asked] == [
        ((1, 2, 5, 6), 8),
        ((1, 2, 5), None),
        ((1, 2), 10),
    ]
    assert all(one.token_ids for one in asked)


def test_usage_is_of_the_whole_answer() -> None:
    last = finish(prompt=10, completion=4)
    assert whole_usage(last, None) == (10, 4)
    assert whole_usage(last, journal()) == (10, 4)
    assert whole_usage(last, journal(5, 6)) == (8, 6)
    assert whole_usage(last, journal(5, 6, replay=True)) == (10, 4)


async def test_a_journal_is_told_before_each_event(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine(WORDS))
    answer = await raw(worker, {**STREAM, "journal": NAMED})
    ids = [block.split(b"\n")[0] for block in answer.split(b"\n\n") if b"choices" in block]
    assert ids == [b"id: ", b"id: 1", b"id:-1,2", b"id: 3,4", b"id: 5", b"id: 6"]
    data = [event.data for event in SSEDecoder().feed(answer)]
    assert (content(data), data[-1]) == ("aébc", "[DONE]")
    chunks = [json.loads(item) for item in data[:-1]]
    assert {(chunk["id"], chunk["created"]) for chunk in chunks} == {("chatcmpl-one", 7)}


async def test_an_engine_that_does_not_know_its_tokens_tells_none(start_api: StartApi) -> None:
    worker = await start_api(FakeEngine())
    answer = await raw(worker, {**STREAM, "journal": NAMED})
    with_text = [block for block in answer.split(b"\n\n") if b'"content":"' in block]
    assert [block.startswith(b"id: ") for block in with_text] == [True, False, False]


@pytest.mark.parametrize("replay", [False, True])
async def test_an_answer_goes_on_under_its_name_without_a_second_beginning(
    start_api: StartApi, replay: bool
) -> None:
    engine = FakeEngine(WORDS)
    worker = await start_api(engine)
    wanted = {**NAMED, "ids": [1], "begun": True, "replay": replay}
    usage = {"include_usage": True}
    data = await worker.events({**STREAM, "journal": wanted, "stream_options": usage})
    assert content(data) == ("ébc" if replay else "aébc")
    chunks = [json.loads(item) for item in data[:-1]]
    assert "role" not in chunks[0]["choices"][0]["delta"]
    assert {chunk["id"] for chunk in chunks} == {"chatcmpl-one"}
    before = 0 if replay else 1
    assert chunks[-1]["usage"]["prompt_tokens"] == 3 - before
    assert chunks[-1]["usage"]["completion_tokens"] == 7 + before
    assert engine.asked[0].prompt == ((1, 2, 3) if replay else (1, 2, 3, 1))


async def test_a_replay_that_differs_is_refused_before_it_begins(start_api: StartApi) -> None:
    engine = FakeEngine(WORDS)
    worker = await start_api(engine)
    body = {**STREAM, "journal": {**NAMED, "ids": [9], "replay": True}}
    async with worker.post(CHAT, body) as answer:
        assert answer.status == 422
        assert (await answer.json())["error"]["code"] == "replay_differs"
    assert engine.open == 0


async def test_a_replay_that_differs_after_a_keep_alive_is_an_event(start_api: StartApi) -> None:
    engine = FakeEngine(WORDS)
    engine.gate.clear()
    routes = RoutesConfig(answers=AnswersConfig(ping_interval_s=0.01))
    worker = await start_api(engine, routes=routes)
    body = {**STREAM, "journal": {**NAMED, "ids": [9], "replay": True}}
    async with worker.post(CHAT, body) as answer:
        assert await answer.content.readuntil(b"\n\n") == b": ping\n\n"
        engine.gate.set()
        events = SSEDecoder().feed(await answer.read())
    assert json.loads(events[-1].data)["error"]["code"] == "replay_differs"


@pytest.mark.parametrize(
    "change",
    [
        {"stream": False},
        {"n": 2},
        {"prompt_token_ids": None, "messages": [{"role": "user", "content": "x"}]},
        {"journal": {**NAMED, "ids": [1, 2]}, "max_tokens": 2},
        {"journal": {**NAMED, "ids": [-1, 2]}},
        {"journal": {"id": 'a"', "created": 7}},
        {"journal": {**NAMED, "ids": [-(2**40)]}},
    ],
)
async def test_a_journal_that_cannot_be_is_refused(
    start_api: StartApi, change: dict[str, Any]
) -> None:
    body = {**ASK, "stream": True, "journal": NAMED} | change
    async with (await start_api(FakeEngine())).post(CHAT, body) as answer:
        assert answer.status == 400


async def test_llama_goes_on_exactly_where_another_was_cut(
    start_api: StartApi, start_llama: StartLlama
) -> None:
    """At every token, also within characters of several: with the real engine and its real gaps."""
    worker = await start_api(await start_llama())
    total = len(SCRIPT.encode())
    body = {**STREAM, "prompt_token_ids": [0], "max_tokens": total, "temperature": 0}
    whole = await raw(worker, {**body, "journal": NAMED})
    lines = [block.split(b"\n")[0] for block in whole.split(b"\n\n") if b'"content":"' in block]
    told = [[int(id_) for id_ in line[3:].split(b",") if id_.strip()] for line in lines]
    assert [-1, 0xB6] in told, "a gap in a character of two tokens"
    assert [-3, 0x8A] in told
    text = content([e.data for e in SSEDecoder().feed(whole)])
    for end in range(1, len(told)):
        before = [id_ for ids in told[:end] for id_ in ids]
        replay = {**NAMED, "ids": before, "replay": True}
        again = content(await worker.events({**body, "journal": replay}))
        done = "".join(
            json.loads(block.split(b"data: ")[1])["choices"][0]["delta"]["content"]
            for block in whole.split(b"\n\n")[:end]
        )
        assert done + again == text
        if min(before, default=0) >= 0:
            after = content(await worker.events({**body, "journal": {**NAMED, "ids": before}}))
            assert done + after == text
