from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from origin.console.assets import Asset
from origin.console.pages import PageRoutes
from wire.http_errors import error_middleware

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def page() -> AsyncIterator[Client]:
    """The page's files alone."""
    zipped = Asset(body=b"long", zipped=b"zip", etag="a", headers={"Content-Type": "text/html"})
    plain = Asset(body=b"short", zipped=b"", etag="b", headers={"Content-Type": "text/javascript"})
    app = web.Application(middlewares=[error_middleware()])
    PageRoutes(assets={"index.html": zipped, "a.js": plain}).add_to(app)
    async with TestClient(TestServer(app), auto_decompress=False) as made:
        yield made


async def test_files_are_sent_once_and_then_only_their_tag(page: Client) -> None:
    answer = await page.get("/console", headers={"Accept-Encoding": "identity"})
    assert (await answer.read(), answer.headers["ETag"]) == (b"long", '"a"')
    again = await page.get(
        "/console", headers={"Accept-Encoding": "identity", "If-None-Match": '"a"'}
    )
    assert (again.status, await again.read()) == (304, b"")
    script = await page.get("/console/a.js", headers={"Accept-Encoding": "gzip"})
    assert await script.read() == b"short"
    assert "Content-Encoding" not in script.headers


async def test_files_are_zipped_for_whoever_can_read_them(page: Client) -> None:
    answer = await page.get("/console", headers={"Accept-Encoding": "gzip, br"})
    assert (await answer.read(), answer.headers["Content-Encoding"]) == (b"zip", "gzip")
    assert answer.headers["ETag"] == '"a-gzip"'


@pytest.mark.parametrize(
    "path", ["/console/nothing.js", "/console/..%2fapp.py", "/console/static%2f", "/console/a%00"]
)
async def test_only_the_pages_own_files_are_there(page: Client, path: str) -> None:
    answer = await page.get(path)
    assert answer.status == 404
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_every_answer_below_the_console_says_how_it_may_be_used(page: Client) -> None:
    for path in ("/console", "/console/", "/console/a.js", "/console/x"):
        headers = (await page.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Referrer-Policy" not in (await page.get("/elsewhere")).headers
