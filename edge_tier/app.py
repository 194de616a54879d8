"""Builds an edge from its configuration: the planes it was told to run, in one process."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from aiohttp import web
from prometheus_client import CollectorRegistry

from edge_tier.artifacts import ArtifactPlane
from edge_tier.config import EdgeConfig
from edge_tier.fleet_report import EdgeFacts, EdgeReporter, edge_name
from edge_tier.gateway.orders import Orders
from edge_tier.gateway.routes import openai_error
from edge_tier.middlewares import require_length, timed
from edge_tier.prompts import PromptPlane
from wire.fleet import PromptFigures
from wire.http_errors import error_middleware
from wire.http_facades import ERROR_BODIES
from wire.http_server import LIFE, add_operations, json_answer, read_token, require_token
from wire.paths import ADMIN
from wire.telemetry.http_telemetry import add_telemetry, add_traces
from wire.trust_metrics import TrustMetrics, trust_status

REPORTER = web.AppKey("reporter", EdgeReporter)


async def build_app(config: EdgeConfig) -> web.Application:
    """An edge ready to be served.

    Raises:
        ConfigError: a file, folder or URL cannot be used; says which and what to do.
    """
    threads = config.receive_threads * max(1, len(config.origins))
    receivers = ThreadPoolExecutor(threads, thread_name_prefix="receive")
    executor = ThreadPoolExecutor(config.io_threads, thread_name_prefix="edge-io")
    registry = CollectorRegistry()
    artifacts = await ArtifactPlane.open(config, receivers)
    app = web.Application(
        middlewares=[
            timed,
            error_middleware({"/v1": openai_error, **ERROR_BODIES}),
            require_length(openai_error),
        ],
        client_max_size=config.gateway.pipeline.parse.max_body_bytes + 1,
    )
    admin_token = read_token(config.admin_token_file)
    await artifacts.add_to(app, executor, registry, admin_token=admin_token)
    TrustMetrics(registry, lambda: artifacts.trust.view)
    prompts, orders = None, Orders(time.monotonic)
    if config.plane != "artifacts":
        traced = config.telemetry.traces
        traces = add_traces(app, traced, tier="edge", trust=traced.trust_client_traces)
        prompts = await PromptPlane.open(
            config, artifacts.cache, lambda: artifacts.trust.view, registry, orders, traces
        )
        prompts.add_to(app)
    reporter = app[REPORTER] = _reporter(config, artifacts, prompts, orders)
    reporter.add_to(app)
    if prompts is not None:
        prompts.on_news(reporter.news)
    add_operations(app, ready=reporter.not_ready, registry=registry, degraded=artifacts.degraded)
    app[LIFE].on_stopping.append(reporter.leave)
    _add_status(app, admin_token, artifacts, prompts)
    add_telemetry(
        app,
        registry,
        config.telemetry,
        tier="edge",
        port=config.own_port or config.port,
        shares_port=config.is_shared,
    )

    async def release(_app: web.Application) -> None:
        for pool in (receivers, executor):
            pool.shutdown(wait=False, cancel_futures=True)

    app.on_cleanup.append(release)
    return app


def _reporter(
    config: EdgeConfig, artifacts: ArtifactPlane, prompts: PromptPlane | None, orders: Orders
) -> EdgeReporter:
    facts = EdgeFacts(
        cache=artifacts.cache,
        warmer=artifacts.warmer,
        view=lambda: artifacts.trust.view,
        not_ready=artifacts.not_ready,
        workers=prompts.fleet.seen if prompts else list,
        figures=prompts.figures if prompts else tuple,
        prompts=prompts.prompt_figures if prompts else PromptFigures,
    )
    fleet = config.fleet
    return EdgeReporter(
        facts,
        fleet,
        origins=config.origins,
        token=read_token(fleet.token_file) if fleet.token_file is not None else None,
        orders=orders,
        name=edge_name(fleet.name, config.own_port or config.port, shares_port=config.is_shared),
    )


def _add_status(
    app: web.Application, token: str, artifacts: ArtifactPlane, prompts: PromptPlane | None
) -> None:
    async def status(request: web.Request) -> web.Response:
        require_token(request, token)
        view = artifacts.trust.view
        body = {
            "cache": {
                "degraded": artifacts.cache.degraded,
                "requests": artifacts.cache.stats,
                "store": artifacts.cache.store.stats,
            },
            "sources": artifacts.upstream.stats(),
            "trust": {**trust_status(view), "problem": artifacts.trust.problem},
            "models": prompts.models.channels() if prompts else {},
            "workers": prompts.fleet.workers() if prompts else [],
        }
        return json_answer(body)

    app.router.add_get(f"{ADMIN}/status", status)
