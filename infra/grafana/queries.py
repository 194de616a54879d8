"""What the queries of all dashboards share: how they follow what was chosen, and common forms."""

from __future__ import annotations

REGION = 'region=~"$region"'
"""For what is recorded by region, whatever edges told it."""
INSTANCE = f'{REGION},instance=~"$instance"'
ORIGIN = 'instance=~"$instance"'
"""Origins belong to no region."""
EDGES = f'{INSTANCE},job=~"(headwater-)?edge"'
LAG = "headwater_event_loop_lag"
RATE = "[$__rate_interval]"


def rate(name: str, by: str, matchers: str = INSTANCE) -> str:
    """How fast a counter goes up, summed by labels."""
    return f"sum by ({by}) (rate({name}{{{matchers}}}{RATE}))"


def quantile(share: float, name: str, by: str = "region", matchers: str = INSTANCE) -> str:
    """A quantile of a histogram, by labels."""
    buckets = rate(f"{name}_bucket", f"le, {by}", matchers)
    return f"histogram_quantile({share}, {buckets})"
