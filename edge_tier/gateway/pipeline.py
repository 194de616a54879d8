"""The prompt pipeline: what happens to a request before a backend may see it, in order.

:meth:`Pipeline.admit` is the order; each stage is a function in a file of its own, takes values and
returns new ones.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec

from edge_tier.gateway.auth import Authenticator, require_model, require_scope
from edge_tier.gateway.bodies import required_features, unsupported
from edge_tier.gateway.classify import (
    classify,
    threshold_for_local_share,
    threshold_for_quality,
)
from edge_tier.gateway.content import ContentScreen
from edge_tier.gateway.errors import ModelsNotReadyError
from edge_tier.gateway.fleet import Fleet, Pressure
from edge_tier.gateway.hints import Hints
from edge_tier.gateway.limits import Limiter
from edge_tier.gateway.memo import Memo
from edge_tier.gateway.models import LoadedModel, ModelDirectory
from edge_tier.gateway.parse import ParseConfig, parse_chat, parse_completion, parse_embedding
from edge_tier.gateway.personal_data import KINDS
from edge_tier.gateway.policy_book import PolicyBook
from edge_tier.gateway.policy_file import Policy as InForce
from edge_tier.gateway.request import (
    Caller,
    Charge,
    Complexity,
    Finding,
    Kind,
    Plan,
    Prompt,
    Reservation,
    Rules,
    Sanitized,
    Step,
    Tokens,
)
from edge_tier.gateway.route import CloudTraits, FleetView, RouteConfig, facts_of, route
from edge_tier.gateway.sanitize import must_not_leave, sanitize
from edge_tier.gateway.screen import ControlLiterals
from edge_tier.gateway.screening import Screening
from edge_tier.gateway.shedding import OverloadedError, Shedder, SheddingConfig
from edge_tier.gateway.tokenize import Tokenizer
from wire.errors import ConfigError, RequestInvalidError


class Stopwatch:
    """Milliseconds per stage, for ``Server-Timing`` (W3C Server Timing)."""

    __slots__ = ("_clock", "_last", "stages")

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._last = clock()
        self.stages: list[tuple[str, float]] = []

    def lap(self, stage: str) -> None:
        """The time since the last lap belongs to ``stage``."""
        now = self._clock()
        self.stages.append((stage, (now - self._last) * 1e3))
        self._last = now

    def header(self) -> str:
        """The header's value."""
        return ", ".join([f"{name};dur={ms:.3f}" for name, ms in self.stages])


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound:
    """A request as it came in."""

    kind: Kind
    caller: Caller
    body: bytes
    hints: Hints


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """A request that may go to a backend. Its reservation must be settled."""

    caller: Caller
    prompt: Prompt
    as_text: AsText
    findings: tuple[Finding, ...]
    tokens: Tokens
    complexity: Complexity
    max_tokens: int
    reservation: Reservation
    plan: Plan
    rewrites: Rewrites | None = None
    """How the answer's texts are changed; None: not at all."""
    features: frozenset[str] = frozenset()
    """What a backend must be able to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What the pipeline allows, besides each stage's own bounds."""

    default_max_tokens: int = 1_024
    """Output tokens where the client names no number."""
    parse: ParseConfig = field(default_factory=ParseConfig)
    shedding: SheddingConfig = field(default_factory=SheddingConfig)
    remembered_bytes: int = 64 * 1024 * 1024
    """Texts that are remembered as clean, so that a growing chat is not examined anew."""
    route: RouteConfig = field(default_factory=RouteConfig)


