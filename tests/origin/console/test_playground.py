from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from infra.ports import HeldPort
from origin.console.config import ConsoleConfig
from origin.console.playground import Relay
from tests.fakes.waiting import until, until_async
from wire.http_errors import error_middleware

KEY = {"X-Headwater-Api-Key": "hw-key"}
BROKEN = (aiohttp.ClientError, ConnectionError)
Client = TestClient[web.Request, web.Application]


class Edge:
    """An edge that says what it was asked, in pieces, as far as it is let."""

    def __init__(self) -> None:
        self.asked: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.go_on = asyncio.Event()
        self.gone = False
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.stream
        self.list_models: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.list_two
        self.url = ""

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def models(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        if request.headers["Authorization"] != "Bearer hw-key":
            return web.json_response({"error": {}}, status=401)
        return await self.list_models(request)

    async def list_two(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"data": [{"id": "auto"}, {"id": "chat"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        self.bodies.append(await request.read())
        return await self.answer(request)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream",
                "x-headwater-route": "worker; model=chat",
                "x-headwater-plan": "model chat was named",
                "Server-Timing": "auth;dur=0.1",
                "Set-Cookie": "evil=1",
                "Access-Control-Allow-Origin": "*",
            }
        )
        await response.prepare(request)
        try:
            await response.write(b"data: one\n\n")
            await self.go_on.wait()
            await response.write(b"data: [DONE]\n\n")
        except (asyncio.CancelledError, ConnectionError):
            self.gone = True
            raise
        return response


@pytest.fixture
async def edge() -> AsyncIterator[Edge]:
    made = Edge()
    runner = web.AppRunner(made.app(), handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    made.go_on.set()
    await runner.cleanup()


@pytest.fixture
def config(edge: Edge) -> ConsoleConfig:
    return ConsoleConfig(edges=(edge.url,), silence_timeout_s=60, connect_timeout_s=60)


Start = Callable[[ConsoleConfig], Awaitable[Client]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """A server with the relay, and nothing before it."""
    clients: list[Client] = []

    async def start(config: ConsoleConfig) -> Client:
        app = web.Application(middlewares=[error_middleware()])

        async def relay(app: web.Application) -> AsyncIterator[None]:
            made = Relay(config)

            async def edges(request: web.Request) -> web.StreamResponse:
                found = await made.edges(request)
                return web.json_response([[e.url, list(e.models), e.problem] for e in found.edges])

            app.router.add_get("/edges", edges)
            app.router.add_post("/chat", made.chat)
            yield
            await made.aclose()

        app.cleanup_ctx.append(relay)
        client = TestClient(TestServer(app, handler_cancellation=True))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    for client in clients:
        await client.close()


async def refusal(answer: Any) -> str:
    return str((await answer.json(content_type=None))["detail"])


async def test_an_answer_comes_as_it_is_made_with_why_it_went_there(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    client = await start(config)
    answer = await client.post(
        "/chat", data=b'{"stream":true}', headers={**KEY, "x-headwater-prefer": "cloud"}
    )
    assert await answer.content.readuntil(b"\n\n") == b"data: one\n\n"
    edge.go_on.set()
    assert await answer.content.read() == b"data: [DONE]\n\n"
    assert answer.headers["x-headwater-route"] == "worker; model=chat"
    assert answer.headers["x-headwater-plan"] == "model chat was named"
    assert answer.headers["Server-Timing"] == "auth;dur=0.1"
    assert answer.headers["X-Headwater-Edge"] == edge.url
    assert answer.headers["Cache-Control"] == "no-store"
    (asked,) = edge.asked
    assert edge.bodies == [b'{"stream":true}']
    assert asked.headers["Authorization"] == "Bearer hw-key"
    assert asked.headers["x-headwater-prefer"] == "cloud"


async def test_nothing_else_passes_either_way(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    client = await start(config)
    edge.go_on.set()
    sent = {**KEY, "Cookie": "headwater_console=secret", "X-Forwarded-For": "1.2.3.4"}
    answer = await client.post("/chat", data=b"{}", headers=sent)
    await answer.read()
    assert not {"Set-Cookie", "Access-Control-Allow-Origin"} & answer.headers.keys()
    (asked,) = edge.asked
    assert not {"Cookie", "X-Forwarded-For", "X-Headwater-Api-Key"} & asked.headers.keys()


async def test_a_page_that_goes_away_ends_the_request_to_the_edge(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    client = await start(config)
    answer = await client.post("/chat", data=b"{}", headers=KEY)
    await answer.content.readuntil(b"\n\n")
    answer.close()
    await until(lambda: edge.gone)


async def test_an_edges_refusal_is_passed_on(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    async def refuse(_request: web.Request) -> web.StreamResponse:
        error = {"error": {"message": "slow down"}}
        return web.json_response(error, status=429, headers={"Retry-After": "3"})

    edge.answer = refuse
    answer = await (await start(config)).post("/chat", data=b"{}", headers=KEY)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "3")
    assert (await answer.json())["error"]["message"] == "slow down"


async def test_what_is_no_answer_of_the_api_is_shown_as_text(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="<script>", content_type="text/html")

    edge.answer = page
    answer = await (await start(config)).post("/chat", data=b"{}", headers=KEY)
    assert answer.content_type == "text/plain"


async def test_a_redirect_is_not_followed(edge: Edge, config: ConsoleConfig, start: Start) -> None:
    async def elsewhere(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("http://169.254.169.254/latest")

    edge.answer = elsewhere
    answer = await (await start(config)).post("/chat", data=b"{}", headers=KEY)
    assert answer.status == 502
    assert "redirect" in await refusal(answer)
    assert len(edge.asked) == 1


async def test_an_answer_without_end_is_cut(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    edge.answer = flood
    client = await start(replace(config, max_answer_bytes=1_000_000))
    answer = await client.post("/chat", data=b"{}", headers=KEY)
    with pytest.raises(BROKEN):
        await answer.read()


async def test_a_page_that_takes_nothing_is_given_up(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65_536)

    edge.answer = flood
    asleep = replace(config, max_chats=1, max_answer_bytes=1 << 30, write_timeout_s=0.05)
    client = await start(asleep)
    _, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=4_096)
    head = ("POST /chat HTTP/1.1", "Host: a", "Content-Length: 2", "X-Headwater-Api-Key: hw-key")
    writer.write("\r\n".join([*head, "", "{}"]).encode())
    await until(lambda: bool(edge.bodies))
    edge.answer = edge.stream
    edge.go_on.set()

    async def free() -> bool:
        answer = await client.post("/chat", data=b"{}", headers=KEY)
        await answer.read()
        return answer.status == 200

    await until_async(free)
    writer.close()


async def test_an_edge_that_breaks_off_is_no_whole_answer(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        assert request.transport is not None
        request.transport.abort()
        return response

    edge.answer = broken
    answer = await (await start(config)).post("/chat", data=b"{}", headers=KEY)
    with pytest.raises(BROKEN):
        await answer.read()


async def test_only_a_configured_edge_is_asked(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    client = await start(config)
    for url in ("http://169.254.169.254", f"{edge.url}@evil", edge.url.replace("http", "ftp"), ""):
        answer = await client.post("/chat", data=b"{}", headers={**KEY, "X-Headwater-Edge": url})
        assert answer.status == 400
        assert edge.url in await refusal(answer)
    assert edge.asked == []
    edge.go_on.set()
    answer = await client.post(
        "/chat", data=b"{}", headers={**KEY, "X-Headwater-Edge": f"{edge.url}/"}
    )
    assert answer.status == 200


@pytest.mark.parametrize("key", ["", " ", "a b", "k" * 513, "schlüssel"])
async def test_what_cannot_be_a_key_is_not_sent(
    edge: Edge, config: ConsoleConfig, start: Start, key: str
) -> None:
    client = await start(config)
    answer = await client.post("/chat", data=b"{}", headers={"X-Headwater-Api-Key": key})
    assert answer.status == 400
    assert "API key" in await refusal(answer)
    assert edge.asked == []


async def test_a_prompt_and_the_chats_at_once_are_bounded(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    client = await start(replace(config, max_prompt_bytes=100, max_chats=1))
    assert (await client.post("/chat", data=b"x" * 101, headers=KEY)).status == 413
    answer = await client.post("/chat", data=b"{}", headers=KEY)
    other = await client.post("/chat", data=b"{}", headers=KEY)
    assert (other.status, other.headers["Retry-After"]) == (503, "2")
    edge.go_on.set()
    await answer.read()
    assert (await client.post("/chat", data=b"{}", headers=KEY)).status == 200


async def test_an_edge_that_is_not_there_is_named(start: Start) -> None:
    with closing(HeldPort()) as held:
        await _not_there(start, f"http://127.0.0.1:{held.number}")


async def _not_there(start: Start, url: str) -> None:
    client = await start(ConsoleConfig(edges=(url,)))
    answer = await client.post("/chat", data=b"{}", headers=KEY)
    assert answer.status == 502
    assert url in await refusal(answer)
    ((name, models, problem),) = await (await client.get("/edges", headers=KEY)).json()
    assert (name, models) == (url, [])
    assert "onnect" in problem


async def test_the_edges_and_what_they_offer_to_a_key(
    edge: Edge, config: ConsoleConfig, start: Start
) -> None:
    client = await start(config)
    assert await (await client.get("/edges")).json() == [[edge.url, [], ""]]
    assert edge.asked == []
    found = await (await client.get("/edges", headers=KEY)).json()
    assert found == [[edge.url, ["auto", "chat"], ""]]
    found = await (await client.get("/edges", headers={"X-Headwater-Api-Key": "other"})).json()
    assert found == [[edge.url, [], "it does not know this API key"]]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"data":[{"id":"\xff"}]}', b"[" * 100_000, b"x" * 300_000]
)
async def test_a_list_of_models_that_is_none_is_said(
    edge: Edge, config: ConsoleConfig, start: Start, body: bytes
) -> None:
    async def nonsense(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    edge.list_models = nonsense
    ((url, models, problem),) = await (
        await (await start(config)).get("/edges", headers=KEY)
    ).json()
    assert (url, models) == (edge.url, [])
    assert problem.startswith("its list of models ")


async def test_without_edges_it_is_said_what_to_set(start: Start) -> None:
    client = await start(ConsoleConfig())
    for answer in (
        await client.get("/edges"),
        await client.post("/chat", data=json.dumps({}), headers=KEY),
    ):
        assert answer.status == 404
        assert "origin.console.edges" in await refusal(answer)
