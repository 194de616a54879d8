"""The HTTP API of a worker: OpenAI's chat and completions, models, tokenize, and operations.

| path | |
|---|---|
| ``POST /v1/chat/completions`` | ``messages``, or ``prompt_token_ids`` from the edge |
| ``POST /v1/completions`` | ``prompt`` as text or token ids |
| ``POST /v1/embeddings`` | where the engine gives them |
| ``GET /v1/models`` | the models that serve, or sleep until they are asked |
| ``POST /tokenize`` | ``{"content", "add_special", "parse_special", "model"}`` → ``{"tokens"}`` |
| ``GET /healthz`` ``/readyz`` ``/metrics`` | without a token |

A worker with one model takes a request that names none; one with several does not guess.

Every answer says which worker gave it (``x-headwater-worker``) and of which revision
(``x-model-digest``), where it is about one model. The application's runner must be built with
``handler_cancellation=True``: then a client that leaves frees its slot at once, also before the
first token; otherwise at the next event that is written to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry

from gpu_worker.answers import DIGEST_HEADER, Answers, AnswersConfig, Embed, Wanted
from gpu_worker.bodies import ChatBody, CompletionBody, EmbeddingBody, TokenizeBody, decode_body
from gpu_worker.metrics import WorkerMetrics
from gpu_worker.openai_errors import openai_error
from gpu_worker.progress import Tracing
from gpu_worker.serving import NotServingError, Serving
from wire.chat import Kind, ModelCard, encode_models
from wire.errors import NotFoundError, RequestInvalidError, TooLargeError, UnauthorizedError
from wire.http_errors import ErrorBody
from wire.http_server import add_operations
from wire.telemetry.spans import Traces
from wire.telemetry.trace_context import HEADER as TRACEPARENT

WORKER_HEADER = "x-headwater-worker"
ERROR_BODIES: dict[str, ErrorBody] = {"/v1": openai_error}
"""For ``wire.http_errors.error_middleware``, which the application needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutesConfig:
    """Bounds of the API."""

    body_bytes: int = 8 * 1024 * 1024
    body_timeout_s: float = 30.0
    answers: AnswersConfig = field(default_factory=AnswersConfig)


@dataclass(frozen=True, slots=True)
class _Served:
    """One model."""

    name: str
    serving: Serving
    answers: Answers


_SERVED = web.RequestKey("served", _Served)


