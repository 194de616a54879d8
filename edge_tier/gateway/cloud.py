"""The cloud backend: what is configured of it, and whether it may be asked now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_tier.gateway.bodies import BOTH, CHOICES, FORMAT, LOGPROBS, TOOLS
from edge_tier.gateway.breaker import Breaker, BreakerConfig
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """An OpenAI-compatible backend. Empty ``url``: there is none."""

    url: str = ""
    """``https://host[:port][/prefix]``; requests go to ``<url>/v1/...``."""
    token_file: str = ""
    """The bearer token that the backend asks for, in a file of mode 600; empty: none is sent."""
    models: tuple[str, ...] = ("cloud-large",)
    """Models it serves, by the names it knows."""
    region: str = ""
    """Where it is, for rules of residency; empty: not known."""
    approved_for: tuple[str, ...] = ()
    """Regulations of policies under which prompts may go there, such as ``gdpr``."""
    price_per_million_input: float = 0.0
    """Of prompts' tokens, in any currency; decision tables compare it."""
    price_per_million_output: float = 0.0
    """The same of answers' tokens."""
    features: tuple[str, ...] = (TOOLS, FORMAT, BOTH, CHOICES, LOGPROBS)
    """What it can do beyond plain chat; ``embeddings`` and ``dimensions`` may be added."""
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    """When it is left alone after failures."""


class Cloud:
    """The cloud backend, if one is configured, and whether it may be asked now."""

    def __init__(
        self,
        config: CloudConfig,
        token: str | None,
        upstream: UpstreamConfig | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.breaker = Breaker(config.breaker, clock)
        self.pool = UpstreamPool(config.url, token=token, config=upstream) if config.url else None
        self.offered = frozenset(config.models) if self.pool is not None else _NOTHING
        """Models it is configured for."""
        self.features = frozenset(config.features)
        """What it can do beyond plain chat and completion."""

    @property
    def ready(self) -> frozenset[str]:
        """Models it may be asked for now: none while its breaker is open."""
        return self.offered if self.breaker.passable else _NOTHING
