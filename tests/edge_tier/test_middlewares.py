"""edge_tier.middlewares, on a real edge."""

from __future__ import annotations

import asyncio

import pytest

from tests.fakes.edges import StartEdge


@pytest.mark.parametrize("path", ["/v1/models", "/v1/nowhere", "/healthz", "/nowhere"])
async def test_every_answer_says_how_long_it_took(start_edge: StartEdge, path: str) -> None:
    edge = await start_edge()
    answer = await edge.get(path)
    name, _, spent = answer.headers["Server-Timing"].split(",")[0].partition(";dur=")
    assert name
    assert float(spent) >= 0


async def test_a_body_without_length_is_refused_and_the_connection_closed(
    start_edge: StartEdge,
) -> None:
    edge = await start_edge()
    reader, writer = await asyncio.open_connection(edge.host, edge.port)
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"2;" + b"a" * 100_000 + b"\r\n{}\r\n0\r\n\r\n"
        b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    async with asyncio.timeout(30):
        received = await reader.read()
    writer.close()
    assert received.startswith(b"HTTP/1.1 411 ")
    assert b"length_required" in received
    assert received.count(b"HTTP/1.1 ") == 1
