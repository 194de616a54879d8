"""The dashboard of the artifact plane and of the fleet that it feeds."""

from __future__ import annotations

from typing import Any

from infra.grafana.panels import Panel, Row, dashboard
from infra.grafana.queries import INSTANCE, LAG, ORIGIN, RATE, REGION, quantile, rate


def artifacts() -> dict[str, Any]:
    """From what is looked at first, down."""
    rows = [_now(), _caches(), _origin(), _faults(), _workers(), _machines()]
    return dashboard("headwater-artifacts", "Headwater: artifacts and fleet", rows)


def _now() -> Row:
    return Row(
        "Now",
        [
            Panel(
                "Nodes",
                [("max by (kind, state) (headwater_fleet_nodes)", "{{kind}} {{state}}")],
                kind="stat",
                about="Every origin counts the whole fleet.",
            ),
            Panel(
                "Channels not served everywhere",
                [("count(headwater_fleet_consistent == 0) or vector(0)", "")],
                kind="stat",
                worse=1,
            ),
            Panel(
                "Trust expires",
                [(f"min(headwater_trust_expires_timestamp_seconds{{{INSTANCE}}}) * 1000", "")],
                "dateTimeFromNow",
                "stat",
            ),
            Panel(
                "Not ready",
                [(f"count(headwater_ready{{{INSTANCE}}} == 0) or vector(0)", "")],
                kind="stat",
                worse=1,
            ),
            Panel(
                "Degraded",
                [(f"count(headwater_degraded{{{INSTANCE}}} == 1) or vector(0)", "")],
                kind="stat",
                worse=1,
            ),
        ],
    )


def _caches() -> Row:
    return Row(
        "Caches",
        [
            Panel(
                "Hits",
                [(f"region:headwater_edge_cache_hits:ratio_rate15m{{{REGION}}}", "{{region}}")],
                "percentunit",
            ),
            Panel(
                "Brought from above",
                [(rate("headwater_edge_cache_fetched_bytes_total", "region"), "{{region}}")],
                "Bps",
            ),
            Panel(
                "Sent",
                [
                    (
                        rate("headwater_edge_served_bytes_total", "kind, cache"),
                        "{{kind}} {{cache}}",
                    )
                ],
                "Bps",
            ),
            Panel(
                "Used",
                [
                    (
                        f"sum by (region) (headwater_edge_store_used_bytes{{{INSTANCE}}})",
                        "{{region}} used",
                    ),
                    (
                        f"sum by (region) (headwater_edge_store_pinned_bytes{{{INSTANCE}}})",
                        "{{region}} pinned",
                    ),
                    (
                        f"sum by (region) (headwater_edge_store_capacity_bytes{{{INSTANCE}}})",
                        "{{region}} capacity",
                    ),
                ],
                "bytes",
            ),
        ],
    )


def _origin() -> Row:
    return Row(
        "Origin",
        [
            Panel(
                "Sent by the origin",
                [
                    (
                        rate("headwater_origin_served_bytes_total", "kind", ORIGIN),
                        "{{kind}}",
                    )
                ],
                "Bps",
                about="With warm edges nearly nothing.",
            ),
            Panel(
                "Caches told of changes",
                [
                    (
                        rate("headwater_origin_purges_total", "target, outcome", ORIGIN),
                        "{{target}} {{outcome}}",
                    )
                ],
                "reqps",
            ),
            Panel("Rollouts", [("max by (stage) (headwater_rollouts_running)", "{{stage}}")]),
        ],
    )


def _faults() -> Row:
    return Row(
        "Faults",
        [
            Panel(
                "Chunks that were not what was signed",
                [
                    (
                        rate("headwater_edge_source_mismatches_total", "source"),
                        "{{source}}, at edges",
                    ),
                    (
                        rate("headwater_worker_source_mismatches_total", "source"),
                        "{{source}}, at workers",
                    ),
                ],
                "reqps",
                worse=1e-9,
            ),
            Panel(
                "Disk errors of caches",
                [
                    (
                        rate("headwater_edge_store_store_errors_total", "region"),
                        "{{region}} writing",
                    ),
                    (
                        rate("headwater_edge_store_read_errors_total", "region"),
                        "{{region}} reading",
                    ),
                ],
                "reqps",
            ),
            Panel(
                "Sources that failed",
                [(rate("headwater_edge_source_failures_total", "source"), "{{source}}")],
                "reqps",
            ),
        ],
    )


def _workers() -> Row:
    return Row(
        "Workers",
        [
            Panel(
                "Boots, by step",
                [
                    (f"max by (step) (headwater_worker_boot_seconds{{{INSTANCE}}})", "{{step}}"),
                ],
                "s",
            ),
            Panel(
                "Waiting for a slot",
                [(quantile(0.95, "headwater_worker_queue_seconds"), "{{region}} p95")],
                "s",
            ),
            Panel(
                "Busy slots",
                [
                    (f"sum by (region) (headwater_worker_busy{{{INSTANCE}}})", "{{region}} busy"),
                    (f"sum by (region) (headwater_worker_slots{{{INSTANCE}}})", "{{region}} slots"),
                ],
            ),
            Panel(
                "Engines that ended",
                [
                    (
                        "sum by (model, kind) (increase("
                        f"headwater_worker_engine_endings_total{{{INSTANCE}}}{RATE}))",
                        "{{model}} {{kind}}",
                    )
                ],
                about="By themselves, or killed because they hung; each was started again.",
            ),
        ],
    )


def _machines() -> Row:
    return Row(
        "Machines",
        [
            Panel(
                "Free on disk",
                [
                    (
                        f"min by (instance, folder) (headwater_disk_free_bytes{{{INSTANCE}}} "
                        f"/ headwater_disk_size_bytes{{{INSTANCE}}})",
                        "{{instance}} {{folder}}",
                    )
                ],
                "percentunit",
                about="Under 5 % somebody should make room.",
            ),
            Panel(
                "Event loop, how late at the worst",
                [(f"max by (job) ({LAG}_max_seconds{{{INSTANCE}}})", "{{job}}")],
                "s",
                worse=1,
            ),
            Panel(
                "Clocks, how far off",
                [
                    (
                        "max by (instance) (abs("
                        f"headwater_clock_timestamp_seconds{{{INSTANCE}}} "
                        f"- timestamp(headwater_clock_timestamp_seconds{{{INSTANCE}}})))",
                        "{{instance}}",
                    )
                ],
                "s",
                worse=10,
                about="Against Prometheus; of nodes that it scrapes.",
            ),
            Panel(
                "Memory of processes",
                [(f"max by (job) (process_resident_memory_bytes{{{INSTANCE}}})", "{{job}}")],
                "bytes",
            ),
        ],
    )