class Pipeline:
    """The stages with what they need. Holds no state of its own."""

    def __init__(
        self,
        config: PipelineConfig,
        *,
        auth: Authenticator,
        limiter: Limiter,
        models: ModelDirectory,
        fleet: Fleet,
        cloud_models: Callable[[], tuple[frozenset[str], frozenset[str]]],
        policies: PolicyBook | None = None,
        cloud_traits: CloudTraits | None = None,
        cloud_features: frozenset[str] = frozenset(),
    ) -> None:
        self._config = dataclasses.replace(config, route=with_threshold(config.route))
        self._policies = policies or PolicyBook()
        self._cloud_traits = cloud_traits or CloudTraits()
        self._memo = Memo[ControlLiterals | None](max_bytes=config.remembered_bytes)
        self._screening = Screening(config.remembered_bytes)
        self._shedders: dict[str, Shedder] = {}
        self._auth = auth
        self._limiter = limiter
        self._models = models
        self._fleet = fleet
        self._cloud_models = cloud_models
        self._cloud_features = cloud_features
        self._seen: tuple[tuple[object, ...], FleetView] | None = None

    async def admit(self, inbound: Inbound, watch: Stopwatch) -> Admitted:
        """Parse → sanitize → screen → tokenize → classify → route → reserve; the first stage is
        :meth:`authenticate`, which comes before the body is even read.

        Raises:
            HeadwaterError: the request is refused; says by which rule. Nothing stays reserved.
        """
        caller = inbound.caller
        policy = self._policies.of(caller)
        parsed = _PARSERS[inbound.kind](inbound.body, self._config.parse)
        watch.lap("parse")
        require_model(caller, parsed.model)
        model = await self._model(parsed.model, caller)
        long = model.tokenizer.is_long(parsed)
        clean = await self._sanitized(parsed, policy, model, long=long)
        watch.lap("sanitize")
        clean = await self._screened(clean, policy.rules, long=long)
        watch.lap("screen")
        tokens = await model.tokenize(clean.prompt)
        context = model.tokenizer.context_length
        max_tokens = self._max_tokens(clean.prompt, caller, tokens, context)
        features = required_features(clean.prompt)
        rewrites = self._rewrites(clean, policy.rules, model)
        watch.lap("tokenize")
        complexity = classify(clean.prompt)
        watch.lap("classify")
        size = len(tokens), max_tokens * clean.prompt.n
        plan = self._routed(inbound, policy, clean, complexity, size)
        if features:
            plan = self._able(plan, features)
        watch.lap("route")
        # Last, so that what is turned away costs its caller nothing, and so that the model's own
        # limits hold also for a request that names an alias.
        reservation = await self._limiter.reserve(caller, _charge(parsed.model, plan, size))
        watch.lap("reserve")
        return Admitted(
            caller=caller,
            prompt=clean.prompt,
            as_text=AsText(clean.prompt, model.tokenizer),
            findings=clean.findings,
            tokens=tokens,
            complexity=complexity,
            max_tokens=max_tokens,
            reservation=reservation,
            plan=plan,
            rewrites=rewrites,
            features=features,
        )

    async def _sanitized(
        self, parsed: Prompt, policy: InForce, model: LoadedModel, *, long: bool
    ) -> Sanitized:
        clean = partial(
            sanitize,
            parsed,
            policy.rules,
            literals=model.literals,
            memo=self._memo,
            screens=policy.screens,
        )
        return await asyncio.to_thread(clean) if long else clean()

    async def _screened(self, clean: Sanitized, rules: Rules, *, long: bool) -> Sanitized:
        """The same, and what looks like an attack on the model's instructions."""
        if long:
            found = await asyncio.to_thread(self._screening.screen, clean.prompt, rules)
        else:
            found = self._screening.screen(clean.prompt, rules)
        if not found:
            return clean
        return Sanitized(clean.prompt, (*clean.findings, *found), clean.restore)

    def _routed(
        self,
        inbound: Inbound,
        policy: InForce,
        clean: Sanitized,
        complexity: Complexity,
        size: tuple[int, int],
    ) -> Plan:
        """The plan, and whether the workers can take one more request like this.

        Args:
            size: tokens of the prompt, and at most of the answer.
        """
        rules, config, view = policy.rules, self._config.route, self.fleet_view()
        model = clean.prompt.model
        is_alias = model in config.aliases
        pressure = self._fleet.pressure(config.local_model if is_alias else model)
        private = must_not_leave(clean.findings, rules)
        facts = None
        if is_alias and policy.table:
            facts = facts_of(
                model,
                inbound.caller.tenant,
                rules,
                inbound.hints,
                view,
                config,
                complexity=complexity.score,
                kind=inbound.kind,
                prompt_tokens=size[0],
                total_tokens=sum(size),
                findings=_names(clean.findings),
                private_findings=private,
                budget_used=self._limiter.budget_used(inbound.caller),
                load=pressure.load,
                wait_s=pressure.wait_s,
            )
        plan = route(
            model,
            complexity,
            rules,
            view,
            config,
            hints=inbound.hints,
            table=policy.table,
            facts=facts,
            private_findings=private,
        )
        if plan.steps[0].target == "cloud":
            return plan
        return self._relieved(plan, pressure)

    def _relieved(self, plan: Plan, pressure: Pressure) -> Plan:
        """A plan for workers that are saturated: the other side first, where there is one.

        Raises:
            OverloadedError: there is none, and this request is one of those turned away.
        """
        model = plan.steps[0].model
        shedder = self._shedders.get(model)
        if shedder is None:
            shedder = self._shedders[model] = Shedder(self._config.shedding)
        try:
            shedder.check(plan.priority, pressure.load, pressure.wait_s)
        except OverloadedError:
            cloud = tuple(step for step in plan.steps if step.target == "cloud")
            if not cloud:
                raise
            reasons = (*plan.reasons, f"the workers are saturated (load {pressure.load:.1f})")
            return msgspec.structs.replace(
                plan, steps=cloud, reasons=reasons, mode="direct", why="saturated"
            )
        return plan

    def _rewrites(self, clean: Sanitized, rules: Rules, model: LoadedModel) -> Rewrites | None:
        output = self._memo.known(rules, model.literals).output
        if not clean.restore and not output:
            return None
        return Rewrites(clean.restore, output, rules.shadow, bool(clean.prompt.response_format))

    def authenticate(self, authorization: str | None, kind: Kind = "chat") -> Caller:
        """Who asks, and whether they may ask for answers of that kind at all.

        Raises:
            UnauthorizedError, ForbiddenError: no valid key, or one without the scope.
        """
        caller = self._auth.authenticate(authorization)
        require_scope(caller, "embeddings" if kind == "embedding" else "chat")
        return caller

    def fleet_view(self) -> FleetView:
        """What can serve now. The same value as before where nothing has changed."""
        cloud_offered, cloud_ready = self._cloud_models()
        channels = self._models.channels()
        seen = (self._fleet.refresh(), cloud_ready, channels)
        if self._seen is None or self._seen[0] != seen:
            local = frozenset(self._fleet.models())
            offered = local | cloud_offered | frozenset(channels)
            view = FleetView(
                local=local, cloud=cloud_ready, offered=offered, traits=self._cloud_traits
            )
            self._seen = (seen, view)
        return self._seen[1]

    async def _model(self, model: str, caller: Caller) -> LoadedModel:
        """The revision that the caller's request will most likely meet.

        A model without an edge bundle of its own (a foreign cloud model, an alias) is measured with
        the local model's: its counts are then an estimate, and only limits use them.
        """
        channels = self._models.channels()
        name = model if model in channels else self._config.route.local_model
        lane = self._models.lane(name, caller.key_id)
        revision = self._fleet.revision(name, only=lane.only, never=lane.never)
        if revision is None and lane.only:
            revision = self._fleet.revision(name, never=lane.only)
        revision = revision or channels.get(name)
        if revision is None:
            raise ModelsNotReadyError(
                f"model {name!r} is not published yet", headers={"Retry-After": "2"}
            )
        return await self._models.model(name, revision)

    def _able(self, plan: Plan, features: frozenset[str]) -> Plan:
        """The plan without the steps that cannot do what is asked.

        Raises:
            ParameterUnsupportedError: none of them can; names the parameter.
        """
        able = tuple(step for step in plan.steps if features <= self._features(step))
        if not able:
            known = [self._features(step) for step in plan.steps]
            missing = min((features - have for have in known), key=len)
            raise unsupported(plan.steps[0].model, missing or features)
        return plan if len(able) == len(plan.steps) else msgspec.structs.replace(plan, steps=able)

    def _features(self, step: Step) -> frozenset[str]:
        if step.target == "cloud":
            return self._cloud_features
        return self._fleet.features(step.model)

    def _max_tokens(self, prompt: Prompt, caller: Caller, tokens: Tokens, context: int) -> int:
        if prompt.kind == "embedding":
            return 0
        allowed = caller.limits.max_output_tokens or context
        if prompt.max_tokens is not None and prompt.max_tokens > allowed:
            raise RequestInvalidError(
                f"max_tokens {prompt.max_tokens} is over this key's limit of {allowed}"
            )
        # The engine counts exactly what is only estimated here, and refuses what does not fit.
        used = len(tokens.ids)
        room = context - used
        if room < 1:
            raise RequestInvalidError(
                f"the prompt has {used} tokens and the context {context}; shorten the prompt"
            )
        wanted = prompt.max_tokens or min(self._config.default_max_tokens, allowed)
        return min(wanted, room)


