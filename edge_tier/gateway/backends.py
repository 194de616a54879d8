"""Backends: who generates tokens. A worker gets token ids; the cloud gets the OpenAI messages.

:class:`Backends` opens the steps of a plan in order until one answers, so a backend that is down,
full or broken before its first byte costs the client nothing but time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from edge_tier.gateway.errors import NoBackendError, UpstreamError, UpstreamRefusedError
from edge_tier.gateway.fleet import Fleet, Member
from edge_tier.gateway.models import ModelDirectory
from edge_tier.gateway.request import Plan, Prompt, Step, Tokens
from edge_tier.gateway.upstream import UpstreamConfig, UpstreamPool, UpstreamResponse
from wire.errors import HeadwaterError

_log = structlog.get_logger("backends")
_MAX_REFUSAL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudConfig:
    """An OpenAI-compatible backend. Empty ``url``: there is none."""

    url: str = ""
    """``https://host[:port][/prefix]``; requests go to ``<url>/v1/...``."""
    token_file: str = ""
    models: tuple[str, ...] = ("cloud-large",)
    """Models it serves, by the names it knows."""
    penalty_s: float = 2.0
    """After a failure nothing is sent there for so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of a backend."""

    plan: Plan
    prompt: Prompt
    as_text: Prompt
    """The same for backends that render the template themselves."""
    tokens: Tokens
    max_tokens: int


@dataclass(slots=True)
class Opened:
    """A backend that has begun to answer. Close it, whatever happens."""

    step: Step
    response: UpstreamResponse
    member: Member | None
    revision: str
    worker: str
    fallbacks: int = 0

    def close(self) -> None:
        """Stop the generation where it still runs; may be called twice."""
        self.response.close()
        if self.member is not None:
            self.member.in_flight -= 1
            self.member = None


class Cloud:
    """The cloud backend, if one is configured, and whether it may be asked now."""

    def __init__(
        self, config: CloudConfig, token: str | None, upstream: UpstreamConfig | None = None
    ) -> None:
        self._config = config
        self._failed_until = 0.0
        self.pool = UpstreamPool(config.url, token=token, config=upstream) if config.url else None

    @property
    def offered(self) -> frozenset[str]:
        """Models it is configured for."""
        return frozenset(self._config.models) if self.pool is not None else frozenset()

    def penalize(self) -> None:
        """It just failed."""
        self._failed_until = time.monotonic() + self._config.penalty_s

    @property
    def ready(self) -> frozenset[str]:
        """Models it may be asked for now: none for a moment after it failed."""
        return self.offered if time.monotonic() >= self._failed_until else frozenset()


