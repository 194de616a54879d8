"""edge_tier.gateway.resumer with workers that lie in their journal, and at every single cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from edge_tier.gateway.resume import ResumeConfig
from tests.edge_tier.gateway.test_resumer import (
    GREEDY,
    JOURNAL,
    Setting,
    assert_whole,
    chunks,
    setting,
    size,
    text_of,
)
from tests.fakes.gateway import MODEL
from tests.fakes.going_on import FEATURES, TEXT, Worker
from wire.chat import DONE, ChunkEncoder, error_event
from wire.journal import id_line

NAMED: dict[str, Any] = dict(JOURNAL)
ENCODER = ChunkEncoder(NAMED["id"], MODEL, NAMED["created"])
BROKEN = error_event("the engine died", "server_error", "engine_broken")


def says(at: Setting, *events: bytes, breaks: bool = True) -> None:
    """The first worker gives these pieces, each in a chunk of its own, and breaks off."""

    async def answer(request: web.Request) -> web.StreamResponse:
        journal = at.first.asked[-1]
        response = await at.first.backend.begin(request)
        for event in events:
            named = event.replace(NAMED["id"].encode(), journal["id"].encode())
            await response.write(named.replace(b"1700000000", b"%d" % journal["created"]))
        if breaks:
            assert request.transport is not None
            request.transport.close()
        return response

    at.first.backend.answer = answer


async def test_every_cut_of_the_end_gives_the_end_once(tmp_path: Path) -> None:
    """Also between the finish, the usage and the mark of the end."""
    async with setting(tmp_path) as at:
        whole = size(at.first)
        for cut in range(whole - 330, whole + 1, 3):
            at.first.cuts, at.second.cuts = [cut], []
            at.mend()
            assert_whole(await at.raw(GREEDY))


@pytest.mark.parametrize("apart", [True, False])
async def test_an_error_before_the_end_mark_is_no_whole_answer(tmp_path: Path, apart: bool) -> None:
    begun = (id_line(()) + ENCODER.role(), id_line((50,)) + ENCODER.delta("The"))
    ends = (BROKEN, DONE) if apart else (BROKEN + DONE,)
    async with setting(tmp_path) as at:
        says(at, *begun, *ends, breaks=False)
        assert_whole(await at.raw(GREEDY))
        assert (await at.line())["resumed"] == [["continued", "w2", 1]]


async def test_what_follows_an_error_is_nobodys(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        says(
            at,
            id_line(()) + ENCODER.role(),
            id_line((50,)) + ENCODER.delta("The"),
            BROKEN,
            id_line((51,)) + ENCODER.delta("forged"),
            id_line((52,)) + ENCODER.delta("forged"),
        )
        assert_whole(await at.raw(GREEDY))


@pytest.mark.parametrize("known", [0, 2])
async def test_text_whose_tokens_are_not_told_is_never_given_twice(
    tmp_path: Path, known: int
) -> None:
    """An empty line of ids before a text, at first or once the shape of the events is known."""
    told = [id_line((50,)) + ENCODER.delta("The"), id_line((262,)) + ENCODER.delta(" plan")]
    async with setting(tmp_path) as at:
        says(at, id_line(()) + ENCODER.role(), *told[:known], id_line(()) + ENCODER.delta("secret"))
        raw = await at.raw(GREEDY)
        assert text_of(raw).count("The") <= 1
        assert b"[DONE]" not in raw
        assert at.second.asked == []
        assert (await at.line())["outcome"] == "broken"


@pytest.mark.parametrize(
    "lines",
    [
        b"id: 50\nid: 51\n%b",
        b"id: 50\nevent: other\n%b",
        b"id: 50\nretry: 1\nid\n%b",
    ],
)
async def test_no_line_but_the_datas_reaches_the_client(tmp_path: Path, lines: bytes) -> None:
    async with setting(tmp_path) as at:
        says(at, id_line(()) + ENCODER.role(), lines % ENCODER.delta("The"), breaks=True)
        raw = await at.raw(GREEDY)
        assert all(line.startswith((b"data: ", b":")) for line in raw.split(b"\n") if line), raw


@pytest.mark.parametrize(
    "line",
    [
        b"id: 99999999999\n",
        b"id: 2147483648\n",
        b"id:-1048577\n",
        b"id:-1048576\n",
        b"id: ,\n",
        b"id: 1,,2\n",
        b"id: \xff\n",
        b"id: 50x\n",
        b"id: " + b"1," * 400_000 + b"1\n",
        b"id: " + b"-1," * 30 + b"-9\n",
    ],
    ids=range(10),
)
async def test_a_lie_in_the_journal_ends_in_an_error_and_is_not_charged(
    tmp_path: Path, line: bytes
) -> None:
    async with setting(tmp_path) as at:
        says(
            at,
            id_line(()) + ENCODER.role(),
            id_line((50,)) + ENCODER.delta("The"),
            line + ENCODER.delta(" plan"),
        )
        raw = await at.raw(GREEDY | {"max_tokens": 30})
        assert b"[DONE]" not in raw
        assert "id:" not in raw.decode()
        assert at.second.asked == []
        assert chunks(raw)[-1]["error"]
        assert (await at.line())["output_tokens"] <= 30


async def test_a_worker_that_goes_on_without_a_journal_is_not_followed(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.gateway.report(
            worker="w2",
            url=at.second.backend.url,
            features=frozenset({"logprobs", "token_ids", "messages_only"}),
            busy=3,
        )
        at.first.cuts = [800]
        raw = await at.raw(GREEDY)
        assert TEXT not in text_of(raw)
        assert b"[DONE]" not in raw


async def test_ids_answered_by_another_revision_are_no_answer(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.revision = at.gateway.other_revision
        assert_whole(await at.raw(GREEDY))
        figures = {f.revision: (f.answered, f.failed) for f in at.gateway.counts.figures()}
        assert figures == {at.gateway.revision: (1, 1)}


async def test_a_broken_stream_is_one_failure_of_the_worker_that_broke(tmp_path: Path) -> None:
    """However often the busy ones were asked until one went on."""
    async with setting(tmp_path, resume=ResumeConfig(retry_s=0.005)) as at:
        at.first.cuts = [800]
        times = 0

        async def busy(request: web.Request) -> web.StreamResponse:
            nonlocal times
            times += 1
            if times < 6:
                error = {"message": "full", "code": "queue_full"}
                return web.json_response({"error": error}, status=503)
            return await at.second.answer(request)

        at.second.backend.answer = busy
        assert_whole(await at.raw(GREEDY))
        (figures,) = at.gateway.counts.figures()
        assert (figures.answered, figures.failed) == (1, 1)
        member = at.gateway.fleet.member("w2", MODEL)
        assert member is not None
        assert member.breaker.state() == "closed"


async def test_a_worker_with_less_context_leaves_it_to_another(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        third = Worker("w3", at.gateway.cloud, at.gateway.revision)
        at.gateway.report(worker="w3", url=third.backend.url, features=FEATURES, busy=4)

        async def small(_request: web.Request) -> web.StreamResponse:
            error = {"message": "too long", "code": "context_length_exceeded"}
            return web.json_response({"error": error}, status=400)

        at.second.backend.answer = small
        at.first.cuts = [800]
        assert_whole(await at.raw(GREEDY))
        assert (await at.line())["resumed"][0][:2] == ["continued", "w3"]
