"""The OpenAI routes of an edge, thin: a request in, the pipeline, a backend's answer out.

:class:`GatewayRoutes` answers the front door (``front``), and the web application too, for
connections that came to it with another request first.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Literal
from urllib.parse import unquote

import msgspec
import structlog
from aiohttp import web

from edge_tier.gateway.errors import BodyTimeoutError
from edge_tier.gateway.exchange import Exchange, ExchangeParts
from edge_tier.gateway.front import Answer
from edge_tier.gateway.heads import RequestHead
from edge_tier.gateway.hints import parse_hints
from edge_tier.gateway.pipeline import Inbound, Pipeline, Stopwatch
from edge_tier.gateway.reply import Reply
from edge_tier.gateway.request import Caller, Kind
from edge_tier.gateway.route import UnknownModelError
from edge_tier.gateway.trace_attributes import of_refusal
from edge_tier.gateway.tracing import RequestTrace, in_log
from wire.chat import ModelCard, encode_models, error_body
from wire.errors import HeadwaterError, NotFoundError
from wire.telemetry.spans import Traces
from wire.telemetry.trace_context import HEADER as TRACEPARENT

_log = structlog.get_logger("gateway")
_POSTS: dict[str, Kind] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
}
_MODELS = "/v1/models"
_JSON = b"Content-Type: application/json\r\n"
_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
}


class MethodNotAllowedError(HeadwaterError):
    """The path is there, but not for this method (RFC 9110 section 15.5.6)."""

    status = 405
    code = "method_not_allowed"


class InternalError(HeadwaterError):
    """A fault of ours; the log says which."""

    status = 500
    code = "internal_error"


def openai_error(error: HeadwaterError) -> tuple[bytes, str]:
    """OpenAI's error envelope."""
    kind = _KINDS.get(error.status, "server_error" if error.status >= 500 else "api_error")
    param = getattr(error, "param", None)
    return error_body(error.message, kind, error.code, param), "application/json"


