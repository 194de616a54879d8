"""edge_tier.gateway.exchange: what happens to an answer between a backend and its client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from prometheus_client import generate_latest

from edge_tier.gateway.gate import GateConfig
from edge_tier.gateway.hybrid import HybridConfig
from edge_tier.gateway.pipeline import PipelineConfig
from edge_tier.gateway.relay import RelayConfig
from edge_tier.gateway.request import Policy
from edge_tier.gateway.shedding import SheddingConfig
from tests.fakes.gateway import CLOUD_MODEL, MODEL, Backend, Gateway, gateway_in
from tests.fakes.waiting import until
from wire.chat import DONE, ChunkEncoder, TokenLogprob
from wire.sse import SSEDecoder

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
AUTO = ASK | {"model": "auto"}
Make = Callable[..., AbstractAsyncContextManager[Gateway]]
SECRET = "ada.lovelace@example.org"


@pytest.fixture
def gateway(tmp_path: Path) -> Make:
    """Makes a gateway; its arguments are those of ``gateway_in``."""
    return lambda **settings: gateway_in(tmp_path, settings.pop("config", None), **settings)


async def post(gateway: Gateway, body: dict[str, Any], **headers: str) -> ClientResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.client.post(
        "/v1/chat/completions", json=body, headers=gateway.headers | names
    )


async def streamed(gateway: Gateway, body: dict[str, Any]) -> tuple[str, str, list[str]]:
    """The text of a streamed answer, its finish reason, and the data of all events."""
    answer = await post(gateway, body | {"stream": True})
    text, reason = "", ""
    events = [event.data for event in SSEDecoder().feed(await answer.read())]
    for data in events:
        chunk = json.loads(data) if data != "[DONE]" else {}
        for choice in chunk.get("choices", []):
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
    return text, reason, events


def says(backend: Backend, *words: str, logprob: float | None = None) -> None:
    """From now on the backend answers so, streamed or whole."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if not backend.bodies[-1]["stream"]:
            choice = {
                "index": 0,
                "message": {"role": "assistant", "content": "".join(words)},
                "finish_reason": "stop",
            }
            usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
            return web.json_response({"choices": [choice], "usage": usage})
        response = await backend.begin(request)
        encoder = ChunkEncoder("chatcmpl-1", MODEL, 1)
        await response.write(encoder.role())
        for word in words:
            told = [TokenLogprob(word, logprob)] if logprob is not None else None
            await response.write(encoder.delta(word, told))
            await asyncio.sleep(0)
        await response.write(encoder.finish("stop") + encoder.usage(5, len(words)) + DONE)
        return response

    backend.answer = answer


def lines(gateway: Gateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.log.getvalue().splitlines()]


async def told(gateway: Gateway) -> dict[str, Any]:
    """The line of the only request so far, which is written a moment after the answer."""
    await until(lambda: bool(lines(gateway)))
    return lines(gateway)[-1]


def shown(gateway: Gateway) -> str:
    return generate_latest(gateway.registry).decode()


async def test_a_client_that_waits_for_the_first_token_gets_comments(gateway: Make) -> None:
    async with gateway(relay=RelayConfig(keep_alive_s=0.02)) as made:
        go = asyncio.Event()
        usual = made.worker.answer

        async def slow(request: web.Request) -> web.StreamResponse:
            await go.wait()
            return await usual(request)

        made.worker.answer = slow
        answer = await post(made, ASK | {"stream": True})
        assert answer.status == 200
        assert "x-headwater-route" not in answer.headers
        begun = await answer.content.readuntil(b"\n\n")
        assert begun == b": waiting\n\n"
        go.set()
        rest = await answer.content.read()
        assert b"worker" in rest
        assert rest.endswith(DONE)


async def test_a_backend_that_fails_after_comments_is_an_event(gateway: Make) -> None:
    async with gateway(relay=RelayConfig(keep_alive_s=0.01)) as made:

        async def late(_request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.1)
            raise web.HTTPServiceUnavailable

        made.worker.answer = late
        text, _, events = await streamed(made, ASK)
        assert text == ""
        assert json.loads(events[-1])["error"]["code"] == "no_backend"


@pytest.mark.parametrize("stream", [True, False])
async def test_personal_data_come_back_that_no_backend_saw(gateway: Make, stream: bool) -> None:
    async with gateway() as made:
        key = made.new_key(policy=Policy(personal_data="restore"))
        made.headers = {"Authorization": f"Bearer {key}"}
        says(made.cloud, "I wrote to [EM", "AIL_1", "] and [EMAIL_2]", ".")
        asked = {
            "model": CLOUD_MODEL,
            "messages": [{"role": "user", "content": f"Write to {SECRET}."}],
        }
        if stream:
            text, _, _ = await streamed(made, asked)
        else:
            text = (await (await post(made, asked)).json())["choices"][0]["message"]["content"]
        assert text == f"I wrote to {SECRET} and [EMAIL_2]."
        assert SECRET not in json.dumps(made.cloud.bodies)
        assert "[EMAIL_1]" in made.cloud.bodies[0]["messages"][0]["content"]
        assert [f[0] for f in (await told(made))["findings"]] == ["email"]
        assert SECRET not in made.log.getvalue().decode()


