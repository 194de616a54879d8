"""Assembles the prompt plane of an edge."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry

from edge_tier.config import EdgeConfig, GatewayConfig
from edge_tier.gateway.access_log import AccessLog
from edge_tier.gateway.admin import GatewayAdmin
from edge_tier.gateway.backends import Backends
from edge_tier.gateway.cloud import Cloud, CloudConfig
from edge_tier.gateway.exchange import ExchangeParts
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.front import Front
from edge_tier.gateway.hybrid import Hybrid
from edge_tier.gateway.identity import Identity, open_authenticator
from edge_tier.gateway.jwks_metrics import KeyMetrics
from edge_tier.gateway.limits import Limiter
from edge_tier.gateway.limits_client import connect
from edge_tier.gateway.limits_memory import MemoryLimiter
from edge_tier.gateway.limits_redis import RedisLimiter
from edge_tier.gateway.load_metrics import LoadMetrics
from edge_tier.gateway.metrics import GatewayMetrics
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.orders import Orders
from edge_tier.gateway.pipeline import Pipeline
from edge_tier.gateway.policy_book import PolicyBook
from edge_tier.gateway.revision_counts import RevisionCounts
from edge_tier.gateway.route import CloudTraits
from edge_tier.gateway.routes import GatewayRoutes
from wire.fleet import PromptFigures, RevisionFigures
from wire.http_server import ENTRANCE, background, read_token
from wire.source import Source
from wire.telemetry.spans import Traces
from wire.trust import TrustView


class PromptPlane:
    """The gateway with everything it needs. Reads of the artifact plane only signed bundles."""

    def __init__(
        self,
        config: EdgeConfig,
        *,
        identity: Identity,
        admin_token: str,
        worker_token: str,
        cloud_token: str | None,
        source: Source,
        view: Callable[[], TrustView | None],
        registry: CollectorRegistry,
        orders: Orders,
        traces: Traces | None = None,
    ) -> None:
        gateway = config.gateway
        self._front = gateway.front
        self._fronts: list[Front] = []
        self._news: list[Callable[[], None]] = []
        self._identity = identity
        self.fleet = Fleet(time.monotonic, breaker=gateway.breaker)
        self.models = ModelDirectory(source, view, gateway.models)
        self._counts = RevisionCounts()
        registry.register(self._counts)
        self._cloud = Cloud(gateway.cloud, cloud_token, gateway.upstream)
        self._limiter = _limiter(gateway)
        LoadMetrics(
            registry,
            self.fleet.workers,
            self._streams,
            lambda: isinstance(self._limiter, RedisLimiter) and self._limiter.degraded,
            self.fleet.passed_over,
        )
        KeyMetrics(registry, identity.key_health)
        self._backends = Backends(
            self.fleet,
            self._cloud,
            self.models,
            worker_token=worker_token,
            upstream=gateway.upstream,
            hedge=gateway.hedge,
            counts=self._counts,
        )
        self._policies = PolicyBook(gateway.policy_file)
        pipeline = Pipeline(
            gateway.pipeline,
            auth=identity,
            limiter=self._limiter,
            models=self.models,
            fleet=self.fleet,
            cloud_models=lambda: (self._cloud.offered, self._cloud.ready),
            policies=self._policies,
            cloud_traits=traits_of(gateway.cloud),
            cloud_features=self._cloud.features,
        )
        self._metrics = GatewayMetrics(registry)
        self._log = AccessLog(sys.stderr.buffer)
        self._routes = GatewayRoutes(
            pipeline=pipeline,
            parts=ExchangeParts(
                hybrid=Hybrid(self._backends, gateway.hybrid),
                limiter=self._limiter,
                metrics=self._metrics,
                log=self._log,
                relay=gateway.relay,
                max_answer_bytes=gateway.max_answer_bytes,
                resume=gateway.resume,
            ),
            aliases=gateway.pipeline.route.aliases,
            max_body_bytes=gateway.pipeline.parse.max_body_bytes,
            body_timeout_s=gateway.front.body_timeout_s,
            traces=traces,
        )
        self._admin = GatewayAdmin(
            fleet=self.fleet,
            models=self.models,
            identity=identity,
            admin_token=admin_token,
            worker_token=worker_token,
            orders=orders,
            on_news=self._tell_news,
        )

    @classmethod
    async def open(
        cls,
        config: EdgeConfig,
        source: Source,
        view: Callable[[], TrustView | None],
        registry: CollectorRegistry,
        orders: Orders,
        traces: Traces | None = None,
    ) -> PromptPlane:
        """Read keys and tokens.

        Raises:
            ConfigError: a file cannot be used; says which.
        """
        gateway = config.gateway
        token_file = gateway.cloud.token_file
        return cls(
            config,
            identity=await asyncio.to_thread(
                open_authenticator, gateway.keys_file, gateway.pepper_file, gateway.identity
            ),
            admin_token=read_token(config.admin_token_file),
            worker_token=read_token(config.worker_token_file),
            cloud_token=read_token(Path(token_file)) if token_file else None,
            source=source,
            view=view,
            registry=registry,
            orders=orders,
            traces=traces,
        )

    def figures(self) -> tuple[RevisionFigures, ...]:
        """How requests went by revision, for the report to the origin."""
        return self._counts.figures()

    def prompt_figures(self) -> PromptFigures:
        """What the gateway did, for the same."""
        return self._metrics.figures()

    def add_to(self, app: web.Application) -> None:
        """Register the routes; connections close with the application."""
        app[ENTRANCE] = self.entrance
        self._routes.add_to(app)
        self._admin.add_to(app)
        app.cleanup_ctx.append(background("identity", self._identity.run))
        app.cleanup_ctx.append(background("policies", self._policies.run))
        app.on_cleanup.append(self._close)

    def entrance(self, application: Callable[[], asyncio.Protocol]) -> Front:
        """The door before the web application, through which prompts need not pass it."""
        front = Front(self._routes, application, self._front)
        self._fronts.append(front)
        return front

    def _streams(self) -> int:
        return sum(front.answering for front in self._fronts)

    def on_news(self, told: Callable[[], None]) -> None:
        """Have somebody told when the workers change."""
        self._news.append(told)

    def _tell_news(self) -> None:
        for told in self._news:
            told()

    async def _close(self, _app: web.Application) -> None:
        self._log.flush()
        await self._backends.aclose()
        await self.models.aclose()
        await self._limiter.aclose()


def traits_of(cloud: CloudConfig) -> CloudTraits:
    """What routing has to know of the configured cloud."""
    return CloudTraits(
        region=cloud.region.lower(),
        approved_for=frozenset(name.lower() for name in cloud.approved_for),
        input_price=cloud.price_per_million_input,
        output_price=cloud.price_per_million_output,
    )


def _limiter(config: GatewayConfig) -> Limiter:
    if not config.redis_url:
        return MemoryLimiter(config=config.limits)
    return RedisLimiter(connect(config.redis_url, config.redis), config.redis, config.limits)
