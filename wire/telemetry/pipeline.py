"""Remote write as a whole: look at the metrics, spool them, send what is spooled, in order.

Two loops that only meet in the buffer: a receiver that is away does not keep the metrics from being
looked at, and a backlog is sent batch by batch, so memory holds one batch of it at a time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec, Protocol, TypeVar

import structlog

from wire.errors import HeadwaterError
from wire.http_server import guard
from wire.telemetry.buffer import Buffer
from wire.telemetry.config import TelemetryConfig
from wire.telemetry.remote_write import compress, encode_request
from wire.telemetry.samples import Sampler, Scrape, Stamps
from wire.telemetry.shipper import Shipper

_log = structlog.get_logger("telemetry")
P = ParamSpec("P")
T = TypeVar("T")
_CLOSE_S = 2.0
"""How long the last samples are tried to be sent at shutdown; the spool keeps them otherwise."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's."""

    status: int
    retry_after_s: float = 0.0
    reason: str = ""
    """What it said, where that is printable."""


class Receiver(Protocol):
    """Takes bodies of requests."""

    async def post(self, body: bytes) -> Answer:
        """Raises ``HeadwaterError``: there was no answer."""
        ...

    async def aclose(self) -> None: ...


class RemoteWrite:
    """Args:
    clock: monotonic seconds.
    wall: Unix seconds.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        sampler: Sampler,
        buffer: Buffer,
        receiver: Receiver,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.shipper = Shipper(config.backoff_s, config.max_backoff_s)
        self.stamps = Stamps(buffer.newest_ms)
        self._config = config
        self._sampler = sampler
        self._buffer = buffer
        self._receiver = receiver
        self._clock = clock
        self._wall = wall
        self._appended = asyncio.Event()
        self._rejections = 0
        self._scraping = asyncio.Lock()
        # One that hangs on a disk must not hold the threads that the tier works with.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="telemetry")

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(guard("metrics-scrape", self._scrape_for_ever()))
            tasks.create_task(guard("metrics-ship", self._ship_for_ever()))

    async def scrape(self) -> None:
        """Spool what the metrics say now."""
        async with self._scraping:
            try:
                scrape = self._sampler.take()
            except Exception:  # noqa: BLE001 - a collector's fault costs one scrape, not the tier
                _log.exception("metrics could not be read")
                return
            await self._beside(self._keep, scrape, self.stamps.next(self._wall()))
        self._appended.set()

    async def ship(self) -> bool:
        """Send the oldest batch.

        Returns:
            Whether there may be more to be sent at once.
        """
        batch = await self._beside(self._buffer.peek)
        if batch is None:
            return False
        try:
            answer = await self._receiver.post(batch.payload)
        except HeadwaterError as error:
            self._note_failure(error.message)
            self.shipper.failed(self._clock())
            return False
        before = self.shipper.failures
        verdict = self.shipper.answered(answer.status, self._clock(), answer.retry_after_s)
        if verdict == "again":
            self._note_failure(f"status {answer.status}: {answer.reason}", before)
            return False
        if before:
            _log.info("metrics are taken again", waited=before)
        if verdict == "rejected":
            self._note_rejection(answer, batch.samples)
        await self._beside(self._buffer.acknowledge, batch, verdict)
        return True

    async def aclose(self) -> None:
        """A last look, a last try; what is not taken waits for the next start."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self.scrape()
                while not self.shipper.failures and await self.ship():
                    pass
        await self._receiver.aclose()
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_S):
                await self._beside(self._buffer.close)
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _beside(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Done in the thread for the disk, in order; also where the caller is cancelled."""
        loop = asyncio.get_running_loop()
        doing = loop.run_in_executor(self._thread, partial(work, *args, **kwargs))
        return await asyncio.shield(doing)

    async def _scrape_for_ever(self) -> None:
        due_s = self._clock()
        while True:
            await self.scrape()
            # After a standstill the scrapes that were missed are not made up for.
            due_s = max(due_s + self._config.interval_s, self._clock())
            await asyncio.sleep(due_s - self._clock())

    async def _ship_for_ever(self) -> None:
        while True:
            self._appended.clear()
            while await self.ship():
                pass
            if pause_s := self.shipper.pause_s(self._clock()):
                await asyncio.sleep(pause_s)
            else:
                await self._appended.wait()

    def _keep(self, scrape: Scrape, stamp_ms: int) -> None:
        for series in scrape.batches(self._config.batch_samples):
            body = compress(encode_request(series, stamp_ms))
            self._buffer.append(body, len(series), stamp_ms)
        if scrape.over:
            self._buffer.note_dropped(scrape.over)

    def _note_failure(self, why: str, failures: int | None = None) -> None:
        if not (self.shipper.failures if failures is None else failures):
            _log.warning("metrics wait in the spool: the receiver does not take them", why=why)

    def _note_rejection(self, answer: Answer, samples: int) -> None:
        """The first one, and then ever fewer of them."""
        self._rejections += 1
        if self._rejections & (self._rejections - 1) == 0:
            _log.error(
                "the receiver refuses metrics for good",
                status=answer.status,
                why=answer.reason,
                samples=samples,
                requests=self._rejections,
            )
