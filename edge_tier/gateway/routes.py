"""The OpenAI routes of an edge, thin: HTTP in, the pipeline, a backend's stream out."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import msgspec
import structlog
from aiohttp import web

from edge_tier.gateway.backends import Backends, Opened, Wanted
from edge_tier.gateway.errors import BodyTimeoutError, UpstreamError
from edge_tier.gateway.limits import Limiter, rate_headers
from edge_tier.gateway.metrics import GatewayMetrics
from edge_tier.gateway.pipeline import Admitted, Inbound, Pipeline, Stopwatch
from edge_tier.gateway.relay import (
    RelayConfig,
    Splice,
    StreamScan,
    answer_usage,
    broken_event,
    charged_tokens,
)
from edge_tier.gateway.request import Privacy, Target
from edge_tier.gateway.route import Hints, UnknownModelError
from wire.chat import ModelCard, encode_models, error_body
from wire.errors import HeadwaterError, RequestInvalidError

_log = structlog.get_logger("gateway")
T = TypeVar("T")
_PRIVACY: dict[str, Privacy] = {"any": "any", "local": "local"}
_TARGETS: dict[str, Target] = {"worker": "worker", "local": "worker", "cloud": "cloud"}


def openai_error(error: HeadwaterError) -> tuple[bytes, str]:
    """OpenAI's error envelope."""
    kinds = {401: "authentication_error", 403: "permission_error", 404: "invalid_request_error"}
    kinds |= {400: "invalid_request_error", 413: "invalid_request_error"}
    kinds |= {429: "rate_limit_error", 503: "service_unavailable"}
    kind = kinds.get(error.status, "server_error" if error.status >= 500 else "api_error")
    param = getattr(error, "param", None)
    return error_body(error.message, kind, error.code, param), "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayRoutes:
    """``/v1`` over a pipeline and its backends."""

    pipeline: Pipeline
    backends: Backends
    limiter: Limiter
    metrics: GatewayMetrics
    relay: RelayConfig
    aliases: tuple[str, ...]
    max_answer_bytes: int = 16 * 1024 * 1024
    body_timeout_s: float = 30.0
    started: int = field(default_factory=lambda: int(time.time()))
    """Unix seconds; what models are listed with, since a channel has no other date."""

    def add_to(self, app: web.Application) -> None:
        """Register the routes."""
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completion)
        app.router.add_get("/v1/models", self.list_models)
        app.router.add_get("/v1/models/{model}", self.get_model)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/chat/completions``."""
        return await self._answer(request, "chat")

    async def completion(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/completions``."""
        return await self._answer(request, "completion")

    async def list_models(self, request: web.Request) -> web.Response:
        """Aliases and every model this edge offers to the caller."""
        watch = Stopwatch()
        names = self._offered(request)
        watch.lap("auth")
        body = encode_models([self._card(name) for name in names])
        headers = {"Server-Timing": watch.header()}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def get_model(self, request: web.Request) -> web.Response:
        """One of them."""
        watch = Stopwatch()
        name = request.match_info["model"]
        offered = self._offered(request)
        watch.lap("auth")
        if name not in offered:
            raise UnknownModelError(f"the model {name!r} does not exist")
        body = msgspec.json.encode(self._card(name))
        headers = {"Server-Timing": watch.header()}
        return web.Response(body=body, content_type="application/json", headers=headers)

    async def _answer(
        self, request: web.Request, kind: Literal["chat", "completion"]
    ) -> web.StreamResponse:
        watch, started = Stopwatch(), time.perf_counter()
        request_id = f"req-{secrets.token_hex(8)}"
        try:
            caller = self.pipeline.authenticate(request.headers.get("Authorization"))
            watch.lap("auth")
            body = await self._read(request)
            watch.lap("read")
            inbound = Inbound(kind=kind, caller=caller, body=body, hints=_hints(request))
            admitted = await self.pipeline.admit(inbound, watch)
            exchange = _Exchange(self, request, admitted, watch, request_id, started)
            return await exchange.run()
        except HeadwaterError as error:
            error.headers.setdefault("Server-Timing", watch.header())
            error.headers.setdefault("x-request-id", request_id)
            self.metrics.refused(error.code)
            _log.info("refused", request=request_id, code=error.code, status=error.status)
            raise

    async def _read(self, request: web.Request) -> bytes:
        """The body, within its deadline. Raises ``BodyTimeoutError``."""
        try:
            async with asyncio.timeout(self.body_timeout_s):
                return await request.read()
        except TimeoutError:
            raise BodyTimeoutError(
                f"the body did not arrive within {self.body_timeout_s:g} s",
                headers={"Connection": "close"},
            ) from None

    def _offered(self, request: web.Request) -> list[str]:
        caller = self.pipeline.authenticate(request.headers.get("Authorization"))
        names = {*self.aliases, *self.pipeline.fleet_view().offered}
        return sorted(n for n in names if not caller.policy.models or n in caller.policy.models)

    def _card(self, name: str) -> ModelCard:
        return ModelCard(id=name, created=self.started)