class Backends:
    """Opens plans.

    Args:
        worker_token: what workers ask of an edge.
    """

    def __init__(
        self,
        fleet: Fleet,
        cloud: Cloud,
        models: ModelDirectory,
        *,
        worker_token: str,
        upstream: UpstreamConfig | None = None,
    ) -> None:
        self._fleet = fleet
        self._cloud = cloud
        self._models = models
        self._worker_token = worker_token
        self._upstream = upstream
        self._pools: dict[str, UpstreamPool] = {}

    async def open(self, wanted: Wanted) -> Opened:
        """Send the request to the first step that takes it; its first bytes have arrived.

        Raises:
            UpstreamRefusedError: a backend says that the request itself is at fault.
            NoBackendError: every step failed; says how.
        """
        failures: list[str] = []
        for step in wanted.plan.steps:
            tries = 2 if step.target == "worker" else 1
            avoid: set[str] = set()
            for _ in range(tries):
                try:
                    opened = await self._try(step, wanted, frozenset(avoid))
                except _StepFailedError as failure:
                    failures.append(failure.message)
                    avoid.add(failure.worker)
                    _log.warning("backend failed", target=step.target, why=failure.message)
                    continue
                opened.fallbacks = len(failures)
                return opened
        raise NoBackendError(
            f"no backend could answer: {'; '.join(failures)}", headers={"Retry-After": "1"}
        )

    async def aclose(self) -> None:
        """Close all idle connections."""
        for pool in (*self._pools.values(), *([self._cloud.pool] if self._cloud.pool else [])):
            await pool.aclose()

    async def _try(self, step: Step, wanted: Wanted, avoid: frozenset[str]) -> Opened:
        if step.target == "cloud":
            return await self._open_cloud(step, wanted)
        member = self._fleet.pick(step.model, avoid=avoid)
        if member is None:
            raise _StepFailedError(f"no worker for {step.model} is ready")
        member.in_flight += 1
        try:
            return await self._open_worker(step, member, wanted)
        except BaseException:
            member.in_flight -= 1
            raise

    async def _open_worker(self, step: Step, member: Member, wanted: Wanted) -> Opened:
        """Ask a worker; once more where it has rolled to another revision in the meantime."""
        report = member.report
        revision = report.revision
        for _ in range(2):
            body = await self._for_worker(step.model, revision, wanted)
            try:
                response = await self._send(self._pool(report.url), wanted.prompt, body)
            except _OtherRevisionError as error:
                revision = error.revision
                continue
            except UpstreamRefusedError:
                raise
            except HeadwaterError as error:
                self._fleet.penalize(member)
                raise _StepFailedError(
                    f"worker {report.worker}: {error.message}", report.worker
                ) from error
            served = response.headers.get("x-model-digest", revision)
            return Opened(step, response, member, served, report.worker)
        raise _StepFailedError(f"worker {report.worker} keeps changing revision", report.worker)

    async def _for_worker(self, model: str, revision: str, wanted: Wanted) -> dict[str, Any]:
        """The body for a worker: ids, which mean nothing but to the revision they were made for."""
        tokens, prompt = wanted.tokens, wanted.prompt
        if tokens.revision != revision:
            tokens = await (await self._models.model(model, revision)).tokenize(prompt)
        if not tokens.ids:
            return _as_text(wanted, model)
        body = _generation(prompt, model, wanted.max_tokens)
        body["revision"] = revision
        body["prompt_token_ids" if prompt.kind == "chat" else "prompt"] = tokens.ids
        return body

    async def _open_cloud(self, step: Step, wanted: Wanted) -> Opened:
        if self._cloud.pool is None:
            raise _StepFailedError("no cloud backend is configured")
        try:
            response = await self._send(
                self._cloud.pool, wanted.prompt, _as_text(wanted, step.model)
            )
        except UpstreamRefusedError:
            raise
        except HeadwaterError as error:
            self._cloud.penalize()
            raise _StepFailedError(f"cloud: {error.message}") from error
        return Opened(step, response, None, response.headers.get("x-model-digest", ""), "")

    async def _send(
        self, pool: UpstreamPool, prompt: Prompt, body: dict[str, Any]
    ) -> UpstreamResponse:
        """POST and wait for the first bytes of a good answer.

        Raises:
            UpstreamRefusedError: 400, 413 or 422: another backend would say the same.
            _OtherRevisionError: the ids are not for the revision that the worker serves now.
            UpstreamError: anything else that is no answer.
        """
        path = "/v1/chat/completions" if prompt.kind == "chat" else "/v1/completions"
        response = await pool.post(path, msgspec.json.encode(body))
        try:
            if response.status == 200:
                if not await response.first():
                    raise UpstreamError("the answer is empty")
                return response
            said = _reason(await response.read(_MAX_REFUSAL_BYTES))
            if response.status == 409 and (now := response.headers.get("x-model-digest")):
                raise _OtherRevisionError(now)
            if response.status in {400, 413, 422}:
                raise UpstreamRefusedError(said)
            raise UpstreamError(f"status {response.status}: {said}")
        except BaseException:
            response.close()
            raise

    def _pool(self, url: str) -> UpstreamPool:
        pool = self._pools.get(url)
        if pool is None:
            pool = UpstreamPool(url, token=self._worker_token, config=self._upstream)
            self._pools[url] = pool
        return pool


class _StepFailedError(Exception):
    def __init__(self, message: str, worker: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.worker = worker


class _OtherRevisionError(Exception):
    def __init__(self, revision: str) -> None:
        super().__init__(revision)
        self.revision = revision


class _ErrorDetail(msgspec.Struct, frozen=True):
    message: str = ""


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorDetail = _ErrorDetail()


def _generation(prompt: Prompt, model: str, max_tokens: int) -> dict[str, Any]:
    """The fields every backend gets: nothing but what the parser allowed."""
    body: dict[str, Any] = msgspec.to_builtins(prompt.sampling)
    if prompt.kind == "completion" and body.pop("logprobs", False):
        # The older API asks for a number of alternatives where chat has two fields.
        body["logprobs"] = body.pop("top_logprobs", 0)
    body |= {"model": model, "max_tokens": max_tokens, "stream": prompt.stream}
    if prompt.stream:
        body["stream_options"] = {"include_usage": True}
    return body


def _as_text(wanted: Wanted, model: str) -> dict[str, Any]:
    prompt = wanted.as_text
    body = _generation(prompt, model, wanted.max_tokens)
    if prompt.kind == "chat":
        body["messages"] = prompt.messages
    else:
        body["prompt"] = prompt.text
    return body


def _reason(body: bytes) -> str:
    try:
        text = msgspec.json.decode(body, type=_ErrorBody).error.message
    except msgspec.DecodeError:
        text = ""
    return "".join(c for c in text[:300] if c.isprintable()) or "no reason given"
