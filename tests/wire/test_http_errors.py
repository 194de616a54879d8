from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from wire.errors import HeadwaterError, NotFoundError
from wire.http_errors import error_middleware


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
