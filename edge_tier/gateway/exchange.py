"""One admitted request on its way to a backend and back. Settles exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from edge_tier.gateway.access_log import AccessLog
from edge_tier.gateway.answer import EventRewriter, filters, rewrite_answer, rewriter
from edge_tier.gateway.explain import explanation
from edge_tier.gateway.hybrid import Begun, Hybrid
from edge_tier.gateway.journal import Journal
from edge_tier.gateway.limits import Limiter
from edge_tier.gateway.limits_headers import rate_lines
from edge_tier.gateway.metrics import GatewayMetrics
from edge_tier.gateway.opened import Wanted
from edge_tier.gateway.pipeline import Admitted, Stopwatch
from edge_tier.gateway.relay import (
    RelayConfig,
    StreamScan,
    answer_usage,
    broken_event,
    used_tokens,
)
from edge_tier.gateway.reply import Reply
from edge_tier.gateway.resume import ResumeConfig, may_resume, workers_fault
from edge_tier.gateway.resumer import Resumer
from edge_tier.gateway.streaming import Streaming
from edge_tier.gateway.trace_attributes import of_answer
from edge_tier.gateway.tracing import RequestTrace, in_log
from edge_tier.gateway.whole import WholeAnswer
from wire.chat import Kind
from wire.errors import HeadwaterError
from wire.sse import comment

_WAITING = comment("waiting")
_ID_PREFIX: dict[Kind, str] = {"chat": "chatcmpl-", "completion": "cmpl-"}
_JSON = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeParts:
    """What all exchanges share."""

    hybrid: Hybrid
    limiter: Limiter
    metrics: GatewayMetrics
    log: AccessLog
    relay: RelayConfig
    max_answer_bytes: int
    resume: ResumeConfig = field(default_factory=ResumeConfig)


class Exchange:
    """Args:
    request_id: named in the answer and in the log.
    began: when the request was read, by ``time.perf_counter``.
    trace: finished with the answer; None: there are no traces.
    """

    __slots__ = (
        "_admitted",
        "_began",
        "_begun",
        "_blocked",
        "_explain",
        "_first_at",
        "_id",
        "_journal",
        "_outcome",
        "_parts",
        "_pinger",
        "_reply",
        "_resumer",
        "_rewrites",
        "_trace",
        "_used",
        "_wanted",
        "_watch",
    )

    def __init__(
        self,
        parts: ExchangeParts,
        admitted: Admitted,
        reply: Reply,
        watch: Stopwatch,
        *,
        request_id: str,
        began: float,
        explain: bool,
        trace: RequestTrace | None = None,
    ) -> None:
        self._parts = parts
        self._admitted = admitted
        self._reply = reply
        self._watch = watch
        self._id = request_id
        self._began = began
        self._explain = explain
        self._trace = trace
        self._begun: Begun | None = None
        self._rewrites = admitted.rewrites
        self._blocked = ""
        """The content rule that ended the answer."""
        prompt, resume = admitted.prompt, parts.resume
        self._journal: Journal | None = None
        if may_resume(prompt, resume):
            self._journal = Journal(
                self._answer_id(), int(time.time()), max_bytes=resume.journal_bytes
            )
        self._wanted = Wanted(
            plan=admitted.plan,
            prompt=prompt,
            as_text=admitted.as_text,
            tokens=admitted.tokens,
            max_tokens=admitted.max_tokens,
            features=admitted.features,
            caller=admitted.caller.key_id,
            journal=self._journal.wanted() if self._journal is not None else None,
            trace=trace,
        )
        self._resumer: Resumer | None = None
        """Made where a worker breaks off."""
        self._outcome = "failed"
        self._used = (0, 0)
        self._first_at = 0.0
        self._pinger: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Open a backend and relay its answer.

        Raises:
            HeadwaterError: nothing of an answer was sent.
        """
        stream = self._admitted.prompt.stream
        self._parts.metrics.admitted(self._watch.stages)
        if stream:
            self._ping_later()
        try:
            begun = await self._open()
            if stream:
                await self._stream(begun)
            else:
                self._answer_whole(begun, await self._whole(begun))
        except HeadwaterError as error:
            if not self._reply.started:
                raise
            self._break(error)
        except asyncio.CancelledError:
            self._outcome = "gone"
            raise
        finally:
            self._stop_pinging()
            if self._begun is not None:
                at_once = self._outcome == "whole" and self._resumer is None
                self._begun.opened.close(self._used[1] if at_once else 0)
            self._record()
            await self._parts.limiter.settle(self._admitted.reservation, *self._used)

    def _answer_id(self) -> str:
        kind: Kind = "completion" if self._admitted.prompt.kind == "completion" else "chat"
        return f"{_ID_PREFIX[kind]}{self._id[4:]}"

    async def _open(self) -> Begun:
        admitted = self._admitted
        begun = await self._parts.hybrid.open(self._wanted)
        self._begun = begun
        self._stop_pinging()
        self._watch.lap("backend")
        self._first_at = time.perf_counter()
        self._used = (len(admitted.tokens), 0)
        opened, metrics = begun.opened, self._parts.metrics
        metrics.first_token(opened.step.target, self._first_at - self._began)
        if opened.fallbacks or opened.hedged:
            metrics.passed_over(opened.fallbacks, hedged=opened.hedged)
        return begun

    async def _whole(self, begun: Begun) -> bytes:
        parts = self._parts
        whole = WholeAnswer(
            parts.hybrid.backends,
            self._wanted,
            self._answer_id(),
            max_bytes=parts.max_answer_bytes,
            max_event_bytes=parts.relay.max_event_bytes,
            max_again=parts.resume.max_resumes,
        )
        return await whole.read(begun)

    def _answer_whole(self, begun: Begun, body: bytes) -> None:
        admitted = self._admitted
        prompt_tokens, most = len(admitted.tokens), admitted.prompt.n * admitted.max_tokens
        self._used = used_tokens(prompt_tokens, answer_usage(body), most)
        if self._rewrites is not None:
            rewrites = self._rewrites
            make = filters(
                rewrites.restore,
                rewrites.output,
                shadow=rewrites.shadow,
                json_content=rewrites.json_content,
            )
            body, self._blocked = rewrite_answer(body, make)
        self._outcome = "whole"
        self._reply.whole(200, self._headers(begun) + _JSON, body)

    async def _stream(self, begun: Begun) -> None:
        reply, relay = self._reply, self._parts.relay
        scan = StreamScan(
            keep_usage=self._admitted.prompt.include_usage,
            max_event_bytes=relay.max_event_bytes,
            journal=self._journal if begun.opened.journaled else None,
        )
        changes = self._rewriter()
        streaming = Streaming(reply, relay, scan, changes)
        try:
            while not (scan.done or (scan.failed and not scan.withheld)):
                try:
                    await streaming.relay(begun, lambda: self._headers(begun))
                except HeadwaterError as error:
                    await self._go_on(begun, scan, error)
        except HeadwaterError as error:
            if not reply.started:
                raise
            self._break(error, scan.withheld)
        else:
            self._outcome = "whole" if scan.done else "broken"
            reply.end()
        finally:
            if not workers_fault(scan):
                begun.opened.counts = None
            elif self._outcome == "broken":
                begun.opened.broke = True
            self._used = used_tokens(len(self._admitted.tokens), scan.usage, scan.events)
            if changes is not None:
                self._blocked = changes.blocked

    async def _go_on(self, begun: Begun, scan: StreamScan, failure: HeadwaterError) -> None:
        """Another worker goes on. Meanwhile comments keep the client's connection alive.

        Raises:
            HeadwaterError: ``failure``, where none can.
        """
        if not self._reply.started:
            raise failure
        self._reply.release()  # a slow client is the next backend's business
        self._ping_later()
        if self._resumer is None:
            parts = self._parts
            self._resumer = Resumer(parts.hybrid.backends, self._wanted, parts.resume)
        try:
            await self._resumer.go_on(begun, scan, failure)
        finally:
            self._stop_pinging()

    def _rewriter(self) -> EventRewriter | None:
        rewrites = self._rewrites
        if rewrites is None:
            return None
        return rewriter(
            rewrites.restore,
            rewrites.output,
            shadow=rewrites.shadow,
            json_content=rewrites.json_content,
        )

    def _break(self, error: HeadwaterError, said: bytes = b"") -> None:
        """End a stream that has begun: an error event, and no ``[DONE]``.

        Args:
            said: the backend's own.
        """
        self._reply.write(said or broken_event(error))
        self._reply.end()
        self._outcome = "broken"
        if self._begun is not None:
            self._parts.metrics.broken(self._begun.opened.step.target)
        line = {"request": self._id, "why": error.message, **in_log(self._trace)}
        self._parts.log.write("warning", "stream broke", line)

    # Until the first event, comments keep the client's connection alive.

    def _ping_later(self) -> None:
        interval_s = self._parts.relay.keep_alive_s
        self._pinger = asyncio.get_running_loop().call_later(interval_s, self._ping)

    def _ping(self) -> None:
        if not self._reply.started:
            # Which backend will answer is not known yet, so these headers do not say.
            self._reply.begin(self._common_headers().encode("latin-1"))
        self._reply.write(_WAITING)
        self._ping_later()

    def _stop_pinging(self) -> None:
        if self._pinger is not None:
            self._pinger.cancel()
            self._pinger = None

    def _headers(self, begun: Begun) -> bytes:
        opened, plan = begun.opened, self._admitted.plan
        lines = (
            f"{self._common_headers()}"
            f"x-headwater-route: {opened.step.target}; model={_value(opened.step.model)}"
        )
        if plan.mode != "direct":
            lines += f"; mode={plan.mode}"
            if outcome := begun.outcome():
                lines += f"; {outcome}"
        lines += "\r\n"
        if opened.revision:
            lines += f"x-model-digest: {_value(opened.revision)}\r\n"
        if opened.worker:
            lines += f"x-headwater-worker: {_value(opened.worker)}\r\n"
        if self._explain:
            why = explanation(plan, self._admitted.complexity, begun.confidence)
            lines += f"x-headwater-plan: {why}\r\n"
            lines += f"x-headwater-tokens: {len(self._admitted.tokens)}\r\n"
        return lines.encode("latin-1")

    def _common_headers(self) -> str:
        return (
            f"x-request-id: {self._id}\r\n"
            f"Server-Timing: {self._watch.header()}\r\n"
            f"{rate_lines(self._admitted.reservation)}"
        )

    def _record(self) -> None:
        """Count the answer, and log it."""
        admitted, begun, now = self._admitted, self._begun, time.perf_counter()
        target = begun.opened.step.target if begun is not None else "none"
        metrics = self._parts.metrics
        metrics.answered(
            operation=admitted.prompt.kind,
            target=target,
            outcome=self._outcome,
            why=admitted.plan.why if begun is None or not begun.opened.fallbacks else "failed over",
            usage=self._used,
            seconds=now - self._began,
            after_first_s=now - self._first_at if self._first_at else 0.0,
        )
        if self._resumer is not None:
            for one in self._resumer.times:
                metrics.resumed(one.how)
            if self._resumer.why_not and self._journal is not None:
                metrics.resumed("not")
        if admitted.findings:
            metrics.found(Counter((f.name, f.action) for f in admitted.findings))
        if begun is not None and (outcome := begun.outcome()):
            metrics.hybrid(admitted.plan.mode, outcome)
        line = self._line(target, now)
        if self._trace is not None:
            line["trace_id"] = self._trace.trace_id
            self._finish_trace(self._trace, target)
        self._parts.log.write("info", "answered", line)

    def _finish_trace(self, trace: RequestTrace, target: str) -> None:
        """One that failed before its answer is finished by who says so to the client."""
        if not trace.sampled or self._outcome == "failed":
            return
        begun = self._begun
        name, attributes, error = of_answer(
            self._admitted,
            self._id,
            target=target,
            model=begun.opened.step.model if begun is not None else "",
            outcome=self._outcome,
            used=self._used,
            first_token_s=self._first_at - self._began if self._first_at else 0.0,
        )
        if self._resumer is not None:
            attributes["headwater.resumed"] = [one.how for one in self._resumer.times]
        if begun is not None and (outcome := begun.outcome()):
            attributes["headwater.hybrid"] = outcome
        trace.finish(name, attributes, self._watch.stages, error)

    def _line(self, target: str, now: float) -> dict[str, object]:
        admitted, begun = self._admitted, self._begun
        line: dict[str, object] = {
            "request": self._id,
            "key": admitted.caller.key_id,
            "tenant": admitted.caller.tenant,
            "target": target,
            "model": admitted.prompt.model,
            "outcome": self._outcome,
            "input_tokens": self._used[0],
            "output_tokens": self._used[1],
            "score": round(admitted.complexity.score, 3),
            "reasons": admitted.plan.reasons,
            "total_ms": round((now - self._began) * 1e3, 3),
            "timing": self._watch.header(),
        }
        if begun is not None:
            line |= {"model": begun.opened.step.model, "revision": begun.opened.revision[:12]}
            if outcome := begun.outcome():
                line |= {
                    "mode": admitted.plan.mode,
                    "hybrid": outcome,
                    "confidence": begun.confidence,
                    "local_tokens": begun.local_tokens,
                }
        if self._resumer is not None:
            line |= self._resumer.line()
        if admitted.findings:
            line["findings"] = [
                (f.name, f.part, f.start, f.end, f.action) for f in admitted.findings
            ]
        if self._blocked:
            line["blocked"] = self._blocked
        if admitted.plan.rule:
            line["rule"] = admitted.plan.rule
        if admitted.plan.shadow:
            line["shadow"] = admitted.plan.shadow
        return line


def _value(text: str) -> str:
    """What may stand in a header: printable ASCII; what a backend or a plan says is not ours."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)