CONTENT = """
[[policies.default.content]]
name = "codenames"
words = ["bluebird"]
sides = ["input", "output"]
"""


@pytest.mark.parametrize("stream", [True, False])
async def test_denied_content_ends_an_answer(gateway: Make, stream: bool) -> None:
    async with gateway(policies=CONTENT) as made:
        says(made.worker, "The plan is ", "blue", "bird", " and more", " to come.")
        if stream:
            text, reason, events = await streamed(made, ASK)
            assert events[-1] == "[DONE]"
        else:
            choice = (await (await post(made, ASK)).json())["choices"][0]
            text, reason = choice["message"]["content"] or "", choice["finish_reason"]
        assert reason == "content_filter"
        assert "bluebird" not in text
        assert "more" not in text
        assert (await told(made))["blocked"] == "codenames"


async def test_denied_content_is_refused_on_the_way_in(gateway: Make) -> None:
    async with gateway(policies=CONTENT) as made:
        asked = ASK | {"messages": [{"role": "user", "content": "Tell me of BlueBird."}]}
        answer = await post(made, asked)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "content_filter")
        assert "luebird" not in error["message"].lower()
        assert made.worker.bodies == []


ROWS = """
[[policies.default.routes]]
name = "checked"
when = {{ quality = "high" }}
target = "local"
mode = "{mode}"

[[policies.default.routes]]
name = "patient requests stay here"
when = {{ latency = "batch" }}
target = "local"
only = true
"""
FLOOR = HybridConfig(gate=GateConfig(floor_tokens=2, floor_logprob=-0.5))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("logprob", "expected", "outcome"), [(-0.01, "Paris.", "passed"), (-9.0, "Lyon.", "escalated")]
)
async def test_the_gate_decides_who_answers(
    gateway: Make, stream: bool, logprob: float, expected: str, outcome: str
) -> None:
    async with gateway(policies=ROWS.format(mode="gate"), hybrid=FLOOR) as made:
        says(made.worker, "Paris", ".", logprob=logprob)
        says(made.cloud, "Lyon", ".")
        body = AUTO | {"stream": stream}
        answer = await post(made, body, x_headwater_quality="high", x_headwater_explain="1")
        route = answer.headers["x-headwater-route"]
        assert f"mode=gate; {outcome}" in route
        assert "row checked" in answer.headers["x-headwater-plan"]
        raw = await answer.read()
        assert b'logprobs":{' not in raw
        if stream:
            assert expected.split(".")[0].encode() in raw
            assert raw.endswith(DONE)
        else:
            said = json.loads(raw)
            assert said["choices"][0]["message"]["content"] == expected
            assert said["choices"][0]["finish_reason"] == "stop"
            assert said["usage"]["completion_tokens"] == 2
        assert (await told(made))["hybrid"] == outcome
        counted = f'headwater_gateway_hybrid_total{{mode="gate",outcome="{outcome}"}} 1.0'
        await until(lambda: counted in shown(made))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_draft_is_verified(gateway: Make, stream: bool) -> None:
    async with gateway(policies=ROWS.format(mode="verify")) as made:
        says(made.worker, "Paris is", " the capital", " of France.")
        says(made.cloud, "Paris is", " the capital", " of all of France.")
        body = AUTO | {"stream": stream}
        answer = await post(made, body, x_headwater_quality="high")
        raw = await answer.read()
        line = await told(made)
        assert line["hybrid"] in {"accepted", "corrected"}
        assert line["local_tokens"] == 3
        if not stream:
            text = json.loads(raw)["choices"][0]["message"]["content"]
            assert text.startswith("Paris is the capital of")


async def test_a_row_without_a_fallback_has_none(gateway: Make) -> None:
    async with gateway(policies=ROWS.format(mode="direct")) as made:
        made.worker.answer = made.worker.failing
        answer = await post(made, AUTO, x_headwater_latency="batch")
        assert answer.status == 503
        assert made.cloud.bodies == []


BUSY = PipelineConfig(shedding=SheddingConfig(batch_load=1.0, interactive_load=2.0))


async def test_saturated_workers_turn_batch_away_first_and_say_for_how_long(gateway: Make) -> None:
    async with gateway(config=BUSY) as made:
        made.report(busy=4, queue=1)
        assert (await post(made, ASK)).status == 200
        refused = await post(made, ASK, x_headwater_latency="batch")
        assert refused.status == 503
        assert (await refused.json())["error"]["code"] == "overloaded"
        assert int(refused.headers["Retry-After"]) >= 1
        made.report(busy=4, queue=4)
        assert (await post(made, ASK)).status == 503
        made.report(busy=0, queue=0)
        assert (await post(made, ASK, x_headwater_latency="batch")).status == 200


