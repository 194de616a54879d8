"""Metrics of which a quiet system has no series yet, and so tells no labels: the tiers' own
collectors, made to tell of each once."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric

from edge_tier.gateway.jwks import KeyHealth
from edge_tier.gateway.jwks_metrics import KeyMetrics
from edge_tier.gateway.metrics import GatewayMetrics
from edge_tier.metrics import ServedBytes
from gpu_worker.boot_metrics import BootMetrics
from gpu_worker.waterfalls import Waterfalls
from origin.app import OriginMetrics
from origin.purge_hook import PurgeMetrics
from origin.rollout_config import RolloutConfig
from origin.rollout_metrics import RolloutCollector
from origin.rollout_records import ChannelRecord
from origin.rollout_state import Rollout
from tests.fakes.metric_names import families, labels_of


def rare() -> dict[str, Mapping[str, Metric]]:
    """Tier → its families."""
    return {"origin": _origin(), "edge": _edge(), "worker": _worker()}


def labels(told: Mapping[str, Mapping[str, Metric]]) -> dict[str, dict[str, set[str]]]:
    """Tier → family → its labels, as a system tells them or, where it is quiet, its collectors."""
    seen: dict[str, dict[str, set[str]]] = {}
    for source in (told, rare()):
        for tier, found in source.items():
            of_tier = seen.setdefault(tier, {})
            for name, family in found.items():
                of_tier.setdefault(name, set()).update(labels_of(family))
    return seen


def _origin() -> Mapping[str, Metric]:
    registry = CollectorRegistry()
    purges = PurgeMetrics(registry)
    purges.count("varnish:cache-1", "done", 1)
    purges.waiting("varnish:cache-1", 1)
    record = ChannelRecord(model="chat", channel="stable")
    rollout = Rollout(
        id="1", model="chat", channel="stable", revision="b" * 64, previous="a" * 64, started=1.0
    )
    for stage in ("done", "observing"):
        record = record.with_rollout(replace(rollout, stage=stage), RolloutConfig())
    registry.register(RolloutCollector(lambda: [record]))
    OriginMetrics(registry).served("chunk", 1, "hit")
    return _told(registry)


def _edge() -> Mapping[str, Metric]:
    registry = CollectorRegistry()
    gateway = GatewayMetrics(registry)
    gateway.refused("invalid_key")
    gateway.broken("worker")
    gateway.resumed("worker")
    gateway.found({("email", "mask"): 1})
    gateway.hybrid("gate", "passed")
    ServedBytes(registry).served("chunk", 1, "hit")
    keys = KeyHealth(keys=1, age_s=0, read=1, failed=0, refresh_s=300, max_stale_s=3_600)
    KeyMetrics(registry, lambda: {"https://id": keys})
    return _told(registry)


def _worker() -> Mapping[str, Metric]:
    registry, known = CollectorRegistry(), Waterfalls(model="chat")
    BootMetrics(registry, lambda: [known])
    for _ in ("boot", "roll"):
        waterfall = known.begin()
        with waterfall.step("pull"):
            pass
        known.keep(waterfall)
    return _told(registry)


def _told(registry: CollectorRegistry) -> Mapping[str, Metric]:
    found = families(generate_latest(registry).decode())
    return {name: family for name, family in found.items() if family.samples}
