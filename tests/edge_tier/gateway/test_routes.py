"""edge_tier.gateway.routes: the whole prompt plane in one process, with scripted backends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web

from edge_tier.gateway.request import Limits, Policy
from tests.fakes.gateway import CLOUD_MODEL, MODEL, Gateway, gateway_in
from tests.fakes.waiting import until
from wire.sse import SSEDecoder

ASK = {"model": MODEL, "messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture(params=["front", "application"])
async def gateway(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Gateway]:
    async with gateway_in(tmp_path, through=request.param) as made:
        yield made


async def post(gateway: Gateway, body: dict[str, Any], **headers: str) -> ClientResponse:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.client.post(
        "/v1/chat/completions", json=body, headers=gateway.headers | names
    )


async def events(answer: ClientResponse) -> list[str]:
    decoder = SSEDecoder()
    return [event.data for event in decoder.feed(await answer.read())]


async def test_a_whole_answer_with_all_its_headers(gateway: Gateway) -> None:
    answer = await post(gateway, ASK, x_headwater_explain="1")
    assert answer.status == 200
    assert (await answer.json())["choices"][0]["message"]["content"] == "worker"
    assert answer.headers["x-model-digest"] == gateway.revision
    assert answer.headers["x-headwater-route"] == f"worker; model={MODEL}"
    assert answer.headers["x-headwater-worker"] == "w1"
    assert int(answer.headers["x-headwater-tokens"]) > 5
    assert "named" in answer.headers["x-headwater-plan"]
    assert "x-ratelimit-remaining-tokens" in answer.headers
    stages = [part.split(";")[0] for part in answer.headers["Server-Timing"].split(", ")]
    assert stages == [
        *(
            "auth",
            "read",
            "parse",
            "sanitize",
            "screen",
            "tokenize",
            "classify",
            "route",
            "reserve",
        ),
        "backend",
    ]


async def test_a_worker_gets_ids_and_nothing_unknown(gateway: Gateway) -> None:
    await post(gateway, ASK | {"n_discard": -1, "slot_id": 3, "lora": [1], "temperature": 0.5})
    (body,) = gateway.worker.bodies
    assert set(body) == {
        *("model", "prompt_token_ids", "max_tokens", "stream", "temperature", "revision"),
    }
    assert body["revision"] == gateway.revision
    assert all(isinstance(token, int) for token in body["prompt_token_ids"])
    assert gateway.worker.tokens == ["Bearer worker-token"]


async def test_a_stream_ends_with_done_and_usage_only_where_asked(gateway: Gateway) -> None:
    plain = await events(await post(gateway, ASK | {"stream": True}))
    assert plain[-1] == "[DONE]"
    assert not any("usage" in data for data in plain)
    asked = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    with_usage = await events(await post(gateway, asked))
    assert json.loads(with_usage[-2])["usage"]["total_tokens"] == 7
    assert all(body["stream_options"] == {"include_usage": True} for body in gateway.worker.bodies)


async def test_auto_is_routed_and_a_named_model_is_not(gateway: Gateway) -> None:
    simple = await post(gateway, ASK | {"model": "auto"})
    assert simple.headers["x-headwater-route"].startswith("worker")
    hard = {
        "model": "auto",
        "messages": [
            {
                "role": "user",
                "content": "Prove step by step that the square root of two is irrational, and "
                "compare three different proofs, explaining why each of them works.",
            }
        ],
    }
    assert (await post(gateway, hard)).headers["x-headwater-route"].startswith("cloud")
    assert (
        (await post(gateway, hard | {"model": MODEL}))
        .headers["x-headwater-route"]
        .startswith("worker")
    )
    named = await post(gateway, ASK | {"model": CLOUD_MODEL})
    assert named.headers["x-headwater-route"] == f"cloud; model={CLOUD_MODEL}"
    assert gateway.cloud.bodies[-1]["messages"] == ASK["messages"]
    assert gateway.cloud.tokens[-1] == "Bearer cloud-token"


@pytest.mark.parametrize("preferred", ["worker", "cloud"])
async def test_a_backend_that_fails_before_its_first_byte_is_replaced(
    gateway: Gateway, preferred: str
) -> None:
    failing, other = (
        (gateway.worker, "cloud") if preferred == "worker" else (gateway.cloud, "worker")
    )
    failing.answer = failing.failing
    answer = await post(gateway, ASK | {"model": "auto"}, x_headwater_prefer=preferred)
    assert answer.status == 200
    assert answer.headers["x-headwater-route"].startswith(other)


async def test_when_every_backend_fails_the_answer_says_so(gateway: Gateway) -> None:
    gateway.worker.answer = gateway.worker.failing
    gateway.cloud.answer = gateway.cloud.failing
    answer = await post(gateway, ASK | {"model": "auto"})
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "1"
    assert (await answer.json())["error"]["code"] == "no_backend"


async def test_a_stream_that_breaks_ends_in_an_error_event(gateway: Gateway) -> None:
    gateway.worker.answer = gateway.worker.broken
    received = await events(await post(gateway, ASK | {"stream": True}))
    assert "first" in received[0]
    assert json.loads(received[-1])["error"]["code"] == "upstream_failed"
    assert "[DONE]" not in received


async def test_a_client_that_leaves_stops_its_backend_at_once(gateway: Gateway) -> None:
    gateway.worker.answer = gateway.worker.endless
    answer = await post(gateway, ASK | {"stream": True, "max_tokens": 1000})
    await answer.content.readany()
    answer.close()
    await asyncio.wait_for(gateway.worker.gone.wait(), 30)
    member = gateway.fleet.pick(MODEL)
    assert member is not None
    await until(lambda: member.in_flight == 0)


async def test_what_was_not_used_is_given_back(gateway: Gateway) -> None:
    key = gateway.new_key(limits=Limits(tokens_per_minute=1000, max_output_tokens=900))
    gateway.headers = {"Authorization": f"Bearer {key}"}
    for _ in range(5):  # each reserves more than 800 of the 1000 and uses 7
        assert (await post(gateway, ASK | {"max_tokens": 800})).status == 200


async def test_only_what_was_emitted_is_charged_to_a_client_that_leaves(gateway: Gateway) -> None:
    key = gateway.new_key(limits=Limits(tokens_per_minute=1000, max_output_tokens=900))
    gateway.headers = {"Authorization": f"Bearer {key}"}
    gateway.worker.answer = gateway.worker.endless
    answer = await post(gateway, ASK | {"stream": True, "max_tokens": 800})
    await answer.content.readany()
    answer.close()
    await asyncio.wait_for(gateway.worker.gone.wait(), 30)
    gateway.worker.answer = gateway.worker.usual
    for _ in range(100):
        again = await post(gateway, ASK | {"max_tokens": 800})
        if again.status == 200:
            break
        await asyncio.sleep(0.01)
    assert again.status == 200


async def test_ids_for_another_revision_are_made_again(gateway: Gateway) -> None:
    """The worker rolled between its heartbeat and our request."""
    other = gateway.other_revision
    usual = gateway.worker.answer

    async def rolled(request: Any) -> Any:
        if gateway.worker.bodies[-1]["revision"] == other:
            return await usual(request)
        return web.json_response({}, status=409, headers={"x-model-digest": other})

    gateway.worker.answer = rolled
    assert (await post(gateway, ASK)).status == 200
    assert [body["revision"] for body in gateway.worker.bodies] == [gateway.revision, other]


async def test_a_refusal_of_the_backend_is_the_clients(gateway: Gateway) -> None:
    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no such grammar"}}, status=400)

    gateway.worker.answer = refuse
    answer = await post(gateway, ASK | {"model": "auto"})
    assert answer.status == 400
    assert (await answer.json())["error"]["message"] == "no such grammar"
    assert gateway.cloud.bodies == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nope", "messages": ASK["messages"]}, 404),
        ({"model": MODEL}, 400),
        (ASK | {"temperature": 9}, 400),
        (ASK | {"max_tokens": 100_000}, 400),
        (ASK | {"messages": [{"role": "user", "content": "word " * 4000}]}, 400),
    ],
)
async def test_bad_requests_speak_openai(
    gateway: Gateway, body: dict[str, Any], status: int
) -> None:
    answer = await post(gateway, body)
    assert answer.status == status
    assert (await answer.json())["error"]["type"] == "invalid_request_error"
    assert "Server-Timing" in answer.headers
    assert "x-request-id" in answer.headers
    assert gateway.worker.bodies == []


async def test_without_a_key_nothing_is_told(gateway: Gateway) -> None:
    gateway.headers = {}
    answer = await post(gateway, ASK)
    assert answer.status == 401
    assert (await answer.json())["error"]["code"] == "invalid_api_key"
    assert (await gateway.client.get("/v1/models")).status == 401


async def test_a_limit_is_429_with_retry_after(gateway: Gateway) -> None:
    key = gateway.new_key(limits=Limits(requests_per_minute=1))
    gateway.headers = {"Authorization": f"Bearer {key}"}
    assert (await post(gateway, ASK)).status == 200
    answer = await post(gateway, ASK)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert (await answer.json())["error"]["type"] == "rate_limit_error"


async def test_private_data_stays_local(gateway: Gateway) -> None:
    private = {"messages": [{"role": "user", "content": "Mail jane.doe@example.org about it."}]}
    routed = await post(gateway, private | {"model": "auto"}, x_headwater_prefer="cloud")
    assert routed.headers["x-headwater-route"].startswith("worker")
    named = await post(gateway, private | {"model": CLOUD_MODEL})
    assert named.status == 400
    assert (await named.json())["error"]["code"] == "must_stay_local"
    assert gateway.cloud.bodies == []


async def test_masked_data_may_leave(gateway: Gateway) -> None:
    gateway.headers = {
        "Authorization": f"Bearer {gateway.new_key(policy=Policy(personal_data='mask'))}"
    }
    private = {"messages": [{"role": "user", "content": "Mail jane.doe@example.org about it."}]}
    assert (await post(gateway, private | {"model": CLOUD_MODEL})).status == 200
    assert "jane.doe" not in json.dumps(gateway.cloud.bodies)


async def test_control_literals_reach_the_cloud_broken(gateway: Gateway) -> None:
    tricky = {"messages": [{"role": "user", "content": "a<|im_end|>b"}], "model": CLOUD_MODEL}
    assert (await post(gateway, tricky)).status == 200
    assert "<|im_end|>" not in gateway.cloud.bodies[0]["messages"][0]["content"]


async def test_models_are_listed_for_the_caller(gateway: Gateway) -> None:
    listing = await gateway.client.get("/v1/models", headers=gateway.headers)
    names = [card["id"] for card in (await listing.json())["data"]]
    assert names == ["auto", CLOUD_MODEL, MODEL]
    one = await gateway.client.get(f"/v1/models/{MODEL}", headers=gateway.headers)
    assert (await one.json())["object"] == "model"
    missing = await gateway.client.get("/v1/models/nope", headers=gateway.headers)
    assert missing.status == 404
    only = gateway.new_key(policy=Policy(models=(MODEL,)))
    gateway.headers = {"Authorization": f"Bearer {only}"}
    listing = await gateway.client.get("/v1/models", headers=gateway.headers)
    assert [card["id"] for card in (await listing.json())["data"]] == [MODEL]
    assert (await post(gateway, ASK | {"model": "auto"})).status == 403


async def test_plain_completions(gateway: Gateway) -> None:
    answer = await gateway.client.post(
        "/v1/completions", json={"model": MODEL, "prompt": "Once"}, headers=gateway.headers
    )
    assert answer.status == 200
    (body,) = gateway.worker.bodies
    assert all(isinstance(token, int) for token in body["prompt"])


@pytest.mark.parametrize("through", ["front", "application"])
async def test_a_body_that_does_not_come_is_given_up(tmp_path: Path, through: Any) -> None:
    async with gateway_in(tmp_path, through=through, body_timeout_s=0.2) as gateway:
        host, port = gateway.client.host, gateway.client.port
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n"
        for authorization, status in ((gateway.key, b"408"), ("wrong", b"401")):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(f"{head}Authorization: Bearer {authorization}\r\n\r\n{{".encode())
            async with asyncio.timeout(30):
                assert (await reader.readline()).split()[1] == status
            writer.close()


async def test_a_bad_hint_is_named(gateway: Gateway) -> None:
    answer = await post(gateway, ASK, x_headwater_privacy="secret")
    assert answer.status == 400
    assert "x-headwater-privacy" in (await answer.json())["error"]["message"]


async def test_a_model_may_be_asked_for_by_its_quoted_name(gateway: Gateway) -> None:
    answer = await gateway.client.get("/v1/models/%65dge-small", headers=gateway.headers)
    assert answer.status == 200
    assert (await answer.json())["id"] == MODEL


async def test_an_answer_to_head_has_no_body(gateway: Gateway) -> None:
    server = gateway.client.server
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = f"HEAD /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.key}\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert answer.endswith(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
