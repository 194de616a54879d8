"""edge_tier.gateway.upstream: the pool, over real sockets."""

from __future__ import annotations

import asyncio

import pytest

from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool
from tests.fakes.raw_http import Start, read_request, whole
from wire.errors import ConfigError


async def test_a_request_is_what_it_should_be(start: Start) -> None:
    seen: list[tuple[str, bytes]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await read_request(reader))
        writer.write(whole(b"{}", "X-Model-Digest: abc\r\n"))

    pool = UpstreamPool(await start(handler) + "/prefix", token="t0ken")
    response = await pool.post("/v1/x", b'{"a":1}', headers=b"X-Extra: 1\r\n")
    assert (response.status, response.headers["x-model-digest"]) == (200, "abc")
    assert await response.read(100) == b"{}"
    response.close()
    await pool.aclose()
    head, body = seen[0]
    assert head.startswith("POST /prefix/v1/x HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "Authorization: Bearer t0ken\r\n" in head
    assert "X-Extra: 1\r\n" in head
    assert body == b'{"a":1}'


async def test_connections_are_kept_and_replaced_when_the_backend_closed_them(
    start: Start,
) -> None:
    connections = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        for _ in range(2):
            await read_request(reader)
            writer.write(whole(b"ok"))
        writer.close()

    pool = UpstreamPool(await start(handler))
    for _ in range(4):
        response = await pool.post("/", b"{}")
        assert await response.read(10) == b"ok"
        response.close()
    await pool.aclose()
    assert connections == 2


async def test_a_silent_backend_is_given_up(start: Start) -> None:
    async def handler(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    pool = UpstreamPool(await start(handler), config=UpstreamConfig(head_timeout_s=0.05))
    with pytest.raises(UpstreamError, match=r"0\.05 s"):
        await pool.post("/", b"{}")
    await pool.aclose()


async def test_nobody_there_is_an_error() -> None:
    pool = UpstreamPool("http://127.0.0.1:9")
    with pytest.raises(UpstreamError, match="connect"):
        await pool.post("/", b"{}")
    await pool.aclose()


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "localhost:80"])
def test_a_bad_backend_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError):
        UpstreamPool(url)


async def test_a_password_in_a_url_is_told_nobody() -> None:
    pool = UpstreamPool("http://user:s3cret@127.0.0.1:1/v9", config=UpstreamConfig())
    with pytest.raises(UpstreamError, match=r"http://127\.0\.0\.1:1/v9") as caught:
        await pool.post("/", b"")
    assert "s3cret" not in caught.value.message
    with pytest.raises(ConfigError) as refused:
        UpstreamPool("ftp://user:s3cret@host")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("passing", [False, True])
async def test_a_backend_that_falls_silent_is_given_up(start: Start, passing: bool) -> None:
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        await reader.read()
        gone.set()

    pool = UpstreamPool(await start(handler), config=UpstreamConfig(stall_timeout_s=0.05))
    response = await pool.post("/", b"")
    assert await response.first() == b"a"
    got: list[bytes] = [response.take()] if passing else []
    spliced = response.splice(got.append, lambda: len(got)) if passing else None
    with pytest.raises(UpstreamError, match="sent nothing more for"):
        await (spliced or response.pump(got.append))
    response.close()
    await gone.wait()
    assert got == [b"a"]
    await pool.aclose()


@pytest.mark.parametrize("name", ["connect_timeout_s", "head_timeout_s", "stall_timeout_s"])
def test_times_are_above_nothing(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        UpstreamConfig(**{name: 0})
