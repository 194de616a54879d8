"""A worker's API on loopback, and a client of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp.test_utils import TestServer
from openai import AsyncOpenAI

from gpu_worker.serving import Serving
from wire.sse import SSEDecoder

CHAT = "/v1/chat/completions"
ASK: dict[str, Any] = {"model": "chat-small", "prompt_token_ids": [1, 2, 3]}
STREAM: dict[str, Any] = {**ASK, "stream": True}


class WorkerApi:
    """The server, what it serves, and a client."""

    def __init__(self, serving: Serving, server: TestServer, http: aiohttp.ClientSession) -> None:
        self.serving = serving
        self.server = server
        self.http = http

    def post(self, path: str, body: Any, token: str = "t0ken") -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post(self.server.make_url(path), data=data, headers=headers)

    def get(self, path: str, token: str = "t0ken") -> Any:
        headers = {"Authorization": f"Bearer {token}"}
        return self.http.get(self.server.make_url(path), headers=headers)

    async def events(self, body: dict[str, Any], path: str = CHAT) -> list[str]:
        """The data of every event of a stream."""
        async with self.post(path, body) as answer:
            assert answer.status == 200, await answer.text()
            return [event.data for event in SSEDecoder().feed(await answer.read())]

    def openai(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            api_key="t0ken", base_url=str(self.server.make_url("/v1")), max_retries=0
        )

    def raw_stream(self, version: str = "1.1") -> bytes:
        """The bytes of a streaming request."""
        body = json.dumps(STREAM).encode()
        head = f"POST {CHAT} HTTP/{version}\r\nHost: x\r\nAuthorization: Bearer t0ken\r\n"
        return head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body


StartApi = Callable[..., Awaitable[WorkerApi]]


def content(data: list[str]) -> str:
    """The text of a stream's chunks."""
    chunks = [json.loads(item) for item in data if item != "[DONE]"]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", [])]
    return "".join(
        choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices
    )
