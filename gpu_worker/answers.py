"""Answers one request from whichever engine serves: slot, stream, response, and the count of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from aiohttp import web

from gpu_worker.choices import Choices, nth
from gpu_worker.engine import Engine, Generation, TokenStream
from gpu_worker.event_writer import ClientGoneError, EventWriter
from gpu_worker.metrics import WorkerMetrics
from gpu_worker.progress import Progress, Tracing
from gpu_worker.resuming import continued
from gpu_worker.serving import Serving
from gpu_worker.streaming import answer_stream, answer_whole
from wire.chat import ChunkEncoder, Kind, encode_embeddings
from wire.chat_answer import AnswerAccumulator
from wire.errors import HeadwaterError
from wire.journal import JournalWanted

_log = structlog.get_logger("worker")

DIGEST_HEADER = "x-model-digest"
_ID_PREFIX: dict[Kind, str] = {"chat": "chatcmpl-", "completion": "cmpl-"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersConfig:
    """Timing of answers."""

    ping_interval_s: float = 5.0
    """Keep-alive comments while the first token is awaited."""
    stall_timeout_s: float = 30.0
    """A client that reads nothing for so long, with our buffer full, is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A checked request: what to ask the engine, and in which form to answer."""

    generation: Generation
    kind: Kind
    stream: bool
    include_usage: bool
    choices: int = 1
    """How many answers are wanted."""
    revision: str = ""
    """The revision that token ids were made for; empty where any will do."""
    journal: JournalWanted | None = None
    """Tell the ids of the answer's tokens; and go on with an answer that another worker began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Embed:
    """A checked request for vectors."""

    texts: tuple[str, ...]
    base64: bool = False


class RevisionChangedError(HeadwaterError):
    """The prompt's token ids are for another revision; the answer says which one serves."""

    status = 409
    code = "revision_changed"


class UnsupportedError(HeadwaterError):
    """The engine that serves cannot do what is asked."""

    status = 400
    code = "unsupported_parameter"


class Answers:
    """Answers requests.

    Args:
        clock: monotonic seconds.
        wall: Unix seconds.
    """

    def __init__(
        self,
        serving: Serving,
        metrics: WorkerMetrics,
        config: AnswersConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._serving = serving
        self._metrics = metrics
        self._config = config
        self._clock = clock
        self._wall = wall

    async def respond(
        self, request: web.Request, wanted: Wanted, trace: Tracing | None = None
    ) -> web.StreamResponse:
        """Wait for a slot and answer; the slot is free again when this returns or is cancelled.

        Raises:
            HeadwaterError: nothing of an answer has been sent.
        """
        progress = Progress(self._metrics, self._clock, trace)
        try:
            with await self._serving.acquire() as lease:
                progress.queued(lease.engine)
                _check_revision(wanted, lease.engine)
                _check_features(wanted.generation, lease.engine)
                if wanted.stream:
                    return await self._streamed(request, wanted, lease.engine, progress)
                return await self._whole(wanted, lease.engine, progress)
        except HeadwaterError as error:
            progress.failed(error.code)
            raise
        except BaseException:
            # The runner cancels us when the client leaves.
            progress.failed("client_gone")
            raise

    async def embed(self, wanted: Embed, trace: Tracing | None = None) -> web.Response:
        """Wait for a slot and give vectors.

        Raises:
            HeadwaterError: there are none.
        """
        progress = Progress(self._metrics, self._clock, trace)
        try:
            with await self._serving.acquire() as lease:
                engine = lease.engine
                progress.queued(engine)
                found = await engine.embed(wanted.texts)
        except HeadwaterError as error:
            progress.failed(error.code)
            raise
        except BaseException:
            progress.failed("client_gone")
            raise
        progress.embedded()
        body = encode_embeddings(
            engine.model, found.vectors, found.prompt_tokens, base64=wanted.base64
        )
        return web.Response(body=body, content_type="application/json", headers=_headers(engine))

    async def _whole(self, wanted: Wanted, engine: Engine, progress: Progress) -> web.Response:
        answer = AnswerAccumulator(*self._naming(wanted, engine), wanted.kind)
        stream = _stream(engine, wanted)
        try:
            finish = await answer_whole(stream, answer, progress.first_token)
        finally:
            await stream.aclose()
        progress.done(finish)
        return web.Response(
            body=answer.body(), content_type="application/json", headers=_headers(engine)
        )

    async def _streamed(
        self, request: web.Request, wanted: Wanted, engine: Engine, progress: Progress
    ) -> web.StreamResponse:
        config = self._config
        writer = EventWriter(request, _headers(engine), stall_timeout_s=config.stall_timeout_s)
        stream = _stream(engine, wanted)
        try:
            finish = await answer_stream(
                stream,
                writer,
                ChunkEncoder(*self._naming(wanted, engine), wanted.kind),
                progress.first_token,
                include_usage=wanted.include_usage,
                journal=wanted.journal,
                ping_interval_s=config.ping_interval_s,
            )
        except ClientGoneError:
            progress.failed("client_gone")
        except HeadwaterError as error:
            if not writer.started:
                raise
            progress.failed(error.code)
            where = {"trace_id": progress.trace.trace_id} if progress.trace is not None else {}
            _log.warning("answer broke", code=error.code, detail=error.message, **where)
        else:
            progress.done(finish)
        finally:
            await stream.aclose()
        return writer.response

    def _naming(self, wanted: Wanted, engine: Engine) -> tuple[str, str, int]:
        """Id, model and time of creation of an answer."""
        if wanted.journal is not None:
            return wanted.journal.id, engine.model, wanted.journal.created
        return _ID_PREFIX[wanted.kind] + secrets.token_hex(12), engine.model, int(self._wall())


def _stream(engine: Engine, wanted: Wanted) -> TokenStream:
    request = wanted.generation
    if wanted.journal is not None:
        return continued(engine.stream, request, wanted.journal)
    if wanted.choices == 1:
        return engine.stream(request)
    return Choices(lambda index: engine.stream(nth(request, index)), wanted.choices)


def _check_revision(wanted: Wanted, engine: Engine) -> None:
    """Token ids mean nothing to another vocabulary, and a roll may come while a request waits."""
    if wanted.revision and wanted.revision != engine.revision:
        raise RevisionChangedError(
            f"the prompt is tokenized for {wanted.revision[:12]}; {engine.revision[:12]} serves",
            headers={DIGEST_HEADER: engine.revision},
        )


def _check_features(request: Generation, engine: Engine) -> None:
    """What an engine cannot do it may drop silently; a client must hear of it."""
    for field, feature in (("tools", "tools"), ("response_format", "json_schema")):
        if getattr(request, field) and feature not in engine.features:
            raise UnsupportedError(f"{field} is not supported by {engine.model}")


def _headers(engine: Engine) -> dict[str, str]:
    return {DIGEST_HEADER: engine.revision, "Cache-Control": "no-store"}
