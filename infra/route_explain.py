"""Where an edge would send a prompt, and why: the same stages without an edge. Pure.

What only a running edge knows is assumed: which models are ready, how long the queue is, how many
tokens the prompt has. Its literals of control tokens are not looked for.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from rich.console import Console
from rich.text import Text

from edge_tier.gateway.classify import classify
from edge_tier.gateway.complexity_model import BIAS
from edge_tier.gateway.decision_table import CONDITIONS, Facts
from edge_tier.gateway.explain import explanation
from edge_tier.gateway.hints import NONE, Hints
from edge_tier.gateway.personal_data import KINDS
from edge_tier.gateway.policy_file import DEFAULT, Policy, PolicyFile
from edge_tier.gateway.request import (
    Complexity,
    Finding,
    Message,
    Plan,
    Prompt,
    Rules,
    Sanitized,
    Step,
)
from edge_tier.gateway.route import CloudTraits, FleetView, RouteConfig, facts_of, route
from edge_tier.gateway.sanitize import must_not_leave, sanitize
from edge_tier.gateway.screening import Screening
from infra.render import bar, pairs, plain, table
from wire.errors import ConfigError, HeadwaterError

_CHARS_PER_TOKEN = 4
_BAR_WIDTH = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it is imagined."""

    text: str
    model: str = "auto"
    tenant: str = ""
    policy: str = ""
    """As a key would name it; empty: the tenant's."""
    hints: Hints = NONE
    tokens: int = 0
    """Of the prompt; 0: one for every four characters."""
    max_tokens: int = 1_024
    wait_s: float = 0.0
    """How long a worker's slot is waited for."""
    load: float = 0.0
    """Requests per slot of the workers."""
    budget_used: float = 0.0
    """The part of the day's or month's tokens that is used, 0..1."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table that was tried."""

    name: str
    failed: str = ""
    """The condition that did not hold, and what was found instead; empty: the row decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """All that decided."""

    policy: str
    model: str
    complexity: Complexity
    threshold: float
    findings: tuple[Finding, ...] = ()
    rows: tuple[Row, ...] = ()
    plan: Plan | None = None
    refused: str = ""
    """Why there is no plan."""
    shadow: str = ""
    """What would be logged if the table were only watched."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        shown: dict[str, Any] = {
            "policy": self.policy,
            "model": self.model,
            "complexity": {
                "score": round(self.complexity.score, 4),
                "threshold": self.threshold,
                "contributions": self.complexity.contributions,
            },
            "findings": [msgspec.structs.asdict(finding) for finding in self.findings],
            "rows": [{"row": row.name, "failed": row.failed} for row in self.rows],
            "refused": self.refused,
            "shadow": self.shadow,
        }
        if self.plan is not None:
            shown["plan"] = msgspec.to_builtins(self.plan)
            shown["explanation"] = explanation(self.plan, self.complexity)
        return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What a running edge would know."""

    config: RouteConfig = field(default_factory=RouteConfig)
    local_ready: bool = True
    cloud_models: tuple[str, ...] = ()
    """Besides ``config.cloud_model``."""
    cloud_ready: bool = True
    cloud: CloudTraits = field(default_factory=CloudTraits)

    def fleet(self, model: str) -> FleetView:
        """A model that nothing else is known of is taken for one that workers serve."""
        cloud = frozenset({self.config.cloud_model, *self.cloud_models})
        local = frozenset({self.config.local_model})
        if model not in cloud and model not in self.config.aliases:
            local |= {model}
        return FleetView(
            local=local if self.local_ready else frozenset(),
            cloud=cloud if self.cloud_ready else frozenset(),
            offered=local | cloud,
            traits=self.cloud,
        )


def explain(asked: Asked, policies: PolicyFile, assumed: Assumed) -> Explained:
    """Send a prompt through the stages that decide.

    Raises:
        ConfigError: there is no such policy.
    """
    policy, config = _policy(asked, policies), assumed.config
    prompt = Prompt(kind="chat", model=asked.model, messages=(Message("user", asked.text),))
    clean, refused = _sanitized(prompt, policy)
    complexity = classify(clean.prompt)
    fleet = assumed.fleet(asked.model)
    facts = _facts(asked, policy.rules, clean, complexity, fleet, config)
    found = Explained(
        policy=policy.rules.name,
        model=asked.model,
        complexity=complexity,
        threshold=config.threshold,
        findings=clean.findings,
        rows=_rows(policy, facts) if asked.model in config.aliases else (),
    )
    if refused:
        return replace(found, refused=refused)

    def planned(config: RouteConfig) -> Plan:
        return route(
            asked.model,
            complexity,
            policy.rules,
            fleet,
            config,
            hints=asked.hints,
            table=policy.table,
            facts=facts,
            private_findings=must_not_leave(clean.findings, policy.rules),
        )

    try:
        shadow = planned(replace(config, shadow=True)).shadow
        return replace(found, plan=planned(config), shadow=shadow)
    except HeadwaterError as error:
        return replace(found, refused=f"{error.code}: {error.message}")


def _policy(asked: Asked, policies: PolicyFile) -> Policy:
    name = asked.policy or policies.tenants.get(asked.tenant, DEFAULT)
    policy = policies.policies.get(name)
    if policy is None:
        known = ", ".join(sorted(policies.policies))
        raise ConfigError(f"there is no policy {name!r}; known: {known}")
    return policy


def _sanitized(prompt: Prompt, policy: Policy) -> tuple[Sanitized, str]:
    """The clean prompt; or the prompt with what was found in it, and why it is refused."""
    rules, screens = policy.rules, policy.screens
    try:
        return _screened(sanitize(prompt, rules, screens=screens), rules), ""
    except HeadwaterError as error:
        refused = f"{error.code}: {error.message}"
    watched = msgspec.structs.replace(rules, shadow=True)
    try:
        return _screened(sanitize(prompt, watched, screens=screens), watched), refused
    except HeadwaterError:
        return Sanitized(prompt), refused


def _screened(clean: Sanitized, rules: Rules) -> Sanitized:
    found = Screening(0).screen(clean.prompt, rules)
    return Sanitized(clean.prompt, (*clean.findings, *found), clean.restore)


def _facts(
    asked: Asked,
    rules: Rules,
    clean: Sanitized,
    complexity: Complexity,
    fleet: FleetView,
    config: RouteConfig,
) -> Facts:
    tokens = asked.tokens or max(1, len(asked.text) // _CHARS_PER_TOKEN)
    names = frozenset(finding.name for finding in clean.findings)
    return facts_of(
        asked.model,
        asked.tenant,
        rules,
        asked.hints,
        fleet,
        config,
        complexity=complexity.score,
        prompt_tokens=tokens,
        total_tokens=tokens + asked.max_tokens,
        findings=names if names.isdisjoint(KINDS) else names | {"personal"},
        private_findings=must_not_leave(clean.findings, rules),
        budget_used=asked.budget_used,
        load=asked.load,
        wait_s=asked.wait_s,
    )


def _rows(policy: Policy, facts: Facts) -> tuple[Row, ...]:
    rows = []
    for tried in policy.table.explain(facts):
        failed = ""
        if tried.failed:
            wanted = _said(tried.row.when[tried.failed])
            found = _said(getattr(facts, CONDITIONS[tried.failed].fact))
            failed = f"{tried.failed} = {wanted}, but it is {found}"
        rows.append(Row(tried.row.name, failed))
    return tuple(rows)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple | list | frozenset):
        return ", ".join(sorted(map(str, value))) or "none"
    return str(value) or "none"


def show(found: Explained, console: Console) -> None:
    """For people."""
    score = f"{found.complexity.score:.2f}, threshold {found.threshold:.2f}"
    console.print(pairs({"policy": found.policy, "model": found.model, "complexity": score}))
    console.print(_contributions(found.complexity))
    if found.findings:
        rows = [(f.name, f.start, f.end, f.action) for f in found.findings]
        console.print(table(("found", "from", "to", "action"), rows, right="from,to"))
    if found.rows:
        rows_shown = [(row.name, row.failed or "decides") for row in found.rows]
        console.print(table(("row", "outcome"), rows_shown))
    if found.plan is None:
        console.print(f"refused: {plain(found.refused)}", style="red", markup=False)
        return
    console.print(pairs(_planned(found.plan) | {"in shadow": found.shadow or "nothing"}))


def _planned(plan: Plan) -> dict[str, object]:
    first, *rest = map(_step, plan.steps)
    shown: dict[str, object] = {"goes to": Text(plain(first), style="bold")}
    if rest:
        shown["else to"] = ", ".join(rest)
    shown |= {"mode": plan.mode, "priority": plan.priority}
    if plan.rule:
        shown["row"] = plan.rule
    return shown | {"because": "\n".join(plan.reasons)}


def _step(step: Step) -> str:
    return f"{step.target} {step.model}"


def _contributions(complexity: Complexity) -> Any:
    """What made it harder or easier, with a bar for each."""
    parts = complexity.contributions
    most = max(map(abs, parts.values()), default=0.0) or 1.0
    rows = [
        (
            "(every prompt)" if name == BIAS else name.replace("_", " "),
            f"{value:+.2f}",
            Text(bar(0.0, abs(value) / most, _BAR_WIDTH), style="red" if value > 0 else "green"),
        )
        for name, value in parts.items()
    ]
    return table(("feature", "weighs", "red: harder, green: easier"), rows, right="weighs")