_PARSERS = {"chat": parse_chat, "completion": parse_completion, "embedding": parse_embedding}
_PERSONAL = frozenset({"personal"})


def with_threshold(config: RouteConfig) -> RouteConfig:
    """The same, with the threshold that a target asks for.

    Raises:
        ConfigError: two targets, or one that is not in 0..1.
    """
    if config.local_share and config.target_quality:
        raise ConfigError("set route.local_share or route.target_quality, not both")
    if config.local_share:
        threshold = threshold_for_local_share(config.local_share)
    elif config.target_quality:
        threshold = threshold_for_quality(config.target_quality)
    else:
        return config
    return dataclasses.replace(config, threshold=threshold)


def _charge(named: str, plan: Plan, size: tuple[int, int]) -> Charge:
    model = plan.steps[0].model
    alias = named if named != model else ""
    return Charge(model=model, alias=alias, input_tokens=size[0], output_tokens=size[1])


def _names(findings: tuple[Finding, ...]) -> frozenset[str]:
    """What was found, and ``personal`` where any of it is personal data."""
    names = frozenset(finding.name for finding in findings)
    return names if names.isdisjoint(KINDS) else names | _PERSONAL


class Rewrites(NamedTuple):
    """How an answer's texts are changed; see ``answer.filters``."""

    restore: Mapping[str, str]
    output: ContentScreen
    shadow: bool
    json_content: bool


class AsText:
    """The prompt for backends that render the template themselves, made when one is asked: control
    literals in its texts are broken."""

    __slots__ = ("_made", "_prompt", "_tokenizer")

    def __init__(self, prompt: Prompt, tokenizer: Tokenizer) -> None:
        self._prompt = prompt
        self._tokenizer = tokenizer
        self._made: Prompt | None = None

    async def __call__(self) -> Prompt:
        if self._made is None:
            prompt, tokenizer = self._prompt, self._tokenizer
            if tokenizer.is_long(prompt):
                self._made = await asyncio.to_thread(tokenizer.neutralize, prompt)
            else:
                self._made = tokenizer.neutralize(prompt)
        return self._made
