"""A gateway over a real bundle, with backends that a test scripts. Everything but them is real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from edge_tier.gateway.access_log import AccessLog
from edge_tier.gateway.auth import KeyStore
from edge_tier.gateway.backends import Backends
from edge_tier.gateway.cloud import Cloud, CloudConfig
from edge_tier.gateway.exchange import ExchangeParts
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.front import Front, FrontConfig
from edge_tier.gateway.hybrid import Hybrid, HybridConfig
from edge_tier.gateway.limits import LimitsConfig
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.metrics import GatewayMetrics
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.pipeline import Pipeline, PipelineConfig
from edge_tier.gateway.policy_book import PolicyBook
from edge_tier.gateway.relay import RelayConfig
from edge_tier.gateway.request import Limits, Policy
from edge_tier.gateway.resume import ResumeConfig
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.route import CloudTraits
from edge_tier.gateway.routes import GatewayRoutes, openai_error
from edge_tier.gateway.upstream import UpstreamConfig
from origin.bundle import build_bundle
from tests.fakes.front import FrontServer
from tests.fakes.source import MemorySource
from tests.fakes.tiny_gguf import write_tiny_gguf
from wire.channel import Canary, pointer_to
from wire.chat import DONE, ChunkEncoder
from wire.gguf import read_gguf
from wire.http_errors import error_middleware
from wire.manifest import build, encode
from wire.telemetry.spans import Traces
from wire.trust import TrustView
from wire.workers import WorkerReport

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = TestClient[web.Request, web.Application]
MODEL, CLOUD_MODEL = "edge-small", "cloud-large"


class Backend:
    """A model server that remembers what it was asked. ``answer`` may be replaced by a test."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.bodies: list[dict[str, Any]] = []
        self.tokens: list[str | None] = []
        self.traceparents: list[str | None] = []
        self.gone = asyncio.Event()
        self.answer: Handler = self.usual
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.tokens.append(request.headers.get("Authorization"))
        self.traceparents.append(request.headers.get("traceparent"))
        return await self.answer(request)

    async def usual(self, request: web.Request) -> web.StreamResponse:
        """Two tokens, usage, and the end."""
        if not self.bodies[-1]["stream"]:
            usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
            choice = {"index": 0, "message": {"role": "assistant", "content": self.name}}
            headers = {"x-model-digest": self.name}
            return web.json_response({"choices": [choice], "usage": usage}, headers=headers)
        response = await self.begin(request)
        encoder = ChunkEncoder("chatcmpl-1", MODEL, 1)
        for event in (encoder.role(), encoder.delta(self.name), encoder.finish("stop")):
            await response.write(event)
        await response.write(encoder.usage(5, 2) + DONE)
        return response

    async def begin(self, request: web.Request) -> web.StreamResponse:
        """The head of a stream."""
        headers = {"Content-Type": "text/event-stream", "x-model-digest": self.name}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        return response

    async def endless(self, request: web.Request) -> web.StreamResponse:
        """One token, and then nothing until the client leaves."""
        response = await self.begin(request)
        await response.write(ChunkEncoder("chatcmpl-1", MODEL, 1).delta("first"))
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        return response

    async def silent(self, _request: web.Request) -> web.StreamResponse:
        """Not a word until the client leaves."""
        try:
            await asyncio.Event().wait()
        finally:
            self.gone.set()
        raise AssertionError("nobody sets that event")

    async def broken(self, request: web.Request) -> web.StreamResponse:
        """One token, and then the connection breaks."""
        response = await self.begin(request)
        await response.write(ChunkEncoder("chatcmpl-1", MODEL, 1).delta("first"))
        assert request.transport is not None
        request.transport.close()
        return response

    async def failing(self, _request: web.Request) -> web.StreamResponse:
        """Not well."""
        raise web.HTTPServiceUnavailable


@dataclass(slots=True)
class Gateway:
    """A running gateway and what stands around it."""

    client: Client
    worker: Backend
    cloud: Backend
    fleet: Fleet
    keys: KeyStore
    models: ModelDirectory
    limiter: MemoryLimiter
    pipeline: Pipeline
    backends: Backends
    views: list[TrustView]
    """What is trusted; empty: nothing yet."""
    revision: str
    other_revision: str
    """Signed as well, but the worker does not serve it."""
    key: str
    registry: CollectorRegistry
    log: BytesIO
    counts: RevisionCounts
    headers: dict[str, str] = field(default_factory=dict)

    def new_key(self, *, limits: Limits | None = None, policy: Policy | None = None) -> str:
        """Another key."""
        return self.keys.create(tenant="t", limits=limits, policy=policy)[1]

    def forget_models(self) -> None:
        """As if nothing had ever been verified and no worker were known."""
        self.views.clear()
        self.report(ttl_s=0.0)

    def report(self, **changes: Any) -> None:
        """A heartbeat of the worker."""
        fields: dict[str, Any] = {
            "worker": "w1",
            "url": self.worker.url,
            "model": MODEL,
            "channel": "stable",
            "revision": self.revision,
            "state": "ready",
            "slots": 4,
            "busy": 0,
            "queue": 0,
            "ttl_s": 600.0,
        }
        self.fleet.report(WorkerReport(**(fields | changes)))