async def test_where_the_cloud_may_answer_saturated_workers_are_relieved_by_it(
    gateway: Make,
) -> None:
    async with gateway(config=BUSY) as made:
        made.report(busy=9, queue=9)
        answer = await post(made, AUTO, x_headwater_explain="1")
        assert answer.headers["x-headwater-route"].startswith("cloud")
        assert "saturated" in answer.headers["x-headwater-plan"]
        await answer.read()
        counted = 'headwater_gateway_routes_total{reason="saturated",target="cloud"} 1.0'
        await until(lambda: counted in shown(made))


async def test_an_answer_of_the_second_choice_is_counted_as_that(gateway: Make) -> None:
    async with gateway() as made:
        made.worker.answer = made.worker.failing
        answer = await post(made, AUTO)
        assert answer.headers["x-headwater-route"].startswith("cloud")
        await answer.read()
        counted = 'headwater_gateway_routes_total{reason="failed over",target="cloud"} 1.0'
        await until(lambda: counted in shown(made))


async def test_a_turned_away_request_leaves_nothing_reserved(gateway: Make) -> None:
    async with gateway(config=BUSY) as made:
        made.report(busy=9, queue=9)
        before = (await post(made, ASK)).headers.get("x-request-id")
        assert before
        made.report(busy=0)
        answer = await post(made, ASK)
        limit = int(answer.headers["x-ratelimit-limit-tokens"])
        left = int(answer.headers["x-ratelimit-remaining-tokens"])
        assert limit - left < 2_000


async def test_a_line_says_what_happened_and_no_word_of_the_prompt(gateway: Make) -> None:
    async with gateway() as made:
        await post(made, ASK)
        await told(made)
        (line,) = lines(made)
        assert line["event"] == "answered"
        assert (line["target"], line["model"], line["outcome"]) == ("worker", MODEL, "whole")
        assert (line["input_tokens"], line["output_tokens"]) == (5, 2)
        assert line["request"].startswith("req-")
        assert "reserve;dur=" in line["timing"]
        assert "capital" not in made.log.getvalue().decode()
        assert made.key not in made.log.getvalue().decode()


async def test_a_backend_that_breaks_after_the_end_has_given_a_whole_answer(gateway: Make) -> None:
    async with gateway() as made:

        async def cut(request: web.Request) -> web.StreamResponse:
            response = await made.worker.begin(request)
            encoder = ChunkEncoder("chatcmpl-1", MODEL, 1)
            await response.write(encoder.delta("all"))
            await asyncio.sleep(0.02)
            await response.write(encoder.finish("stop") + DONE)
            await asyncio.sleep(0.02)
            assert request.transport is not None
            request.transport.close()
            return response

        made.worker.answer = cut
        text, reason, events = await streamed(made, ASK)
        assert (text, reason, events[-1]) == ("all", "stop", "[DONE]")
        assert (await told(made))["outcome"] == "whole"


async def test_what_is_no_json_is_not_given_for_an_answer(gateway: Make) -> None:
    async with gateway() as made:

        async def page(_request: web.Request) -> web.StreamResponse:
            return web.Response(text="<html>welcome to the hotel</html>")

        made.worker.answer = page
        answer = await post(made, ASK)
        assert answer.status >= 500
        assert b"hotel" not in await answer.read()


async def test_a_whole_answer_is_no_stream(gateway: Make) -> None:
    async with gateway() as made:

        async def whole(_request: web.Request) -> web.StreamResponse:
            return web.json_response({"error": {"message": "no streams today"}})

        made.worker.answer = whole
        text, _, events = await streamed(made, AUTO)
        assert (text, events[-1]) == ("cloud", "[DONE]")


@pytest.mark.parametrize("stream", [True, False])
async def test_a_local_answer_that_stands_after_all_is_whole(gateway: Make, stream: bool) -> None:
    """The worker went on while the cloud was asked; not a word of that is lost."""
    words = [f"word{number} " for number in range(40)]
    async with gateway(policies=ROWS.format(mode="gate"), hybrid=FLOOR) as made:
        says(made.worker, *words, logprob=-9.0)

        async def failing_late(_request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(0.05)
            raise web.HTTPServiceUnavailable

        made.cloud.answer = failing_late
        answer = await post(made, AUTO | {"stream": stream}, x_headwater_quality="high")
        assert "gate; stood" in answer.headers["x-headwater-route"]
        if stream:
            events = [event.data for event in SSEDecoder().feed(await answer.read())]
            assert events[-1] == "[DONE]"
            chunks = [choice for data in events[:-1] for choice in json.loads(data)["choices"]]
            said = "".join(choice["delta"].get("content") or "" for choice in chunks)
        else:
            said = (await answer.json())["choices"][0]["message"]["content"]
        assert said == "".join(words)
