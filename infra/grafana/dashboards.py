"""The dashboards: what is looked at first, then each tier. ``make docs`` writes their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infra.grafana.panels import Panel, Row, dashboard

FOLDER = Path(__file__).with_name("json")
_R = 'region=~"$region"'
_RATE = "[$__rate_interval]"


def _rate(name: str, by: str, matchers: str = _R) -> str:
    return f"sum by ({by}) (rate({name}{{{matchers}}}{_RATE}))"


def _quantile(share: float, name: str, by: str = "region") -> str:
    return f"histogram_quantile({share}, sum by (le, {by}) (rate({name}_bucket{{{_R}}}{_RATE})))"


def prompts() -> dict[str, Any]:
    """The prompt plane."""
    answers = "headwater_gateway_answers_total"
    first_token = "gen_ai_server_time_to_first_token_seconds"  # noqa: S105
    rows = [
        Row(
            "Now",
            [
                Panel(
                    "Answers a second", [(f"sum({_rate(answers, 'region')})", "")], "reqps", "stat"
                ),
                Panel(
                    "Failing",
                    [(f"max(region:headwater_gateway_failures:ratio_rate5m{{{_R}}})", "")],
                    "percentunit",
                    "stat",
                    0.001,
                    "The worst region, as the alerts count it. The budget is 0.1 %.",
                ),
                Panel("Streams", [(f"sum(headwater_gateway_streams{{{_R}}})", "")], kind="stat"),
                Panel(
                    "Workers heard",
                    [(f"min(headwater_gateway_workers{{{_R}}})", "")],
                    kind="stat",
                    about="The least of any edge.",
                ),
                Panel(
                    "Limits without Redis",
                    [(f"sum(headwater_gateway_limits_degraded{{{_R}}})", "")],
                    kind="stat",
                    worse=1,
                ),
            ],
        ),
        Row(
            "Answers",
            [
                Panel("By outcome", [(_rate(answers, "outcome"), "{{outcome}}")], "reqps"),
                Panel(
                    "Refused, by reason",
                    [(_rate("headwater_gateway_refusals_total", "code"), "{{code}}")],
                    "reqps",
                ),
                Panel(
                    "Where they went, and why",
                    [
                        (
                            _rate("headwater_gateway_routes_total", "target, reason"),
                            "{{target}}: {{reason}}",
                        )
                    ],
                    "reqps",
                ),
            ],
        ),
        Row(
            "Time",
            [
                Panel(
                    "First token",
                    [
                        (_quantile(0.5, first_token), "{{region}} p50"),
                        (_quantile(0.95, first_token), "{{region}} p95"),
                    ],
                    "s",
                ),
                Panel(
                    "Each token after it",
                    [
                        (
                            _quantile(
                                0.95, "gen_ai_server_time_per_output_token_seconds", "target"
                            ),
                            "{{target}} p95",
                        )
                    ],
                    "s",
                ),
                Panel(
                    "The gateway itself, by stage",
                    [
                        (
                            _quantile(0.99, "headwater_gateway_stage_seconds", "stage"),
                            "{{stage}} p99",
                        )
                    ],
                    "s",
                    about="What an edge adds before a backend is asked.",
                ),
            ],
        ),
        Row(
            "Load",
            [
                Panel(
                    "Slots and queue",
                    [
                        (
                            f"max by (region) (headwater_gateway_workers_slots{{{_R}}})",
                            "{{region}} slots",
                        ),
                        (
                            f"max by (region) (headwater_gateway_workers_queue{{{_R}}})",
                            "{{region}} queue",
                        ),
                    ],
                ),
                Panel(
                    "Tokens a second",
                    [(_rate("headwater_gateway_tokens_total", "target"), "{{target}}")],
                ),
                Panel(
                    "Streams broken and resumed",
                    [
                        (
                            _rate("headwater_gateway_broken_streams_total", "target"),
                            "{{target}} broken",
                        ),
                        (
                            _rate("headwater_gateway_resumed_streams_total", "outcome"),
                            "{{outcome}}",
                        ),
                    ],
                    "reqps",
                ),
                Panel(
                    "Findings",
                    [
                        (
                            _rate("headwater_gateway_findings_total", "kind, action"),
                            "{{kind}} {{action}}",
                        )
                    ],
                    "reqps",
                ),
            ],
        ),
    ]
    return dashboard("headwater-prompts", "Headwater: prompts", rows)


def artifacts() -> dict[str, Any]:
    """The artifact plane and the fleet that it feeds."""
    rows = [
        Row(
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
                    [(f"min(headwater_trust_expires_timestamp_seconds{{{_R}}}) * 1000", "")],
                    "dateTimeFromNow",
                    "stat",
                ),
                Panel(
                    "Not ready",
                    [(f"count(headwater_ready{{{_R}}} == 0) or vector(0)", "")],
                    kind="stat",
                    worse=1,
                ),
                Panel(
                    "Degraded",
                    [(f"count(headwater_degraded{{{_R}}} == 1) or vector(0)", "")],
                    kind="stat",
                    worse=1,
                ),
            ],
        ),
        Row(
            "Caches",
            [
                Panel(
                    "Hits",
                    [(f"region:headwater_edge_cache_hits:ratio_rate15m{{{_R}}}", "{{region}}")],
                    "percentunit",
                ),
                Panel(
                    "Brought from above",
                    [(_rate("headwater_edge_cache_fetched_bytes_total", "region"), "{{region}}")],
                    "Bps",
                ),
                Panel(
                    "Sent",
                    [
                        (
                            _rate("headwater_edge_served_bytes_total", "kind, cache"),
                            "{{kind}} {{cache}}",
                        )
                    ],
                    "Bps",
                ),
                Panel(
                    "Used",
                    [
                        (
                            f"sum by (region) (headwater_edge_store_used_bytes{{{_R}}})",
                            "{{region}} used",
                        ),
                        (
                            f"sum by (region) (headwater_edge_store_pinned_bytes{{{_R}}})",
                            "{{region}} pinned",
                        ),
                        (
                            f"sum by (region) (headwater_edge_store_capacity_bytes{{{_R}}})",
                            "{{region}} capacity",
                        ),
                    ],
                    "bytes",
                ),
            ],
        ),
        Row(
            "Origin",
            [
                Panel(
                    "Sent by the origin",
                    [
                        (
                            f"sum by (kind) (rate(headwater_origin_served_bytes_total{_RATE}))",
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
                            "sum by (target, outcome) (rate("
                            f"headwater_origin_purges_total{_RATE}))",
                            "{{target}} {{outcome}}",
                        )
                    ],
                    "reqps",
                ),
                Panel("Rollouts", [("max by (stage) (headwater_rollouts_running)", "{{stage}}")]),
            ],
        ),
        Row(
            "Faults",
            [
                Panel(
                    "Chunks that were not what was signed",
                    [
                        (
                            _rate("headwater_edge_source_mismatches_total", "source"),
                            "{{source}}, at edges",
                        ),
                        (
                            _rate("headwater_worker_source_mismatches_total", "source"),
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
                            _rate("headwater_edge_store_store_errors_total", "region"),
                            "{{region}} writing",
                        ),
                        (
                            _rate("headwater_edge_store_read_errors_total", "region"),
                            "{{region}} reading",
                        ),
                    ],
                    "reqps",
                ),
                Panel(
                    "Sources that failed",
                    [(_rate("headwater_edge_source_failures_total", "source"), "{{source}}")],
                    "reqps",
                ),
            ],
        ),
        Row(
            "Workers",
            [
                Panel(
                    "Boots, by step",
                    [
                        (f"max by (step) (headwater_worker_boot_seconds{{{_R}}})", "{{step}}"),
                    ],
                    "s",
                ),
                Panel(
                    "Waiting for a slot",
                    [(_quantile(0.95, "headwater_worker_queue_seconds"), "{{region}} p95")],
                    "s",
                ),
                Panel(
                    "Busy slots",
                    [
                        (f"sum by (region) (headwater_worker_busy{{{_R}}})", "{{region}} busy"),
                        (f"sum by (region) (headwater_worker_slots{{{_R}}})", "{{region}} slots"),
                    ],
                ),
                Panel(
                    "Memory of processes",
                    [(f"max by (job) (process_resident_memory_bytes{{{_R}}})", "{{job}}")],
                    "bytes",
                ),
            ],
        ),
    ]
    return dashboard("headwater-artifacts", "Headwater: artifacts and fleet", rows)


DASHBOARDS: Mapping[str, dict[str, Any]] = {
    "headwater-prompts.json": prompts(),
    "headwater-artifacts.json": artifacts(),
}


def write_all(folder: Path = FOLDER) -> None:
    """Write every dashboard's JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, one in DASHBOARDS.items():
        (folder / name).write_text(json.dumps(one, indent=1) + "\n")


if __name__ == "__main__":
    write_all()