@lru_cache
def _tiny_revision(seed: int) -> tuple[bytes, tuple[bytes, ...]]:
    """A manifest and the files of its bundle; made once, because a template is probed for it."""
    with TemporaryDirectory() as folder:
        path = write_tiny_gguf(Path(folder) / "tiny.gguf", seed=seed)
        with path.open("rb") as stream:
            bundle = build_bundle(read_gguf(stream, path.stat().st_size))
    files = list(bundle.files())
    manifest = build(MODEL, tuple(entry for entry, _ in files), {"seed": str(seed)})
    return encode(manifest), tuple(data for _, data in files)


def publish_tiny(source: MemorySource, *, seed: int = 0) -> str:
    """Put a revision with a real edge bundle into a source; its revision."""
    manifest, files = _tiny_revision(seed)
    for data in files:
        source.add_chunk(data)
    return source.add_manifest(manifest)


def trusting(*revisions: str, canary: Canary | None = None, static: bool = False) -> TrustView:
    """A view in which the publisher signed these revisions; the first one is stable."""
    pointer = pointer_to(MODEL, "stable", revisions[0], sequence=1, canary=canary)
    return TrustView(
        versions={},
        expires={"root": time.time() + 3600},
        channels={(MODEL, "stable"): pointer},
        refused={},
        revisions={(MODEL, revision): 1 for revision in revisions},
        static=frozenset((MODEL, revision) for revision in revisions if static),
    )


@asynccontextmanager
async def gateway_in(
    folder: Path,
    config: PipelineConfig | None = None,
    *,
    relay: RelayConfig | None = None,
    hybrid: HybridConfig | None = None,
    policies: str = "",
    cloud_traits: CloudTraits | None = None,
    limits: LimitsConfig | None = None,
    resume: ResumeConfig | None = None,
    upstream: UpstreamConfig | None = None,
    through: Literal["front", "application"] = "front",
    body_timeout_s: float = 60.0,
    traces: Traces | None = None,
) -> AsyncIterator[Gateway]:
    """A gateway with one worker and one cloud backend, both ready.

    Args:
        policies: the policy file; empty: there is none.
        through: whose connections the client's are: the front door's, or the web application's.
    """
    settings = config or PipelineConfig()
    async with AsyncExitStack() as stack:
        worker, cloud = Backend("worker"), Backend("cloud")
        for backend in (worker, cloud):
            app = web.Application()
            app.router.add_post("/v1/{path:.*}", backend.handle)
            server = TestServer(app, handler_cancellation=True)
            await stack.enter_async_context(server)
            backend.url = str(server.make_url("")).rstrip("/")
        source = MemorySource()
        revision = await asyncio.to_thread(publish_tiny, source)
        other = await asyncio.to_thread(publish_tiny, source, seed=1)
        views = [trusting(revision, other)]
        fleet, limiter = Fleet(time.monotonic), MemoryLimiter(config=limits or LimitsConfig())
        keys = KeyStore.open(folder / "keys.json", folder / "pepper")
        models = ModelDirectory(source, lambda: views[0] if views else None)
        clouds = Cloud(CloudConfig(url=cloud.url, models=(CLOUD_MODEL,)), "cloud-token")
        counts = RevisionCounts()
        backends = Backends(
            fleet,
            clouds,
            models,
            worker_token="worker-token",
            upstream=upstream or UpstreamConfig(connect_timeout_s=60.0),
            counts=counts,
        )
        stack.push_async_callback(backends.aclose)
        app = web.Application(middlewares=[error_middleware({"/v1": openai_error})])
        policy_file = folder / "policies.toml" if policies else None
        if policy_file is not None:
            policy_file.write_text(policies)
        pipeline = Pipeline(
            settings,
            policies=PolicyBook(policy_file),
            cloud_traits=cloud_traits,
            auth=keys,
            limiter=limiter,
            models=models,
            fleet=fleet,
            cloud_models=lambda: (clouds.offered, clouds.ready),
            cloud_features=clouds.features,
        )
        registry, log = CollectorRegistry(), BytesIO()
        routes = GatewayRoutes(
            pipeline=pipeline,
            parts=ExchangeParts(
                hybrid=Hybrid(backends, hybrid or HybridConfig()),
                limiter=limiter,
                metrics=GatewayMetrics(registry),
                log=AccessLog(log, delay_s=0),
                relay=relay or RelayConfig(keep_alive_s=60.0),
                max_answer_bytes=16 * 1024 * 1024,
                resume=resume or ResumeConfig(),
            ),
            aliases=settings.route.aliases,
            max_body_bytes=settings.parse.max_body_bytes,
            body_timeout_s=body_timeout_s,
            traces=traces,
        )
        routes.add_to(app)
        front = FrontConfig(body_timeout_s=body_timeout_s, head_timeout_s=60.0, sweep_s=0.02)
        server = (
            FrontServer(app, lambda application: Front(routes, application, front))
            if through == "front"
            else TestServer(app, handler_cancellation=True)
        )
        client: Client = TestClient(server)
        await stack.enter_async_context(client)
        gateway = Gateway(
            client,
            worker,
            cloud,
            fleet,
            keys,
            models,
            limiter,
            pipeline,
            backends,
            views,
            revision,
            other,
            keys.create(tenant="t")[1],
            registry,
            log,
            counts,
        )
        gateway.headers = {"Authorization": f"Bearer {gateway.key}"}
        gateway.report()
        yield gateway
