"""The route stage: which backend answers a request, and why. Pure.

A request that names a model gets that model. One that names an alias (``auto``) is routed. Hard
rules come first, and nothing overrides them: privacy, residency, regulations, what was found in the
prompt, what is there. Then the policy's decision table; where no row decides, or one leaves it to
complexity, the hint of the request, and without one complexity against a threshold. The rest of the
candidates become fallbacks, both ways, except where a rule forbids them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from edge_tier.gateway.decision_table import Facts, Table
from edge_tier.gateway.hints import NONE, Hints
from edge_tier.gateway.request import Complexity, Kind, Mode, Plan, RouteRow, Rules, Step, Target
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
    """Names that stand for no model: the edge chooses one for each request."""
    local_model: str = "edge-small"
    """What an alias means at this edge's workers."""
    cloud_model: str = "cloud-large"
    """What an alias means in the cloud."""
    threshold: float = 0.5
    """Complexity from which the cloud model is preferred, 0..1."""
    local_share: float = 0.0
    """Sets the threshold so that about this share of requests stays local; 0: ``threshold``."""
    target_quality: float = 0.0
    """Sets the threshold so that this share of the cloud's advantage is kept; 0: not."""
    mode: Mode = "direct"
    """How the two sides are combined where no row of a table says it."""
    fallback: bool = True
    """Whether the other side answers where the preferred one cannot."""
    shadow: bool = False
    """Tables are evaluated and not followed; the log says what they would have done, and what the
    other side would have been."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudTraits:
    """What decides whether a prompt may and should go to the cloud backend."""

    region: str = ""
    """Where it is; empty: not known, which is nowhere that a residency rule allows."""
    approved_for: frozenset[str] = frozenset()
    """Regulations under which prompts may go there."""
    input_price: float = 0.0
    """Per million tokens of prompts, in any currency; decision tables compare it."""
    output_price: float = 0.0
    """Per million tokens of answers."""

    def lies_in(self, region: str) -> bool:
        """Whether it is there: ``eu-west-1`` lies in ``eu``."""
        return self.region == region or self.region.startswith(f"{region}-")

    def cost(self, input_tokens: int, output_tokens: int) -> float:
        """What it charges for a request, in the currency of its prices."""
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


_UNKNOWN_CLOUD = CloudTraits()


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """What can serve now."""

    local: frozenset[str]
    """Models with a ready worker."""
    cloud: frozenset[str]
    """Models of the configured cloud backend, where it is not known to be down."""
    offered: frozenset[str]
    """Every model this edge may ever serve, ready or not."""
    traits: CloudTraits = _UNKNOWN_CLOUD


class Wish(NamedTuple):
    """What somebody prefers, before the hard rules."""

    target: Target
    reason: str
    mode: Mode = "direct"
    only: bool = False
    hedge: bool | None = None
    rule: str = ""
    why: str = "complexity"
    """As in the plan."""


_NO_TABLE = Table()


def route(
    model: str,
    complexity: Complexity,
    rules: Rules,
    fleet: FleetView,
    config: RouteConfig,
    *,
    hints: Hints = NONE,
    table: Table = _NO_TABLE,
    facts: Facts | None = None,
    private_findings: bool = False,
) -> Plan:
    """Where the request goes, in order of preference.

    Args:
        table: the policy's, compiled.
        facts: what it may look at; made by :func:`facts_of` where there is a table.
        private_findings: the sanitizer found personal data or a secret that was not masked.

    Raises:
        UnknownModelError: no such model.
        StaysLocalError: only the cloud serves it, and a rule keeps the request here.
        NoRouteError: the model is known but nothing allowed can serve it now.
    """
    why_local = why_it_stays(rules, hints, fleet.traits, private_findings=private_findings)
    if model in config.aliases:
        wish, shadow = _wish(complexity, hints, config, table, facts)
        wanted = _order(wish, config)
        reasons: tuple[str, ...] = (wish.reason,)
        why = wish.why
    elif model in fleet.offered:
        wish, shadow = None, ""
        wanted, reasons = _named(model, fleet), (f"model {model} was named",)
        why = "named"
    else:
        raise UnknownModelError(f"the model {model!r} does not exist")
    if why_local and any(step.target == "cloud" for step in wanted):
        why = "must stay local" if wanted[0].target == "cloud" else why
        wanted = [step for step in wanted if step.target == "worker"]
        reasons = (*reasons, why_local)
        if not wanted and wish is not None:
            wanted = [Step(target="worker", model=config.local_model)]
        if model in fleet.cloud and not any(_is_ready(step, fleet) for step in wanted):
            raise StaysLocalError(f"{model!r} is served by the cloud only, and {why_local}")
    ready = [step for step in wanted if _is_ready(step, fleet)]
    if not ready:
        raise NoRouteError(
            f"no backend for {model!r} is ready ({'; '.join(reasons)}); retry later",
            headers={"Retry-After": "2"},
        )
    if ready[0] is not wanted[0]:
        reasons = (*reasons, f"{wanted[0].target} {wanted[0].model} is not ready")
        why = "not ready"
    return Plan(
        steps=tuple(ready),
        reasons=reasons,
        mode=_mode(wish, ready),
        priority=hints.latency,
        hedge=wish.hedge if wish is not None else None,
        rule=wish.rule if wish is not None else "",
        shadow=shadow,
        why=why,
    )


def facts_of(
    model: str,
    tenant: str,
    rules: Rules,
    hints: Hints,
    fleet: FleetView,
    config: RouteConfig,
    *,
    complexity: float,
    kind: Kind = "chat",
    prompt_tokens: int = 0,
    total_tokens: int = 0,
    findings: frozenset[str] = frozenset(),
    private_findings: bool = False,
    budget_used: float = 0.0,
    load: float = 0.0,
    wait_s: float = 0.0,
) -> Facts:
    """What a decision table may look at."""
    traits = fleet.traits
    strict = rules.privacy == "local" or hints.privacy == "local"
    why_local = why_it_stays(rules, hints, traits, private_findings=private_findings)
    return Facts(
        kind=kind,
        model=model,
        tenant=tenant,
        latency=hints.latency,
        quality=hints.quality,
        cost=hints.cost,
        privacy="local" if strict else "any",
        residency=rules.residency or hints.residency,
        regulations=frozenset(rules.regulations),
        cloud_region=traits.region,
        cloud_ready=config.cloud_model in fleet.cloud,
        cloud_allowed=not why_local,
        local_ready=config.local_model in fleet.local,
        complexity=complexity,
        prompt_tokens=prompt_tokens,
        total_tokens=total_tokens,
        cloud_cost=traits.cost(prompt_tokens, total_tokens - prompt_tokens),
        budget_used=budget_used,
        findings=findings,
        load=load,
        wait_s=wait_s,
    )


def why_it_stays(
    rules: Rules, hints: Hints, cloud: CloudTraits, *, private_findings: bool = False
) -> str:
    """Why the prompt must not leave; empty where it may."""
    if rules.privacy == "local":
        return "policy: prompts of this key stay local"
    if hints.privacy == "local":
        return "request asks to stay local"
    for region in (rules.residency, hints.residency):
        if region and not cloud.lies_in(region):
            return f"the prompt must not leave {region}"
    missing = [name for name in rules.regulations if name not in cloud.approved_for]
    if missing:
        return f"the cloud is not approved for {', '.join(missing)}"
    if private_findings:
        return "personal data or a secret was found; it stays local"
    return ""


def _wish(
    complexity: Complexity,
    hints: Hints,
    config: RouteConfig,
    table: Table,
    facts: Facts | None,
) -> tuple[Wish, str]:
    """What is preferred; and, for the log, what would have been otherwise."""
    usual = _by_complexity(complexity, config)
    if hints.prefer is not None:
        usual = Wish(hints.prefer, f"request prefers {hints.prefer}", config.mode, why="preferred")
    row = table.decide(facts) if facts is not None and table else None
    decided = _by_row(row, usual) if row is not None else usual
    if not config.shadow:
        return decided, ""
    if row is not None:
        return usual, f"row {row.name}: {decided.target}, {decided.mode}"
    other = "worker" if usual.target == "cloud" else "cloud"
    return usual, f"other side: {other}"


def _by_complexity(complexity: Complexity, config: RouteConfig) -> Wish:
    score, threshold = complexity.score, config.threshold
    if score >= threshold:
        return Wish("cloud", f"complexity {score:.2f} >= {threshold:.2f}", config.mode)
    return Wish("worker", f"complexity {score:.2f} < {threshold:.2f}", config.mode)


def _by_row(row: RouteRow, usual: Wish) -> Wish:
    reason, target = f"row {row.name}", usual.target
    if row.target == "by_complexity":
        reason = f"{reason}: {usual.reason}"
    else:
        target = "worker" if row.target == "local" else "cloud"
    return Wish(
        target, reason, row.mode or usual.mode, row.only, row.hedge, row.name, f"row {row.name}"
    )


def _order(wish: Wish, config: RouteConfig) -> list[Step]:
    local = Step(target="worker", model=config.local_model)
    cloud = Step(target="cloud", model=config.cloud_model)
    order = [cloud, local] if wish.target == "cloud" else [local, cloud]
    return order if config.fallback and not wish.only else order[:1]


def _mode(wish: Wish | None, ready: list[Step]) -> Mode:
    """Two models make one answer only where both are there and the local one comes first."""
    if wish is None or wish.mode == "direct" or len(ready) < 2 or ready[0].target != "worker":
        return "direct"
    return wish.mode


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
