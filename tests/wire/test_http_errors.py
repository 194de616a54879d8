from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wire.errors import HeadwaterError, NotFoundError
from wire.http_errors import error_middleware, refusal


async def failing(_request: web.Request) -> web.Response:
    raise NotFoundError("no such thing", headers={"Retry-After": "3"})


async def test_an_error_becomes_problem_details() -> None:
    app = web.Application(middlewares=[error_middleware()])
    app.router.add_get("/x", failing)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get("/x")
        body = await answer.json(content_type=None)
    assert answer.status == 404
    assert answer.content_type == "application/problem+json"
    assert body == {"status": 404, "code": "not_found", "detail": "no such thing"}
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_prefix_may_shape_its_own_errors() -> None:
    def envelope(error: HeadwaterError) -> tuple[bytes, str]:
        return error.code.encode(), "text/plain"

    app = web.Application(middlewares=[error_middleware({"/v1": envelope})])
    app.router.add_get("/v1/x", failing)
    async with TestClient(TestServer(app)) as client:
        assert await (await client.get("/v1/x")).text() == "not_found"
        assert await (await client.get("/v1/nowhere")).text() == "not_found"
        assert await (await client.post("/v1/x")).text() == "method_not_allowed"
        assert (await client.post("/v1/x")).headers["Allow"] == "GET,HEAD"
        other = await client.get("/nowhere")
        assert (await other.json(content_type=None))["code"] == "not_found"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"detail": "no room"}', "no room"),
        (b'{"detail": "a\\u001b[2Jb"}', "a[2Jb"),
        (b'{"detail": "' + b"x" * 900 + b'"}', "x" * 500),
        (b'{"detail": 3}', ""),
        (b"<html>", ""),
        (b"[" * 50_000, ""),
        (b"", ""),
    ],
)
def test_the_reason_of_a_refusal_is_short_and_harmless(body: bytes, reason: str) -> None:
    assert refusal(body) == reason
