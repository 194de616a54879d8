"""One admitted request on its way to a backend and back. Settles exactly once, whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass

from edge_tier.gateway.access_log import AccessLog
from edge_tier.gateway.backends import Backends, Opened, Wanted
from edge_tier.gateway.errors import UpstreamError
from edge_tier.gateway.limits import Limiter, rate_headers
from edge_tier.gateway.metrics import GatewayMetrics
from edge_tier.gateway.pipeline import Admitted, Stopwatch
from edge_tier.gateway.relay import (
    Passthrough,
    RelayConfig,
    StreamScan,
    answer_usage,
    broken_event,
    used_tokens,
)
from edge_tier.gateway.reply import Reply
from wire.errors import HeadwaterError
from wire.sse import comment

_WAITING = comment("waiting")
_JSON = b"Content-Type: application/json\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeParts:
    """What all exchanges share."""

    backends: Backends
    limiter: Limiter
    metrics: GatewayMetrics
    log: AccessLog
    relay: RelayConfig
    max_answer_bytes: int


class Exchange:
    """Args:
    request_id: named in the answer and in the log.
    began: when the request was read, by ``time.perf_counter``.
    """

    __slots__ = (
        "_admitted",
        "_began",
        "_explain",
        "_first_at",
        "_id",
        "_opened",
        "_outcome",
        "_parts",
        "_pinger",
        "_reply",
        "_used",
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
    ) -> None:
        self._parts = parts
        self._admitted = admitted
        self._reply = reply
        self._watch = watch
        self._id = request_id
        self._began = began
        self._explain = explain
        self._opened: Opened | None = None
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
            opened = await self._open()
            if stream:
                await self._stream(opened)
            else:
                await self._whole(opened)
        except HeadwaterError as error:
            if not self._reply.started:
                raise
            self._break(error)
        except asyncio.CancelledError:
            self._outcome = "gone"
            raise
        finally:
            self._stop_pinging()
            if self._opened is not None:
                self._opened.close(self._used[1] if self._outcome == "whole" else 0)
            await self._parts.limiter.settle(self._admitted.reservation, sum(self._used))
            self._record()

    async def _open(self) -> Opened:
        admitted = self._admitted
        opened = await self._parts.backends.open(
            Wanted(
                plan=admitted.plan,
                prompt=admitted.prompt,
                as_text=admitted.as_text,
                tokens=admitted.tokens,
                max_tokens=admitted.max_tokens,
            )
        )
        self._opened = opened
        self._stop_pinging()
        self._watch.lap("backend")
        self._first_at = time.perf_counter()
        self._used = (len(admitted.tokens), 0)
        metrics = self._parts.metrics
        metrics.first_token(opened.step.target, self._first_at - self._began)
        if opened.fallbacks or opened.hedged:
            metrics.passed_over(opened.fallbacks, hedged=opened.hedged)
        return opened

    async def _whole(self, opened: Opened) -> None:
        body = await opened.response.read(self._parts.max_answer_bytes)
        prompt_tokens, most = len(self._admitted.tokens), self._admitted.max_tokens
        self._used = used_tokens(prompt_tokens, answer_usage(body), most)
        self._outcome = "whole"
        self._reply.whole(200, self._headers(opened) + _JSON, body)

    async def _stream(self, opened: Opened) -> None:
        reply, relay, response = self._reply, self._parts.relay, opened.response
        scan = StreamScan(
            keep_usage=self._admitted.prompt.include_usage, max_event_bytes=relay.max_event_bytes
        )
        try:
            first = scan.feed(response.take())
            if reply.started:
                reply.write(first)
            else:
                reply.begin(self._headers(opened), first)
            if not response.ended:
                if reply.http11 and response.spliceable and scan.at_boundary:
                    await self._splice(opened, scan)
                else:
                    await self._pump(opened, scan)
            if not scan.done and not scan.failed:
                raise UpstreamError("the backend ended its stream before the answer was whole")
        except HeadwaterError as error:
            self._break(error)
        else:
            self._outcome = "whole" if scan.done else "broken"
            reply.end()
        finally:
            self._used = used_tokens(len(self._admitted.tokens), scan.usage, scan.events)

    async def _splice(self, opened: Opened, scan: StreamScan) -> None:
        """Bytes go through as they are; see ``relay.Passthrough``."""
        response = opened.response
        send = self._reply.splicer(response, self._parts.relay.slow_readers)
        await response.splice(Passthrough(scan).sink(send, response.on_end, response.fail))

    async def _pump(self, opened: Opened, scan: StreamScan) -> None:
        reply, response, slow = self._reply, opened.response, self._parts.relay.slow_readers

        def sink(data: bytes) -> None:
            reply.write(scan.feed(data))
            reply.relieve(response, slow)

        await response.pump(sink)

    def _break(self, error: HeadwaterError) -> None:
        """End a stream that has begun: an error event, and no ``[DONE]``."""
        self._reply.write(broken_event(error))
        self._reply.end()
        self._outcome = "broken"
        if self._opened is not None:
            self._parts.metrics.broken(self._opened.step.target)
        self._parts.log.write(
            "warning", "stream broke", {"request": self._id, "why": error.message}
        )

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

    def _headers(self, opened: Opened) -> bytes:
        lines = (
            f"{self._common_headers()}"
            f"x-headwater-route: {opened.step.target}; model={opened.step.model}\r\n"
        )
        if opened.revision:
            lines += f"x-model-digest: {_value(opened.revision)}\r\n"
        if opened.worker:
            lines += f"x-headwater-worker: {_value(opened.worker)}\r\n"
        if self._explain:
            reasons = "; ".join(self._admitted.plan.reasons)
            lines += f"x-headwater-plan: {_value(reasons)}\r\n"
            lines += f"x-headwater-tokens: {len(self._admitted.tokens)}\r\n"
        return lines.encode("latin-1")

    def _common_headers(self) -> str:
        limits = rate_headers(self._admitted.reservation)
        lines = "".join([f"{name}: {value}\r\n" for name, value in limits.items()])
        return f"x-request-id: {self._id}\r\nServer-Timing: {self._watch.header()}\r\n{lines}"

    def _record(self) -> None:
        """Count the answer, and log it."""
        admitted, opened, now = self._admitted, self._opened, time.perf_counter()
        target = opened.step.target if opened is not None else "none"
        parts = self._parts
        parts.metrics.answered(
            operation=admitted.prompt.kind,
            target=target,
            outcome=self._outcome,
            usage=self._used,
            seconds=now - self._began,
            after_first_s=now - self._first_at if self._first_at else 0.0,
        )
        if admitted.findings:
            parts.metrics.found(Counter((f.name, f.action) for f in admitted.findings))
        parts.log.write("info", "answered", self._line(target, now))

    def _line(self, target: str, now: float) -> dict[str, object]:
        admitted, opened = self._admitted, self._opened
        line: dict[str, object] = {
            "request": self._id,
            "key": admitted.caller.key_id,
            "tenant": admitted.caller.tenant,
            "target": target,
            "model": opened.step.model if opened is not None else admitted.prompt.model,
            "revision": opened.revision[:12] if opened is not None else "",
            "outcome": self._outcome,
            "input_tokens": self._used[0],
            "output_tokens": self._used[1],
            "score": round(admitted.complexity.score, 3),
            "reasons": admitted.plan.reasons,
            "total_ms": round((now - self._began) * 1e3, 3),
            "timing": self._watch.header(),
        }
        if admitted.findings:
            line["findings"] = sorted({finding.name for finding in admitted.findings})
        if admitted.plan.shadow:
            line["shadow"] = admitted.plan.shadow
        return line


def _value(text: str) -> str:
    """What may stand in a header: printable ASCII; what a backend or a plan says is not ours."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)
