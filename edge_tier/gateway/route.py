"""The route stage: which backend answers a request, and why. Pure.

A request that names a model gets that model. One that names an alias (``auto``) is routed: hard
rules first (privacy, what is there), then complexity against a threshold.
The rest of the candidates become fallbacks, both ways, except where a rule forbids them.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_tier.gateway.request import Complexity, Plan, Policy, Privacy, Step, Target
from wire.errors import HeadwaterError


class NoRouteError(HeadwaterError):
    """Nothing that the rules allow can serve this request now."""

    status = 503
    code = "no_route"


class UnknownModelError(HeadwaterError):
    """The named model is not offered here."""

    status = 404
    code = "model_not_found"


class StaysLocalError(HeadwaterError):
    """The request asks for the cloud, but a rule keeps it here."""

    status = 400
    code = "must_stay_local"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteConfig:
    """How aliases are routed."""

    aliases: tuple[str, ...] = ("auto",)
    local_model: str = "edge-small"
    cloud_model: str = "cloud-large"
    threshold: float = 0.5
    """Complexity from which the cloud model is preferred, 0..1."""
    fallback: bool = True
    """Whether the other side answers where the preferred one cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """What can serve now."""

    local: frozenset[str]
    """Models with a ready worker."""
    cloud: frozenset[str]
    """Models of the configured cloud backend, where it is not known to be down."""
    offered: frozenset[str]
    """Every model this edge may ever serve, ready or not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """What the request itself asks of routing (``x-headwater-*`` headers)."""

    privacy: Privacy | None = None
    prefer: Target | None = None


def route(
    model: str,
    complexity: Complexity,
    policy: Policy,
    hints: Hints,
    fleet: FleetView,
    config: RouteConfig,
    *,
    private_findings: bool = False,
) -> Plan:
    """Where the request goes, in order of preference.

    Args:
        private_findings: the sanitizer found personal data or a secret that was not masked.

    Raises:
        UnknownModelError: no such model.
        StaysLocalError: only the cloud serves it, and a rule keeps the request here.
        NoRouteError: the model is known but nothing allowed can serve it now.
    """
    keep_local, why = _must_stay(policy, hints, private_findings=private_findings)
    if model in config.aliases:
        preferred, reasons = _prefer(complexity, hints, config)
        wanted = _order(preferred, config)
    elif model in fleet.offered:
        wanted, reasons = _named(model, fleet), [f"model {model} was named"]
    else:
        raise UnknownModelError(f"the model {model!r} does not exist")
    if keep_local and any(step.target == "cloud" for step in wanted):
        wanted = [step for step in wanted if step.target == "worker"]
        reasons.append(why)
        if not any(_is_ready(step, fleet) for step in wanted) and model in fleet.cloud:
            raise StaysLocalError(f"{model!r} is served by the cloud only, and {why}")
    ready = [step for step in wanted if _is_ready(step, fleet)]
    if not ready:
        raise NoRouteError(
            f"no backend for {model!r} is ready ({'; '.join(reasons)}); retry later",
            headers={"Retry-After": "2"},
        )
    if ready[0] != wanted[0]:
        reasons.append(f"{wanted[0].target} {wanted[0].model} is not ready")
    return Plan(steps=tuple(ready), reasons=tuple(reasons))


def _must_stay(policy: Policy, hints: Hints, *, private_findings: bool) -> tuple[bool, str]:
    if policy.privacy == "local":
        return True, "policy: prompts of this key stay local"
    if hints.privacy == "local":
        return True, "request asks to stay local"
    if private_findings:
        return True, "personal data or a secret was found; it stays local"
    return False, ""


def _prefer(complexity: Complexity, hints: Hints, config: RouteConfig) -> tuple[Target, list[str]]:
    if hints.prefer is not None:
        return hints.prefer, [f"request prefers {hints.prefer}"]
    score, threshold = complexity.score, config.threshold
    if score >= threshold:
        return "cloud", [f"complexity {score:.2f} >= {threshold:.2f}"]
    return "worker", [f"complexity {score:.2f} < {threshold:.2f}"]


def _order(preferred: Target, config: RouteConfig) -> list[Step]:
    local = Step(target="worker", model=config.local_model)
    cloud = Step(target="cloud", model=config.cloud_model)
    order = [cloud, local] if preferred == "cloud" else [local, cloud]
    return order if config.fallback else order[:1]


def _named(model: str, fleet: FleetView) -> list[Step]:
    """A named model may have both kinds of backends; workers are nearer."""
    steps = [Step(target="worker", model=model)]
    if model in fleet.cloud:
        steps.append(Step(target="cloud", model=model))
        if model not in fleet.local:
            steps.reverse()
    return steps


def _is_ready(step: Step, fleet: FleetView) -> bool:
    return step.model in (fleet.local if step.target == "worker" else fleet.cloud)