@dataclass(slots=True, kw_only=True)
class Accepted:
    """A request whose key is good, and whose body is still to come."""

    head: RequestHead
    caller: Caller
    watch: Stopwatch
    request_id: str
    began: float
    kind: Kind | Literal["models"]
    model: str = ""
    """For a look at one model."""
    trace: RequestTrace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoutes:
    """``/v1`` over a pipeline and its backends."""

    pipeline: Pipeline
    parts: ExchangeParts
    aliases: tuple[str, ...]
    max_body_bytes: int
    body_timeout_s: float = 30.0
    traces: Traces | None = None
    process: str = field(default_factory=lambda: secrets.token_hex(4))
    """Makes the ids of requests this process's own."""
    numbers: Iterator[int] = field(default_factory=count)
    started: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds; what models are listed with, since a channel has no other date."""

    # The front door's handler

    def accept(self, head: RequestHead) -> Answer:
        """Whether this may be asked at all; the body has not been read yet.

        Raises:
            HeadwaterError: no such path, not this method, no valid key.
        """
        watch, began = Stopwatch(), time.perf_counter()
        request_id = f"req-{self.process}{next(self.numbers):08x}"
        trace = None
        if self.traces is not None:
            trace = RequestTrace(self.traces, head.headers.get(TRACEPARENT))
        try:
            kind, model = _endpoint(head)
            authorization = head.headers.get("authorization")
            caller = self.pipeline.authenticate(authorization, _asked(kind))
        except HeadwaterError as error:
            self._note_refusal(error, watch, request_id, _POSTS.get(head.path, "request"), trace)
            raise
        watch.lap("auth")
        accepted = Accepted(
            head=head,
            caller=caller,
            watch=watch,
            request_id=request_id,
            began=began,
            kind=kind,
            model=model,
            trace=trace,
        )
        return partial(self._answer, accepted)

    async def _answer(self, accepted: Accepted, body: bytes, reply: Reply) -> None:
        """Answer one request; errors become answers, a client that leaves cancels this."""
        watch = accepted.watch
        try:
            if accepted.kind == "models":
                self._models(accepted, reply)
                return
            watch.lap("read")
            head = accepted.head
            inbound = Inbound(
                kind=accepted.kind,
                caller=accepted.caller,
                body=body,
                hints=parse_hints(head.headers),
            )
            admitted = await self.pipeline.admit(inbound, watch)
            await Exchange(
                self.parts,
                admitted,
                reply,
                watch,
                request_id=accepted.request_id,
                began=accepted.began,
                explain="x-headwater-explain" in head.headers,
                trace=accepted.trace,
            ).run()
        except HeadwaterError as error:
            self._note_refusal(error, watch, accepted.request_id, accepted.kind, accepted.trace)
            if not reply.started:
                self.refuse(error, reply)
        except Exception:  # noqa: BLE001 - a fault of ours ends one request, and is logged
            _log.exception(
                "a request failed by our fault",
                request=accepted.request_id,
                **in_log(accepted.trace),
            )
            fault = InternalError("internal error; the edge's log has the cause")
            _finish(accepted.trace, accepted.kind, fault, watch, accepted.request_id)
            if not reply.started:
                self.refuse(fault, reply)

    def refuse(self, error: HeadwaterError, reply: Reply) -> None:
        """Say ``error`` in OpenAI's envelope."""
        headers = {"Cache-Control": "no-store", **error.headers}
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        body, _ = openai_error(error)
        reply.whole(error.status, lines.encode("latin-1", "replace") + _JSON, body)

    # The web application's handlers

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        for path in _POSTS:
            app.router.add_post(path, self._from_application)
        # HEAD is not answered: what is written here has a body.
        app.router.add_get(_MODELS, self._from_application, allow_head=False)
        app.router.add_get(f"{_MODELS}/{{model}}", self._from_application, allow_head=False)

    async def _from_application(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("client is gone")
        http11 = request.version >= (1, 1)
        head = RequestHead(
            request.method,
            request.rel_url.raw_path,
            {name.lower(): value for name, value in request.headers.items()},
            http11,
            request.keep_alive,
            request.content_length or 0,
        )
        reply = Reply(transport, http11=http11, keep_alive=request.keep_alive)
        try:
            answer = self.accept(head)
            body = await self._read(request)
        except HeadwaterError as error:
            reply.keep_alive = False
            self.refuse(error, reply)
            return _Sent(reply)
        try:
            await answer(body, reply)
        finally:
            reply.release()
        return _Sent(reply)

    async def _read(self, request: web.Request) -> bytes:
        """The body, within its deadline. Raises ``BodyTimeoutError``."""
        try:
            async with asyncio.timeout(self.body_timeout_s):
                return await request.read()
        except TimeoutError:
            raise BodyTimeoutError(
                f"the body did not arrive within {self.body_timeout_s:g} s"
            ) from None

    def _models(self, accepted: Accepted, reply: Reply) -> None:
        """Aliases and every model this edge offers to the caller, or one of them."""
        allowed = accepted.caller.policy.models
        names = {*self.aliases, *self.pipeline.fleet_view().offered}
        offered = sorted(name for name in names if not allowed or name in allowed)
        if not accepted.model:
            body = encode_models([self._card(name) for name in offered])
        elif accepted.model in offered:
            body = msgspec.json.encode(self._card(accepted.model))
        else:
            raise UnknownModelError(f"the model {accepted.model[:128]!r} does not exist")
        timing = f"Server-Timing: {accepted.watch.header()}\r\n".encode()
        reply.whole(200, timing + _JSON, body)

    def _card(self, name: str) -> ModelCard:
        return ModelCard(id=name, created=self.started)

    def _note_refusal(
        self,
        error: HeadwaterError,
        watch: Stopwatch,
        request_id: str,
        kind: str,
        trace: RequestTrace | None,
    ) -> None:
        error.headers.setdefault("Server-Timing", watch.header() or "auth;dur=0.000")
        error.headers.setdefault("x-request-id", request_id)
        self.parts.metrics.refused(error.code)
        level = "warning" if error.status >= 500 else "info"
        line = {"request": request_id, "code": error.code, "status": error.status}
        if trace is not None:
            line["trace_id"] = trace.trace_id
            _finish(trace, kind, error, watch, request_id)
        self.parts.log.write(level, "refused", line)


def _finish(
    trace: RequestTrace | None, kind: str, error: HeadwaterError, watch: Stopwatch, request_id: str
) -> None:
    """End the trace of a request that got no answer."""
    if trace is not None and trace.sampled:
        name, attributes, fault = of_refusal(kind, error, request_id)
        trace.finish(name, attributes, watch.stages, fault)


class _Sent(web.StreamResponse):
    """What the web application is given in place of an answer that was sent already."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply

    @property
    def prepared(self) -> bool:
        return True

    @property
    def keep_alive(self) -> bool:
        return self._reply.keep_alive and self._reply.ended

    async def prepare(self, request: web.BaseRequest) -> None:  # noqa: ARG002
        return None

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002
        if not self._reply.ended:
            self._reply.transport.abort()  # an answer that is not whole must not look so


def _endpoint(head: RequestHead) -> tuple[Kind | Literal["models"], str]:
    """What a request is for.

    Raises:
        NotFoundError, MethodNotAllowedError: nothing of ours.
    """
    path = head.path
    kind = _POSTS.get(path)
    if kind is not None:
        if head.method == "POST":
            return kind, ""
        raise MethodNotAllowedError(f"{path} is asked by POST", headers={"Allow": "POST"})
    if path == _MODELS or (path.startswith(f"{_MODELS}/") and len(path) > len(_MODELS) + 1):
        if head.method == "GET":
            return "models", unquote(path[len(_MODELS) + 1 :])
        raise MethodNotAllowedError(f"{_MODELS} is asked by GET", headers={"Allow": "GET"})
    raise NotFoundError("there is nothing at this path; see /v1/models, /v1/chat/completions")


def _asked(kind: Kind | Literal["models"]) -> Kind:
    """Whoever may chat may see the models."""
    return "chat" if kind == "models" else kind
