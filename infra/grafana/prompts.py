"""The dashboard of the prompt plane."""

from __future__ import annotations

from typing import Any

from infra.grafana.panels import Panel, Row, dashboard
from infra.grafana.queries import EDGES, INSTANCE, LAG, REGION, quantile, rate

_ANSWERS = "headwater_gateway_answers_total"
_FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds"  # noqa: S105


def prompts() -> dict[str, Any]:
    """From what is looked at first, down."""
    rows = [_now(), _answers(), _time(), _load(), _edges()]
    return dashboard("headwater-prompts", "Headwater: prompts", rows)


def _now() -> Row:
    return Row(
        "Now",
        [
            Panel("Answers a second", [(f"sum({rate(_ANSWERS, 'region')})", "")], "reqps", "stat"),
            Panel(
                "Failing",
                [(f"max(region:headwater_gateway_failures:ratio_rate5m{{{REGION}}})", "")],
                "percentunit",
                "stat",
                0.001,
                "The worst region, as the alerts count it. The budget is 0.1 %.",
            ),
            Panel("Streams", [(f"sum(headwater_gateway_streams{{{INSTANCE}}})", "")], kind="stat"),
            Panel(
                "Workers heard",
                [(f"min(headwater_gateway_workers{{{INSTANCE}}})", "")],
                kind="stat",
                about="The least of any edge.",
            ),
            Panel(
                "Limits without Redis",
                [(f"sum(headwater_gateway_limits_degraded{{{INSTANCE}}})", "")],
                kind="stat",
                worse=1,
            ),
        ],
    )


def _answers() -> Row:
    return Row(
        "Answers",
        [
            Panel("By outcome", [(rate(_ANSWERS, "outcome"), "{{outcome}}")], "reqps"),
            Panel(
                "Refused, by reason",
                [(rate("headwater_gateway_refusals_total", "code"), "{{code}}")],
                "reqps",
            ),
            Panel(
                "Where they went, and why",
                [
                    (
                        rate("headwater_gateway_routes_total", "target, reason"),
                        "{{target}}: {{reason}}",
                    )
                ],
                "reqps",
            ),
        ],
    )


def _time() -> Row:
    return Row(
        "Time",
        [
            Panel(
                "First token",
                [
                    (quantile(0.5, _FIRST_TOKEN), "{{region}} p50"),
                    (quantile(0.95, _FIRST_TOKEN), "{{region}} p95"),
                ],
                "s",
            ),
            Panel(
                "Each token after it",
                [
                    (
                        quantile(0.95, "gen_ai_server_time_per_output_token_seconds", "target"),
                        "{{target}} p95",
                    )
                ],
                "s",
            ),
            Panel(
                "The gateway itself, by stage",
                [
                    (
                        quantile(0.99, "headwater_gateway_stage_seconds", "stage"),
                        "{{stage}} p99",
                    )
                ],
                "s",
                about="What an edge adds before a backend is asked.",
            ),
        ],
    )


def _load() -> Row:
    return Row(
        "Load",
        [
            Panel(
                "Slots and queue",
                [
                    (
                        f"max by (region) (headwater_gateway_workers_slots{{{INSTANCE}}})",
                        "{{region}} slots",
                    ),
                    (
                        f"max by (region) (headwater_gateway_workers_queue{{{INSTANCE}}})",
                        "{{region}} queue",
                    ),
                ],
            ),
            Panel(
                "Tokens a second",
                [(rate("headwater_gateway_tokens_total", "target"), "{{target}}")],
            ),
            Panel(
                "Streams broken and resumed",
                [
                    (
                        rate("headwater_gateway_broken_streams_total", "target"),
                        "{{target}} broken",
                    ),
                    (
                        rate("headwater_gateway_resumed_streams_total", "outcome"),
                        "{{outcome}}",
                    ),
                ],
                "reqps",
            ),
            Panel(
                "Findings",
                [
                    (
                        rate("headwater_gateway_findings_total", "kind, action"),
                        "{{kind}} {{action}}",
                    )
                ],
                "reqps",
            ),
        ],
    )


def _edges() -> Row:
    return Row(
        "Edges",
        [
            Panel(
                "Event loop, how late nine times of ten",
                [
                    (
                        quantile(0.9, f"{LAG}_seconds", "instance", EDGES),
                        "{{instance}}",
                    )
                ],
                "s",
                worse=0.1,
                about="Every token waits so long. Over 0.1 s the process is overloaded.",
            ),
            Panel(
                "Event loop, how late at the worst",
                [(f"max by (instance) ({LAG}_max_seconds{{{EDGES}}})", "{{instance}}")],
                "s",
                worse=1,
            ),
            Panel(
                "Age of the keys of tokens",
                [
                    (
                        "max by (instance, issuer) "
                        f"(headwater_gateway_jwks_age_seconds{{{INSTANCE}}})",
                        "{{instance}} {{issuer}}",
                    )
                ],
                "s",
                about="While all is well it falls to 0 every jwt.fetch.refresh_s.",
            ),
            Panel(
                "Files and connections, of the limit",
                [
                    (
                        f"max by (instance) (process_open_fds{{{EDGES}}} "
                        f"/ process_max_fds{{{EDGES}}})",
                        "{{instance}}",
                    )
                ],
                "percentunit",
                worse=0.8,
            ),
        ],
    )
