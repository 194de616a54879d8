"""Configuration of rollouts: table ``[origin.rollouts]``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutConfig:
    """When a rollout goes on, and when it goes back."""

    tick_s: float = 1.0
    """How often a running rollout is looked at where no report comes in between."""
    settle_s: float = 3.0
    """How long after its start an origin does not take "nobody is there" for an answer: every edge
    has reported by then."""
    preheat_timeout_s: float = 600.0
    """After so long the roll goes on although edges are still bringing the revision."""
    preheat_begin_s: float = 20.0
    """An edge that has not begun by then is not waited for."""
    canary_start_timeout_s: float = 900.0
    """Until so long a worker of the canary must serve the revision."""
    observe_min_s: float = 60.0
    """A canary is observed at least so long ..."""
    min_requests: int = 50
    """... and for so many requests of its own ..."""
    observe_max_s: float = 900.0
    """... but no longer than this."""
    require_requests: bool = False
    """Whether a canary that saw too few requests in ``observe_max_s`` is withdrawn; if not, one in
    which nothing went wrong is promoted, and the record says so."""
    max_error_rate: float = 0.02
    """A canary may fail this share of its requests ..."""
    max_error_ratio: float = 2.0
    """... or so many times the share that the stable revision fails meanwhile."""
    min_failures: int = 3
    """So many failures end a canary before its time; fewer count at the end."""
    max_p50_ratio: float = 1.5
    """Median time to the first token, over the stable revision's."""
    max_p95_ratio: float = 2.0
    """The same for the 95th percentile."""
    first_token_slack_ms: float = 25.0
    """Differences of times below this are no difference."""
    min_compared: int = 20
    """Requests of the stable revision without which times are not compared."""
    min_compared_p95: int = 200
    """Requests of either without which the 95th percentile is not: of few, it is one bad moment."""
    stale_refusal_s: float = 10.0
    """A worker that refused the revision before the rollout began has so long to try it anew."""
    max_refused_share: float = 0.25
    """While all workers take the revision: more of them refusing it turns the roll back."""
    rolling_timeout_s: float = 1_800.0
    """After so long a roll counts as done although some workers do not serve it; they are named."""
    lease_s: float = 10.0
    """Of several origins on one store another one takes a rollout over after so long a silence."""
    save_s: float = 5.0
    """How often a rollout in which only figures changed is written down."""
    keep_rollouts: int = 20
    """Rollouts that a channel's record holds."""
    keep_moves: int = 50
    """Pointers that a channel's record holds, for the way back."""