class _Exchange:
    """One admitted request on its way to a backend and back. Settles exactly once."""

    def __init__(
        self,
        routes: GatewayRoutes,
        request: web.Request,
        admitted: Admitted,
        watch: Stopwatch,
        request_id: str,
        started: float,
    ) -> None:
        self._routes = routes
        self._request = request
        self._admitted = admitted
        self._watch = watch
        self._id = request_id
        self._started = started

    async def run(self) -> web.StreamResponse:
        """Open a backend and relay its answer."""
        used, outcome = 0, "failed"
        admitted = self._admitted
        try:
            opened = await self._routes.backends.open(
                Wanted(
                    plan=admitted.plan,
                    prompt=admitted.prompt,
                    as_text=admitted.as_text,
                    tokens=admitted.tokens,
                    max_tokens=admitted.max_tokens,
                )
            )
            self._watch.lap("backend")
            self._routes.metrics.first_token(
                opened.step.target, time.perf_counter() - self._started
            )
            used = len(admitted.tokens)
            try:
                if admitted.prompt.stream:
                    scan = StreamScan(
                        keep_usage=admitted.prompt.include_usage,
                        max_event_bytes=self._routes.relay.max_event_bytes,
                    )
                    try:
                        response = await self._stream(opened, scan)
                    finally:
                        used = charged_tokens(len(admitted.tokens), scan.usage, scan.events)
                    outcome = "whole" if scan.done else "broken"
                    return response
                body = await opened.response.read(self._routes.max_answer_bytes)
                usage = answer_usage(body)
                used = charged_tokens(len(admitted.tokens), usage, admitted.max_tokens)
                outcome = "whole"
                return web.Response(
                    body=body, content_type="application/json", headers=self._headers(opened)
                )
            finally:
                opened.close()
                self._log(opened, used, outcome)
        finally:
            await self._routes.limiter.settle(admitted.reservation, used)

    async def _stream(self, opened: Opened, scan: StreamScan) -> web.StreamResponse:
        headers = self._headers(opened) | {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "X-Accel-Buffering": "no",
        }
        response = web.StreamResponse(headers=headers)
        chunked = self._request.version >= (1, 1)
        if chunked:
            response.enable_chunked_encoding()
        await response.prepare(self._request)
        await response.write(b"")
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError("client is gone")
        splice = Splice(transport, chunked=chunked, config=self._routes.relay)
        try:
            await splice.relay(opened.response, scan)
            if not scan.done and not scan.failed:
                raise UpstreamError("the backend ended its stream before the answer was whole")
        except HeadwaterError as error:
            splice.write(broken_event(error))
            self._routes.metrics.broken(opened.step.target)
            _log.warning("stream broke", request=self._id, why=error.message)
        await response.write_eof()
        return response

    def _headers(self, opened: Opened) -> dict[str, str]:
        plan = self._admitted.plan
        headers = {
            "x-request-id": self._id,
            "x-headwater-route": f"{opened.step.target}; model={opened.step.model}",
            "Server-Timing": self._watch.header(),
            **rate_headers(self._admitted.reservation),
        }
        if opened.revision:
            headers["x-model-digest"] = opened.revision
        if opened.worker:
            headers["x-headwater-worker"] = opened.worker
        if self._request.headers.get("x-headwater-explain"):
            reasons = "; ".join(plan.reasons)
            headers["x-headwater-plan"] = reasons.encode("ascii", "replace").decode()
            headers["x-headwater-tokens"] = str(len(self._admitted.tokens))
        return headers

    def _log(self, opened: Opened, used: int, outcome: str) -> None:
        admitted = self._admitted
        self._routes.metrics.answered(opened.step.target, outcome, used, opened.fallbacks)
        _log.info(
            "answered",
            request=self._id,
            key=admitted.caller.key_id,
            tenant=admitted.caller.tenant,
            target=opened.step.target,
            model=opened.step.model,
            revision=opened.revision[:12],
            outcome=outcome,
            prompt_tokens=len(admitted.tokens),
            charged=used,
            score=round(admitted.complexity.score, 3),
            reasons=admitted.plan.reasons,
            findings=sorted({f.name for f in admitted.findings}),
            ms={name: round(ms, 3) for name, ms in self._watch.stages},
        )


def _hints(request: web.Request) -> Hints:
    """What the request asks of routing.

    Raises:
        RequestInvalidError: a value that is none of the allowed.
    """
    return Hints(
        privacy=_choice(request, "x-headwater-privacy", _PRIVACY),
        prefer=_choice(request, "x-headwater-prefer", _TARGETS),
    )


def _choice(request: web.Request, name: str, allowed: dict[str, T]) -> T | None:
    text = request.headers.get(name)
    if text is None:
        return None
    value = allowed.get(text.strip().lower())
    if value is None:
        raise RequestInvalidError(f"header {name} is one of {', '.join(sorted(allowed))}")
    return value
