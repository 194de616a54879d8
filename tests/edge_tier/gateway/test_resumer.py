"""edge_tier.gateway.resumer: an answer that a worker broke off goes on at another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from openai import APIError, AsyncOpenAI
from openai.types.chat import ChatCompletionChunk
from prometheus_client import generate_latest

from edge_tier.gateway.gate import GateConfig
from edge_tier.gateway.hybrid import HybridConfig
from edge_tier.gateway.relay import RelayConfig
from edge_tier.gateway.request import Policy
from edge_tier.gateway.resume import ANEW, ResumeConfig
from edge_tier.gateway.upstream import UpstreamConfig
from tests.fakes.gateway import MODEL, Gateway, gateway_in
from tests.fakes.going_on import FEATURES, TEXT, TOKENS, WORDS, Words, Worker, two_workers
from tests.fakes.waiting import until
from wire.chat import ChunkEncoder, error_event
from wire.journal import id_line
from wire.sse import SSEDecoder

ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "What is the plan?"}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 100,
}
GREEDY = ASK | {"temperature": 0}
SEEDED = ASK | {"temperature": 0.9, "seed": 7}
JOURNAL = {"id": "chatcmpl-" + "0" * 16, "created": 1_700_000_000}


class Setting:
    """A gateway with two workers of one revision."""

    def __init__(self, gateway: Gateway, first: Worker, second: Worker) -> None:
        self.gateway = gateway
        self.first = first
        self.second = second
        self._asked = 0

    async def raw(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> bytes:
        post = self.gateway.client.post
        self._asked += 1
        answer = await post(path, json=body, headers=self.gateway.headers)
        assert answer.status == 200, await answer.text()
        return await answer.read()

    async def line(self) -> dict[str, Any]:
        """That of the last request, which is written a moment after its answer."""
        await until(lambda: self.gateway.log.getvalue().count(b'"answered"') >= self._asked)
        lines = self.gateway.log.getvalue().splitlines()
        return next(one for one in map(json.loads, reversed(lines)) if one["event"] == "answered")

    def metrics(self) -> str:
        return generate_latest(self.gateway.registry).decode()

    def mend(self) -> None:
        """Both are as good as new, and the first one is asked first."""
        for name in ("w1", "w2"):
            member = self.gateway.fleet.member(name, MODEL)
            assert member is not None
            member.failed_until = 0.0
            member.breaker.succeeded()


@asynccontextmanager
async def setting(folder: Path, **settings: Any) -> AsyncIterator[Setting]:
    async with (
        gateway_in(folder, **settings) as gateway,
        two_workers(gateway) as (first, second),
    ):
        yield Setting(gateway, first, second)


def chunks(raw: bytes) -> list[dict[str, Any]]:
    data = [event.data for event in SSEDecoder().feed(raw)]
    return [json.loads(item) for item in data if item != "[DONE]"]


def text_of(raw: bytes) -> str:
    choices = [choice for chunk in chunks(raw) for choice in chunk.get("choices", ())]
    return "".join(c.get("text") or c.get("delta", {}).get("content") or "" for c in choices)


def size(worker: Worker, journal: dict[str, Any] = JOURNAL) -> int:
    """Bytes of its whole answer."""
    whole = worker.whole({"prompt_token_ids": (1,), "journal": journal})
    assert whole is not None
    return len(whole)


def assert_whole(raw: bytes) -> None:
    """Everything that an answer without a break has, once."""
    assert text_of(raw) == TEXT
    assert raw.endswith(b"data: [DONE]\n\n")
    found = chunks(raw)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in found}) == 1
    choices = [choice for chunk in found for choice in chunk["choices"]]
    assert sum("role" in choice["delta"] for choice in choices) == 1
    assert [c["finish_reason"] for c in choices if c["finish_reason"]] == ["stop"]
    assert [chunk["usage"]["completion_tokens"] for chunk in found if chunk.get("usage")] == [
        TOKENS
    ]
    assert b"id: " not in raw
    assert not any("error" in chunk for chunk in found)


UNMET = """
[[policies.default.content]]
name = "never met"
words = ["xyzzy"]
sides = ["output"]
"""


@pytest.mark.parametrize("policies", ["", UNMET], ids=["spliced", "rewritten"])
@pytest.mark.parametrize("ask", [GREEDY, SEEDED], ids=["greedy", "seeded"])
async def test_the_same_text_goes_on_wherever_it_was_cut(
    tmp_path: Path, ask: dict[str, Any], policies: str
) -> None:
    """After every few bytes of the stream, also in its last event and its end mark."""
    async with setting(tmp_path, policies=policies) as at:
        whole = size(at.first)
        for cut in range(30, whole, 61):
            at.first.cuts, at.second.cuts = [cut], []
            at.mend()
            raw = await at.raw(ask)
            assert_whole(raw)
            assert b": continued" not in raw
            line = await at.line()
            assert (line["outcome"], line["output_tokens"]) == ("whole", TOKENS)
            assert line["resumed"][0][0] in {"completed", "replayed", "continued"}
        replays = {asked.get("replay", False) for asked in at.second.asked if asked.get("ids")}
        assert len(at.second.asked) > 20
        # A gap that tokenizing again does not fill for sure is no ground to go on from.
        assert replays == ({True} if ask is SEEDED else {True, False})


async def test_a_sampled_answer_says_that_it_goes_on_otherwise(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        raw = await at.raw(ASK | {"temperature": 0.9})
        assert raw.count(ANEW) == 1
        assert_whole(raw.replace(ANEW, b""))
        assert at.second.asked[0].get("replay") is None
        assert (await at.line())["resumed"][0][0] == "anew"
        assert 'headwater_gateway_resumed_streams_total{outcome="anew"} 1.0' in at.metrics()


async def test_a_seed_that_gives_other_tokens_elsewhere_is_said(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        second = at.second.backend.answer

        async def other(request: Any) -> Any:
            replays = at.second.asked[-1].get("replay", False)
            at.second.words = [((1,), "Other"), ((2,), " words")] if replays else WORDS
            return await second(request)

        at.second.backend.answer = other
        raw = await at.raw(SEEDED)
        assert ANEW in raw
        assert_whole(raw.replace(ANEW, b""))
        assert [asked.get("replay", False) for asked in at.second.asked] == [True, False]


async def test_a_replay_that_differs_only_in_its_stream_is_another_try(tmp_path: Path) -> None:
    """A worker that had to keep the connection alive can only say it by an event."""
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        at.second.cuts = [0]
        at.second.faults = [error_event("other tokens", "invalid_request_error", "replay_differs")]
        raw = await at.raw(SEEDED)
        assert ANEW in raw
        assert_whole(raw.replace(ANEW, b""))
        assert [asked.get("replay", False) for asked in at.second.asked] == [True, False]


@pytest.mark.parametrize(
    "code", ["engine_broken", "engine_crashed", "engine_hung", "engine_out_of_memory"]
)
async def test_a_worker_whose_engine_is_gone_is_followed_and_its_error_not_shown(
    tmp_path: Path, code: str
) -> None:
    async with setting(tmp_path) as at:
        edge = at.first.whole({"prompt_token_ids": (1,), "journal": JOURNAL})
        assert edge is not None
        at.first.cuts = [edge.index(b"id: 355")]
        at.first.faults = [error_event("the engine died", "server_error", code)]
        assert_whole(await at.raw(GREEDY))


async def test_a_worker_that_falls_silent_is_followed(tmp_path: Path) -> None:
    async with setting(tmp_path, upstream=UpstreamConfig(stall_timeout_s=0.3)) as at:
        at.first.cuts, at.first.stalls = [800], True
        assert_whole(await at.raw(GREEDY))
        assert (await at.line())["resumed"][0][:2] == ["continued", "w2"]


ROWS = """
[[policies.default.routes]]
name = "checked"
when = {{ quality = "high" }}
target = "local"
mode = "{mode}"
"""
CHECKED = HybridConfig(gate=GateConfig(floor_tokens=2, floor_logprob=-0.5))


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (True, None),
        (False, None),
        (False, b": it ends here\n\n"),
        (False, error_event("why", "server_error", "engine_broken")),
    ],
)
async def test_what_has_passed_the_gate_goes_on_as_any_other(
    tmp_path: Path, stream: bool, fault: bytes | None
) -> None:
    """A whole answer of which nothing was given out is asked for again, as a whole."""
    async with setting(tmp_path, policies=ROWS.format(mode="gate"), hybrid=CHECKED) as at:
        at.first.logprobs = True
        at.first.faults = [fault] if fault is not None else []
        asked = {"prompt_token_ids": (1,)} | ({"journal": JOURNAL} if stream else {})
        says = at.first.whole(asked) or b""
        at.first.cuts = [says.rindex(b"\n\n", 0, says.index(b'"content":"."')) + 2]
        at.gateway.headers |= {"x-headwater-quality": "high"}
        body = GREEDY | {"model": "auto"}
        if stream:
            assert_whole(await at.raw(body))
            assert (await at.line())["resumed"][0][1] == "w2"
            assert at.first.backend.bodies[0]["logprobs_first"]
            assert "logprobs_first" not in at.second.backend.bodies[0]
        else:
            at.second.backend.answer = at.second.backend.usual
            whole = {k: v for k, v in body.items() if k != "stream_options"} | {"stream": False}
            raw = await at.raw(whole)
            assert json.loads(raw)["choices"][0]["message"]["content"] == "second"
            assert not at.second.backend.bodies[0]["stream"]
        assert (await at.line())["hybrid"] == "passed"


async def test_a_draft_is_not_journaled(tmp_path: Path) -> None:
    async with setting(tmp_path, policies=ROWS.format(mode="verify")) as at:
        at.first.backend.answer = at.first.backend.usual
        at.gateway.headers |= {"x-headwater-quality": "high"}
        await at.raw(GREEDY | {"model": "auto"})
        assert "journal" not in at.first.backend.bodies[0]


async def test_an_error_that_another_worker_would_repeat_is_passed_on(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        edge = at.first.whole({"prompt_token_ids": (1,), "journal": JOURNAL})
        assert edge is not None
        at.first.cuts = [edge.index(b"id: 355")]
        error = error_event("too long", "invalid_request_error", "context_length_exceeded")
        at.first.faults = [error]
        raw = await at.raw(GREEDY)
        assert raw.endswith(error)
        assert at.second.asked == []
        assert (await at.line())["outcome"] == "broken"


async def test_with_no_other_worker_it_is_an_error_event_and_no_done(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.gateway.report(worker="w2", url=at.second.backend.url, ttl_s=0.0)
        at.first.cuts = [800]
        raw = await at.raw(GREEDY)
        assert b"[DONE]" not in raw
        assert chunks(raw)[-1]["error"]["code"] == "upstream_failed"
        line = await at.line()
        assert line["outcome"] == "broken"
        assert "no worker" in line["not_resumed"]
        assert 'headwater_gateway_resumed_streams_total{outcome="not"} 1.0' in at.metrics()


async def test_a_worker_of_another_revision_is_not_asked(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        other = at.gateway.other_revision
        at.gateway.report(worker="w2", url=at.second.backend.url, features=FEATURES, revision=other)
        at.first.cuts = [800]
        assert b"[DONE]" not in await at.raw(GREEDY)
        assert at.second.asked == []


async def test_a_worker_that_has_just_rolled_is_not_gone_on_with(tmp_path: Path) -> None:
    async with setting(tmp_path, resume=ResumeConfig(timeout_s=0.5, retry_s=10)) as at:

        async def rolled(_request: Any) -> Any:
            headers = {"x-model-digest": at.gateway.other_revision}
            return web.json_response({}, status=409, headers=headers)

        at.second.backend.answer = rolled
        at.first.cuts = [800]
        assert b"[DONE]" not in await at.raw(GREEDY)
        assert len(at.second.backend.bodies) == 1
        assert "revision" in (await at.line())["not_resumed"]


async def test_a_worker_that_is_too_busy_is_asked_again(tmp_path: Path) -> None:
    async with setting(tmp_path, resume=ResumeConfig(retry_s=0.005)) as at:
        at.first.cuts = [800]
        times = 0

        async def busy(request: web.Request) -> web.StreamResponse:
            nonlocal times
            times += 1
            if times < 4:
                return web.json_response({}, status=503)
            return await at.second.answer(request)

        at.second.backend.answer = busy
        assert_whole(await at.raw(GREEDY))
        assert times == 4


async def test_a_worker_that_tells_no_tokens_is_not_asked_for_them(tmp_path: Path) -> None:
    async with gateway_in(tmp_path) as gateway:
        gateway.worker.answer = gateway.worker.broken
        answer = await gateway.client.post(
            "/v1/chat/completions", json=ASK, headers=gateway.headers
        )
        assert b"[DONE]" not in await answer.read()
        assert "journal" not in gateway.worker.bodies[0]


@pytest.mark.parametrize(
    "change",
    [
        {"n": 2},
        {"response_format": {"type": "json_object"}},
        {"stream": False, "stream_options": None},
    ],
)
async def test_what_cannot_go_on_is_not_journaled(tmp_path: Path, change: dict[str, Any]) -> None:
    async with setting(tmp_path) as at:
        everything = FEATURES | {"n", "json_schema"}
        at.gateway.report(features=everything)
        at.first.backend.answer = at.first.backend.usual
        body = {k: v for k, v in (GREEDY | change).items() if v is not None}
        await at.raw(body)
        assert "journal" not in at.first.backend.bodies[0]


async def test_it_goes_on_as_often_as_is_allowed(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        third = Worker("w3", at.gateway.cloud, at.gateway.revision)
        at.gateway.report(worker="w3", url=third.backend.url, features=FEATURES, busy=4)
        at.second.cuts = [300]
        raw = await at.raw(GREEDY)
        assert_whole(raw)
        assert [worker for _, worker, _ in (await at.line())["resumed"]] == ["w2", "w3"]
        at.mend()
        at.first.cuts, at.second.cuts, third.cuts = [800], [300], [250]
        raw = await at.raw(GREEDY)
        assert b"[DONE]" not in raw
        line = await at.line()
        assert "2 times already" in line["not_resumed"]


async def test_an_answer_over_the_journal_does_not_go_on(tmp_path: Path) -> None:
    async with setting(tmp_path, resume=ResumeConfig(journal_bytes=8)) as at:
        at.first.cuts = [1_200]
        raw = await at.raw(GREEDY)
        assert b"[DONE]" not in raw
        assert "longer than" in (await at.line())["not_resumed"]


async def test_events_without_ids_are_no_journal(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:

        async def forgetful(request: Any) -> Any:
            response = await at.first.backend.begin(request)
            encoder = ChunkEncoder("chatcmpl-1", MODEL, 1)
            await response.write(id_line(()) + encoder.role())
            await response.write(encoder.delta("some"))
            request.transport.close()
            return response

        at.first.backend.answer = forgetful
        assert b"[DONE]" not in await at.raw(GREEDY)
        assert at.second.asked == []
        assert "does not tell" in (await at.line())["not_resumed"]


async def test_resuming_can_be_switched_off(tmp_path: Path) -> None:
    async with setting(tmp_path, resume=ResumeConfig(max_resumes=0)) as at:
        at.first.backend.answer = at.first.backend.broken
        assert b"[DONE]" not in await at.raw(GREEDY)
        assert "journal" not in at.first.backend.bodies[0]


async def test_a_worker_that_says_nothing_is_not_waited_for_without_bound(tmp_path: Path) -> None:
    quick = ResumeConfig(timeout_s=0.3)
    async with setting(tmp_path, resume=quick, relay=RelayConfig(keep_alive_s=0.01)) as at:
        at.first.cuts = [800]
        at.second.backend.answer = at.second.backend.silent
        raw = await at.raw(GREEDY)
        assert b": waiting\n\n" in raw, "meanwhile the connection is kept alive"
        assert b"[DONE]" not in raw
        assert "too long" in (await at.line())["not_resumed"]
        await asyncio.wait_for(at.second.backend.gone.wait(), 30)


async def test_a_client_that_leaves_meanwhile_leaves_nothing_running(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        at.second.backend.answer = at.second.backend.silent
        asking = asyncio.create_task(at.raw(GREEDY))
        await until(lambda: bool(at.second.backend.bodies))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.wait_for(at.second.backend.gone.wait(), 30)
        await until(lambda: b'"outcome":"gone"' in at.gateway.log.getvalue())
        for name in ("w1", "w2"):
            member = at.gateway.fleet.member(name, MODEL)
            assert member is not None
            assert member.in_flight == 0


async def test_logprobs_are_there_once_for_every_token(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.logprobs = at.second.logprobs = True
        at.first.cuts = [1_500]
        raw = await at.raw(GREEDY | {"logprobs": True})
        assert_whole(raw)
        tokens = [
            entry["token"]
            for chunk in chunks(raw)
            for choice in chunk["choices"]
            for entry in ((choice["logprobs"] or {}).get("content") or ())
        ]
        assert tokens == [text for ids, text in WORDS for _ in ids]


async def test_a_completion_goes_on_too(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [700]
        body = {k: v for k, v in GREEDY.items() if k != "messages"} | {"prompt": "The"}
        raw = await at.raw(body, "/v1/completions")
        assert text_of(raw) == TEXT
        assert raw.endswith(b"data: [DONE]\n\n")
        assert len({chunk["id"] for chunk in chunks(raw)}) == 1
        assert chunks(raw)[0]["id"].startswith("cmpl-")
        assert at.second.asked[0]["ids"]


async def test_usage_that_nobody_asked_for_is_charged_and_not_shown(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        raw = await at.raw({k: v for k, v in GREEDY.items() if k != "stream_options"})
        assert text_of(raw) == TEXT
        assert b'"usage"' not in raw
        assert (await at.line())["output_tokens"] == TOKENS


async def test_what_was_given_is_charged_where_it_does_not_go_on(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.gateway.report(worker="w2", url=at.second.backend.url, ttl_s=0.0)
        at.first.cuts = [800]
        raw = await at.raw(GREEDY)
        given = sum(bool(chunk.get("choices")) for chunk in chunks(raw))
        assert (await at.line())["output_tokens"] == given


CONTENT = """
[[policies.default.content]]
name = "codenames"
words = ["is"]
sides = ["output"]
"""


async def test_a_content_rule_sees_one_stream(tmp_path: Path) -> None:
    """What it waits for began before the cut and ends after it."""
    async with setting(tmp_path, policies=CONTENT) as at:
        split_up: Words = [((50,), "The plan i"), ((51,), "s"), ((52,), " this")]
        at.first.words = at.second.words = split_up
        whole = at.first.whole({"prompt_token_ids": (1,), "journal": JOURNAL})
        assert whole is not None
        at.first.cuts = [whole.index(b"id: 51")]
        raw = await at.raw(GREEDY)
        assert chunks(raw)[-1]["choices"][0]["finish_reason"] == "content_filter"
        assert text_of(raw).strip() == "The plan"
        assert at.second.asked[0]["ids"] == [50]
        assert (await at.line())["blocked"] == "codenames"


async def test_a_placeholder_that_the_cut_divides_comes_back_whole(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        key = at.gateway.new_key(policy=Policy(personal_data="restore"))
        at.gateway.headers = {"Authorization": f"Bearer {key}"}
        at.first.words = at.second.words = [((50,), "To [EM"), ((51,), "AIL_1"), ((52,), "].")]
        whole = at.first.whole({"prompt_token_ids": (1,), "journal": JOURNAL})
        assert whole is not None
        at.first.cuts = [whole.index(b"id: 51")]
        address = "ada.lovelace@example.org"
        asked = [{"role": "user", "content": f"Write to {address}."}]
        raw = await at.raw(GREEDY | {"messages": asked})
        assert text_of(raw) == f"To {address}."
        assert raw.endswith(b"data: [DONE]\n\n")


async def test_as_many_tokens_as_were_asked_for_are_the_whole_answer(tmp_path: Path) -> None:
    """It was cut after the last of them and before it said so."""
    async with setting(tmp_path) as at:
        whole = at.first.whole({"prompt_token_ids": (1,), "journal": JOURNAL})
        assert whole is not None
        at.first.cuts = [whole.index(b"id: 355")]
        raw = await at.raw(GREEDY | {"max_tokens": 2})
        assert text_of(raw) == "The plan"
        assert raw.endswith(b"data: [DONE]\n\n")
        found = chunks(raw)
        assert [c["finish_reason"] for k in found for c in k["choices"]][-1] == "length"
        assert found[-1]["usage"]["completion_tokens"] == 2
        assert at.second.asked == []
        assert (await at.line())["resumed"] == [["completed", "", 2]]


async def test_the_stock_client_reads_one_answer_or_an_error(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:
        at.first.cuts = [800]
        base_url = str(at.gateway.client.make_url("/v1"))
        async with AsyncOpenAI(api_key=at.gateway.key, base_url=base_url, max_retries=0) as client:
            messages: Any = ASK["messages"]

            async def read() -> list[ChatCompletionChunk]:
                stream = await client.chat.completions.create(
                    model=MODEL, messages=messages, stream=True, max_tokens=100
                )
                return [chunk async for chunk in stream]

            got = await read()
            text = "".join(c.choices[0].delta.content or "" for c in got if c.choices)
            assert text == TEXT
            assert len({chunk.id for chunk in got}) == 1
            at.gateway.report(worker="w2", url=at.second.backend.url, ttl_s=0.0)
            at.first.cuts = [800]
            with pytest.raises(APIError):
                await read()


async def test_a_whole_answer_of_a_worker_that_dies_is_asked_for_again(tmp_path: Path) -> None:
    async with setting(tmp_path) as at:

        async def half(request: Any) -> Any:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"choices":[{"message":{"content":"ha')
            await asyncio.sleep(0.005)
            request.transport.close()
            return response

        at.first.backend.answer = half
        at.second.backend.answer = at.second.backend.usual
        body = {k: v for k, v in GREEDY.items() if k != "stream_options"} | {"stream": False}
        answer = json.loads(await at.raw(body))
        assert answer["choices"][0]["message"]["content"] == "second"
        assert (await at.line())["outcome"] == "whole"
        at.gateway.report(worker="w2", url=at.second.backend.url, ttl_s=0.0)
        refused = await at.gateway.client.post(
            "/v1/chat/completions", json=body, headers=at.gateway.headers
        )
        assert refused.status in {502, 503}
