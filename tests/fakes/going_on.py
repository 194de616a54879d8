"""Workers that speak of one answer and can be cut anywhere; whoever is asked goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.fakes.gateway import MODEL, Backend, Gateway
from wire.chat import DONE, ChunkEncoder, Kind, TokenLogprob
from wire.journal import id_line

Words = list[tuple[tuple[int, ...], str]]
WORDS: Words = [
    ((50,), "The"),
    ((262,), " plan"),
    ((355, 263), ' is "so'),
    ((-1, 7), " ö"),
    ((9,), "\n\ndata: x"),
    ((298,), " as"),
    ((16,), "."),
]
TEXT = "".join(text for _, text in WORDS)
PROMPT_TOKENS = 5
TOKENS = 10
"""The words' and the one that ends the answer."""
FEATURES = frozenset({"logprobs", "token_ids"})


class Worker:
    """One of them.

    ``cuts`` are after how many bytes of each answer in turn it is gone, and ``faults`` what it says
    then. Where it ``stalls`` it says nothing more, and is not gone.
    """

    def __init__(self, name: str, backend: Backend, revision: str) -> None:
        self.name = name
        self.backend = backend
        self.revision = revision
        self.words = WORDS
        self.cuts: list[int] = []
        self.faults: list[bytes] = []
        self.logprobs = False
        self.stalls = False
        backend.answer = self.answer

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [body["journal"] for body in self.backend.bodies]

    def whole(self, body: dict[str, Any]) -> bytes | None:
        """What it would answer; None: it has other words than those that it is to repeat."""
        journal = body.get("journal") or {"id": "chatcmpl-mine", "created": 1}
        kind: Kind = "chat" if "prompt_token_ids" in body else "completion"
        encoder = ChunkEncoder(journal["id"], MODEL, journal["created"], kind)
        left, told = list(self.words), list(journal.get("ids", ()))
        while told and left:
            ids, _ = left.pop(0)
            if not journal.get("replay"):
                ids = (8, 7) if ids == (-1, 7) else ids  # what fills the gap
            if tuple(told[: len(ids)]) != ids:
                return None
            del told[: len(ids)]
        events = (
            [] if journal.get("begun") or kind == "completion" else [id_line(()) + encoder.role()]
        )
        for ids, text in left:
            logprobs = [TokenLogprob(text, -0.1) for _ in ids] if self.logprobs else None
            events.append(id_line(ids) + encoder.delta(text, logprobs))
        events.append(id_line((2,)) + encoder.finish("stop"))
        if "journal" not in body:
            events = [event[event.index(b"data:") :] for event in events]
        return b"".join([*events, encoder.usage(PROMPT_TOKENS, TOKENS), DONE])

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = self.backend.bodies[-1]
        said = self.whole(body)
        headers = {"x-model-digest": self.revision}
        if said is None:
            error = {"message": "other tokens", "code": "replay_differs"}
            return web.json_response({"error": error}, status=422, headers=headers)
        headers["Content-Type"] = "text/event-stream"
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        cut = self.cuts.pop(0) if self.cuts else None
        if cut is None:
            for event in said.split(b"\n\n")[:-1]:
                await response.write(event + b"\n\n")
                await asyncio.sleep(0)
            return response
        if said[:cut]:
            await response.write(said[:cut])
        if self.stalls:
            await asyncio.Event().wait()
        if self.faults:
            await response.write(self.faults.pop(0))
            return response
        assert request.transport is not None
        await asyncio.sleep(0.002)
        request.transport.close()
        return response


@asynccontextmanager
async def two_workers(gateway: Gateway) -> AsyncIterator[tuple[Worker, Worker]]:
    """The gateway's worker, which is the first to be asked, and one more of the same revision."""
    first = Worker("w1", gateway.worker, gateway.revision)
    second = Worker("w2", Backend("second"), gateway.revision)
    app = web.Application()
    app.router.add_post("/v1/{path:.*}", second.backend.handle)
    async with TestServer(app, handler_cancellation=True) as server:
        second.backend.url = str(server.make_url("")).rstrip("/")
        gateway.report(features=FEATURES)
        gateway.report(worker="w2", url=second.backend.url, features=FEATURES, busy=3)
        yield first, second
