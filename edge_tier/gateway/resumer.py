"""Has another worker go on with an answer that one broke off; the rules are in ``resume``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from edge_tier.gateway.backends import Backends
from edge_tier.gateway.bodies import TOKEN_IDS
from edge_tier.gateway.errors import NoBackendError, UpstreamRefusedError
from edge_tier.gateway.hybrid import Begun
from edge_tier.gateway.journal import Journal
from edge_tier.gateway.opened import Opened, Wanted
from edge_tier.gateway.relay import StreamScan
from edge_tier.gateway.request import Step, Tokens
from edge_tier.gateway.resume import (
    ANEW,
    Manner,
    ResumeConfig,
    another_may,
    differs,
    manners,
)
from wire.chat import DONE, ChunkEncoder, Kind
from wire.errors import HeadwaterError
from wire.journal import REPLAY_DIFFERS, JournalWanted, count, id_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """One time that an answer went on. For the log."""

    how: str
    worker: str
    after: int
    """Tokens."""


class Resumer:
    """For one answer.

    Args:
        wanted: what was asked for at first.
    """

    def __init__(self, backends: Backends, wanted: Wanted, config: ResumeConfig) -> None:
        self.times: list[Resumed] = []
        self.why_not = ""
        """Why an answer that broke off did not go on; empty: it did, or did not break."""
        self._backends = backends
        self._wanted = wanted
        self._config = config
        self._avoid: frozenset[str] = frozenset()
        self._differed = False
        self._last = ""
        """What those said who were asked and could not."""

    async def go_on(self, begun: Begun, scan: StreamScan, failure: HeadwaterError) -> None:
        """Make ``begun`` the answer of somebody who goes on with it, and ``scan`` ready for that.

        Raises:
            HeadwaterError: ``failure``, where nobody can.
        """
        journal, opened = scan.journal, begun.opened
        if journal is None or not opened.prompt_ids:
            raise failure
        told = journal.ids() or ()
        if not journal.finished and count(told) > self._wanted.max_tokens:
            journal.lose("the worker told more tokens than were asked for")
        self.why_not = self._why_not(scan, journal.lost, failure)
        if self.why_not:
            raise failure
        if differs(scan) and self.times and self.times[-1].how == "replayed":
            self._differed = True
            opened.counts = None  # that its sampler gives other tokens is no fault
        else:
            self._avoid |= {opened.worker}
            self._backends.broke(opened)
        opened.close()
        if journal.finished or count(told) >= self._wanted.max_tokens:
            scan.restart()
            begun.first, begun.over = self._end(opened, scan, journal, count(told)), True
            self._note("completed", "", told)
            return
        try:
            async with asyncio.timeout(self._config.timeout_s):
                again, how = await self._reopen(opened, journal, told, begun=scan.events > 0)
        except (HeadwaterError, TimeoutError) as error:
            why = self._last or "it took too long"
            why = error.message if isinstance(error, HeadwaterError) else why
            self.why_not = f"no worker goes on: {why}"
            raise failure from error
        scan.restart()
        begun.opened, begun.feed, begun.end = again, None, None
        begun.first = (ANEW if how == "anew" else b"") + again.response.take()
        self._note(how, again.worker, told)

    def _why_not(self, scan: StreamScan, lost: str, failure: HeadwaterError) -> str:
        if not another_may(failure, scan):
            return f"another worker would say the same: {scan.fault or failure.code}"
        if lost:
            return lost
        if len(self.times) >= self._config.max_resumes:
            return f"it went on {len(self.times)} times already"
        return ""

    async def _reopen(
        self, opened: Opened, journal: Journal, told: tuple[int, ...], *, begun: bool
    ) -> tuple[Opened, Manner]:
        """Raises ``HeadwaterError``: nobody goes on."""
        filled, sure = await self._filled(opened, journal)
        sampling = self._wanted.prompt.sampling
        refused: HeadwaterError | None = None
        for manner in manners(sampling, sure=sure, differed=self._differed):
            ids = told if manner == "replayed" else filled
            told_so = msgspec.structs.replace(
                journal.wanted(), ids=ids, begun=begun, replay=manner == "replayed"
            )
            try:
                return await self._open(self._asked(opened, told_so)), manner
            except UpstreamRefusedError as error:
                refused, self._differed = error, error.why == REPLAY_DIFFERS
        assert refused is not None
        raise refused

    async def _open(self, wanted: Wanted) -> Opened:
        """Raises ``HeadwaterError``: it was refused, or nobody is there to be asked."""
        while True:
            try:
                opened = await self._backends.open(wanted)
            except NoBackendError as error:
                if not self._backends.anybody(wanted):
                    raise
                self._last = error.message
                await asyncio.sleep(self._config.retry_s)
            except UpstreamRefusedError as error:
                # Workers of one revision may differ in how much they hold.
                wanted = self._without(error.worker, wanted)
                if error.why == REPLAY_DIFFERS or not self._backends.anybody(wanted):
                    raise
            else:
                if opened.journaled:
                    return opened
                opened.close()  # it would begin the answer anew
                wanted = self._without(opened.worker, wanted)

    def _without(self, worker: str, wanted: Wanted) -> Wanted:
        return dataclasses.replace(wanted, avoid=wanted.avoid | {worker})

    def _asked(self, opened: Opened, journal: JournalWanted) -> Wanted:
        wanted, step = self._wanted, Step(target="worker", model=opened.step.model)
        tokens = Tokens(model=step.model, revision=opened.revision, ids=opened.prompt_ids)
        return dataclasses.replace(
            wanted,
            plan=msgspec.structs.replace(wanted.plan, steps=(step,), hedge=False),
            tokens=tokens,
            features=wanted.features | {TOKEN_IDS},
            logprobs_first=0,
            journal=journal,
            only=opened.revision,
            avoid=self._avoid,
        )

    async def _filled(self, opened: Opened, journal: Journal) -> tuple[tuple[int, ...], bool]:
        """The tokens that the next worker gets, and whether they are the very ones."""
        encode: Callable[[str], list[int]] = _unknown
        if journal.gaps:
            with contextlib.suppress(HeadwaterError):
                encode = await self._backends.encoder(opened.step.model, opened.revision)
        return journal.filled(encode) or ((), False)

    def _end(self, opened: Opened, scan: StreamScan, journal: Journal, tokens: int) -> bytes:
        """What a worker did not come to say of an answer that is whole."""
        kind: Kind = "completion" if self._wanted.prompt.kind == "completion" else "chat"
        encoder = ChunkEncoder(journal.id, opened.step.model, journal.created, kind)
        finish = b"" if journal.finished else id_line(()) + encoder.finish("length")
        usage = b""
        if scan.usage is None:
            tokens = min(tokens, self._wanted.max_tokens)
            usage = encoder.usage(len(opened.prompt_ids), tokens)
        return finish + usage + DONE

    def _note(self, how: str, worker: str, told: tuple[int, ...]) -> None:
        self.times.append(Resumed(how=how, worker=worker, after=count(told)))

    def line(self) -> dict[str, Any]:
        """For the access log; empty where nothing broke."""
        line: dict[str, Any] = {}
        if self.times:
            line["resumed"] = [(one.how, one.worker, one.after) for one in self.times]
        if self.why_not:
            line["not_resumed"] = self.why_not
        return line


def _unknown(_text: str) -> list[int]:
    return []
