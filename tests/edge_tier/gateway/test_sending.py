"""edge_tier.gateway.sending: what a backend's answer to a request means."""

from __future__ import annotations

import asyncio
import json

import pytest

from edge_tier.gateway.errors import UpstreamBusyError, UpstreamError, UpstreamRefusedError
from edge_tier.gateway.request import Message, Prompt
from edge_tier.gateway.sending import OtherRevisionError, Pools, send
from tests.fakes.raw_http import Start, read_request, whole
from wire.errors import HeadwaterError

PROMPT = Prompt(kind="chat", model="m", messages=(Message("user", "hi"),))
PATH = "POST /v1/chat/completions "


async def failure(start: Start, status: int, body: bytes, extra: str = "") -> Exception:
    """What comes of such an answer."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        assert head.startswith(PATH)
        writer.write(whole(body, extra).replace(b"200 OK", b"%d No" % status))

    pools = Pools("token", None)
    try:
        with pytest.raises((HeadwaterError, OtherRevisionError)) as caught:
            await send(pools.pool(await start(handler)), PROMPT, {})
    finally:
        await pools.aclose()
    return caught.value


def error(code: object) -> bytes:
    return json.dumps({"error": {"message": "why", "code": code}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (503, error("queue_full"), UpstreamBusyError),
        (503, error("not_serving"), UpstreamBusyError),
        (503, error("engine_hung"), UpstreamError),
        (500, error("queue_full"), UpstreamError),
        (503, error([]), UpstreamError),
        (503, b"[" * 60_000, UpstreamError),
        (503, b"\xff", UpstreamError),
        (409, b"", UpstreamError),
        (200, b"", UpstreamError),
        (400, error(7), UpstreamRefusedError),
    ],
)
async def test_what_an_answer_means(
    start: Start, status: int, body: bytes, kind: type[Exception]
) -> None:
    assert type(await failure(start, status, body)) is kind


async def test_a_refusal_names_its_code(start: Start) -> None:
    refused = await failure(start, 422, error("replay_differs"))
    assert isinstance(refused, UpstreamRefusedError)
    assert (refused.message, refused.why) == ("why", "replay_differs")


async def test_another_revision_is_named(start: Start) -> None:
    other = await failure(start, 409, b"", "x-model-digest: abc\r\n")
    assert isinstance(other, OtherRevisionError)
    assert other.revision == "abc"


def test_a_pool_is_kept() -> None:
    pools = Pools("token", None)
    assert pools.pool("http://a:1") is pools.pool("http://a:1")
    assert pools.pool("http://a:1") is not pools.pool("http://b:1")