class WorkerRoutes:
    """The handlers.

    Args:
        servings: of each model, by its name.
        worker: this worker's stable name.
        tokens: bearer tokens that are accepted; several during a rotation.
        traces: what requests are told to; whoever has a token says which trace they belong to.
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        servings: Mapping[str, Serving],
        *,
        worker: str,
        tokens: tuple[str, ...],
        registry: CollectorRegistry,
        config: RoutesConfig | None = None,
        traces: Traces | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._worker = worker
        self._tokens = [token.encode() for token in tokens if token]
        self._registry = registry
        self._traces = traces
        self._config = config or RoutesConfig()
        self._started = int(wall())
        metrics = WorkerMetrics(registry, servings.values())
        timing = self._config.answers
        self._served = {
            name: _Served(name, serving, Answers(serving, metrics, timing, clock=clock, wall=wall))
            for name, serving in servings.items()
        }
        self._only = next(iter(self._served.values())) if len(servings) == 1 else None

    def add_to(self, app: web.Application) -> None:
        """Register everything on ``app``."""
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completions)
        app.router.add_post("/v1/embeddings", self.embeddings)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/tokenize", self.tokenize)
        add_operations(app, ready=self._why_not_ready, registry=self._registry)
        app.on_response_prepare.append(self._name_ourselves)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, ChatBody, "chat")

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(request, CompletionBody, "completion")

    async def embeddings(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        body = decode_body(await self._read(request), EmbeddingBody)
        served = self._find(request, body.model)
        if body.dimensions is not None:
            raise RequestInvalidError("dimensions is not supported")
        wanted = Embed(texts=body.texts, base64=body.encoding_format == "base64")
        return await served.answers.embed(wanted, self._tracing(request, "embedding"))

    async def models(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        found = [s for s in self._served.values() if s.serving.engine is not None]
        if not found:
            raise NotServingError(self._why_not_ready() or "no engine")
        return _json(encode_models([ModelCard(served.name, self._started) for served in found]))

    async def tokenize(self, request: web.Request) -> web.StreamResponse:
        self._authorize(request)
        body = decode_body(await self._read(request), TokenizeBody)
        serving = self._find(request, body.model).serving
        wake = contextlib.nullcontext() if serving.state != "asleep" else await serving.acquire()
        with wake, serving.visit() as engine:
            tokens = await engine.tokenize(
                body.content, add_special=body.add_special, parse_special=body.parse_special
            )
        return _json(msgspec.json.encode({"tokens": tokens}))

    async def _generate(
        self, request: web.Request, form: type[ChatBody | CompletionBody], kind: Kind
    ) -> web.StreamResponse:
        self._authorize(request)
        body = decode_body(await self._read(request), form)
        generation = body.generation()
        wanted = Wanted(
            generation=generation,
            kind=kind,
            stream=bool(body.stream),
            include_usage=body.include_usage,
            choices=body.n or 1,
            revision=body.revision,
            journal=body.journaled(generation),
        )
        answers = self._find(request, body.model).answers
        return await answers.respond(request, wanted, self._tracing(request, kind))

    def _tracing(self, request: web.Request, kind: str) -> Tracing | None:
        if self._traces is None:
            return None
        return Tracing(self._traces, self._traces.begin(request.headers.get(TRACEPARENT)), kind)

    def _find(self, request: web.Request, model: str) -> _Served:
        """What serves a model; the answer will name its revision.

        Raises:
            NotFoundError: this worker does not serve it.
            RequestInvalidError: it serves several, and none was named.
        """
        served = self._served.get(model) if model else self._only
        if served is None:
            names = ", ".join(self._served)
            if not model:
                raise RequestInvalidError(f"name a model; this worker serves {names}")
            raise NotFoundError(f"this worker serves {names}")
        request[_SERVED] = served
        return served

    def _why_not_ready(self) -> str | None:
        """For ``/readyz``: None when at least one model is served."""
        reasons = []
        for served in self._served.values():
            reason = served.serving.why_not_ready()
            if reason is None:
                return None
            reasons.append(reason if self._only else f"{served.name}: {reason}")
        return "; ".join(reasons)

    def _authorize(self, request: web.Request) -> None:
        """Compare with every token, so the time tells nothing.

        Raises:
            UnauthorizedError: no token, or none of ours.
        """
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        raw = given.encode("utf-8", "surrogateescape")
        known = [hmac.compare_digest(raw, token) for token in self._tokens]
        if scheme.lower() != "bearer" or not any(known):
            raise UnauthorizedError(
                "a valid bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
            )

    async def _read(self, request: web.Request) -> bytes:
        """The body, bounded in size and time.

        Raises:
            TooLargeError, RequestInvalidError: too long, or too slow.
        """
        limit = self._config.body_bytes
        body = bytearray()
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                async for piece in request.content.iter_any():
                    body += piece
                    if len(body) > limit:
                        raise TooLargeError(f"the body is over the {limit} B allowed")
        except TimeoutError as error:
            raise RequestInvalidError("the body did not arrive in time") from error
        return bytes(body)

    async def _name_ourselves(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers[WORKER_HEADER] = self._worker
        served = self._only or request.get(_SERVED)
        engine = served.serving.engine if served is not None else None
        if engine is not None and DIGEST_HEADER not in response.headers:
            response.headers[DIGEST_HEADER] = engine.revision


def _json(body: bytes) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=body, content_type="application/json", headers=headers)
