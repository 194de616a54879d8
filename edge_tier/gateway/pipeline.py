"""The prompt pipeline: what happens to a request before a backend may see it, in order.

:meth:`Pipeline.admit` is the order; each stage is a function in a file of its own, takes values and
returns new ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec

from edge_tier.gateway.answer import TextFilter
from edge_tier.gateway.auth import Authenticator, require_model, require_scope
from edge_tier.gateway.bodies import required_features, unsupported
from edge_tier.gateway.classify import classify
from edge_tier.gateway.errors import ModelsNotReadyError
from edge_tier.gateway.fleet import Fleet
from edge_tier.gateway.limits import Limiter
from edge_tier.gateway.models import LoadedModel, ModelDirectory
from edge_tier.gateway.parse import ParseConfig, parse_chat, parse_completion, parse_embedding
from edge_tier.gateway.request import (
    Caller,
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
from edge_tier.gateway.route import FleetView, Hints, RouteConfig, route
from edge_tier.gateway.sanitize import CONTROL_LITERAL, must_not_leave, sanitize
from edge_tier.gateway.tokenize import Tokenizer
from wire.errors import RequestInvalidError


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
    as_text: Prompt
    """For backends that render the template themselves: control literals in content are broken."""
    findings: tuple[Finding, ...]
    tokens: Tokens
    complexity: Complexity
    max_tokens: int
    reservation: Reservation
    plan: Plan
    features: frozenset[str] = frozenset()
    """What a backend must be able to do."""
    output_filter: Callable[[bool], TextFilter] | None = None
    """Makes what changes the answer's texts: restores data, ends at denied content."""
    scans_output: bool = False
    """Whether every piece of the answer must be looked at, and not only placeholders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What the pipeline allows, besides each stage's own bounds."""

    default_max_tokens: int = 1_024
    """Output tokens where the client names no number."""
    parse: ParseConfig = field(default_factory=ParseConfig)
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
        cloud_features: frozenset[str] = frozenset(),
    ) -> None:
        self._config = config
        self._auth = auth
        self._limiter = limiter
        self._models = models
        self._fleet = fleet
        self._cloud_models = cloud_models
        self._cloud_features = cloud_features
        self._seen: tuple[tuple[object, ...], FleetView] | None = None

    async def admit(self, inbound: Inbound, watch: Stopwatch) -> Admitted:
        """Parse → sanitize → tokenize → classify → reserve → route; the first stage is
        :meth:`authenticate`, which comes before the body is even read.

        Raises:
            HeadwaterError: the request is refused; says by which rule. Nothing stays reserved.
        """
        caller = inbound.caller
        parsed = _PARSERS[inbound.kind](inbound.body, self._config.parse)
        watch.lap("parse")
        require_model(caller, parsed.model)
        model = await self._model(parsed.model)
        rules = Rules(
            privacy=caller.policy.privacy, personal_data=caller.policy.personal_data or "flag"
        )
        if model.tokenizer.is_long(parsed):
            clean = await asyncio.to_thread(sanitize, parsed, rules, literals=model.literals)
        else:
            clean = sanitize(parsed, rules, literals=model.literals)
        watch.lap("sanitize")
        tokens = await model.tokenize(clean.prompt)
        context = model.tokenizer.context_length
        max_tokens = self._max_tokens(clean.prompt, caller, tokens, context)
        features = required_features(clean.prompt)
        watch.lap("tokenize")
        complexity = classify(clean.prompt)
        watch.lap("classify")
        reservation = await self._limiter.reserve(caller, len(tokens) + clean.prompt.n * max_tokens)
        watch.lap("reserve")
        try:
            plan = route(
                clean.prompt.model,
                complexity,
                caller.policy,
                inbound.hints,
                self.fleet_view(),
                self._config.route,
                private_findings=must_not_leave(clean.findings, rules),
            )
            if features:
                plan = self._able(plan, features)
        except BaseException:
            await self._limiter.settle(reservation, 0)
            raise
        watch.lap("route")
        return Admitted(
            caller=caller,
            prompt=clean.prompt,
            as_text=_as_text(clean, model.tokenizer),
            findings=clean.findings,
            tokens=tokens,
            complexity=complexity,
            max_tokens=max_tokens,
            reservation=reservation,
            plan=plan,
            features=features,
        )

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
            view = FleetView(local=local, cloud=cloud_ready, offered=offered)
            self._seen = (seen, view)
        return self._seen[1]

    async def _model(self, model: str) -> LoadedModel:
        """The revision that the request will most likely meet.

        A model without an edge bundle of its own (a foreign cloud model, an alias) is measured with
        the local model's: its counts are then an estimate, and only limits use them.
        """
        channels = self._models.channels()
        name = model if model in channels else self._config.route.local_model
        revision = self._fleet.revision(name) or channels.get(name)
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


def _as_text(clean: Sanitized, tokenizer: Tokenizer) -> Prompt:
    if any(finding.name == CONTROL_LITERAL for finding in clean.findings):
        return tokenizer.neutralize(clean.prompt)
    return clean.prompt
