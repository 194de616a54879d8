"""Asks an edge as any OpenAI client would, and keeps what the answer says about itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp
import msgspec

from infra.errors import AnswerError
from wire.sse import Event, EventTooLargeError, SSEDecoder

EXPLAIN = "x-headwater-explain"
CHAT_PATH = "/v1/chat/completions"
_MAX_ERROR_BYTES = 64 * 1024
_DONE = "[DONE]"
OnText = Callable[[str], None]


@dataclass(slots=True)
class Answer:
    """A streamed answer. Times in seconds from the request."""

    text: str = ""
    finish_reason: str = ""
    done: bool = False
    """``[DONE]`` came: the answer is whole."""
    events: int = 0
    usage: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case."""
    error: str = ""
    """An error event in the stream."""
    started_s: float = 0.0
    """On the monotonic clock."""
    first_token_s: float = 0.0
    total_s: float = 0.0

    @property
    def route(self) -> str:
        """``worker; model=…`` or ``cloud; model=…``."""
        return self.headers.get("x-headwater-route", "")

    @property
    def target(self) -> str:
        """``worker`` or ``cloud``."""
        return self.route.partition(";")[0]

    @property
    def plan(self) -> str:
        """Why it went there."""
        return self.headers.get("x-headwater-plan", "")

    @property
    def digest(self) -> str:
        """The revision that answered."""
        return self.headers.get("x-model-digest", "")

    @property
    def stages_ms(self) -> dict[str, float]:
        """``Server-Timing``: stage → milliseconds."""
        return parse_timing(self.headers.get("server-timing", ""))

    @property
    def whole(self) -> bool:
        """Whether nothing of it is missing."""
        return self.done and bool(self.finish_reason) and not self.error


class Asker:
    """A client of one edge. Use it as an async context.

    Args:
        url: of the edge.
        api_key: sent as bearer token; never shown.
    """

    def __init__(self, url: str, api_key: str, *, timeout_s: float = 300.0) -> None:
        self._url = url
        self._key = api_key
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=5.0)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Asker:
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {self._key}"}, timeout=self._timeout
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def ask(
        self,
        messages: Sequence[Mapping[str, str]],
        *,
        model: str = "auto",
        on_text: OnText = lambda _: None,
        headers: Mapping[str, str] | None = None,
        **fields: Any,
    ) -> Answer:
        """Stream an answer. The route's reasons are asked for.

        Args:
            on_text: told each piece of text as it comes.
            fields: further fields of the request (``max_tokens``, …).

        Raises:
            AnswerError: refused, not reachable, or broken off before its first event. What breaks
                later is in ``Answer.error``.
        """
        if self._session is None:
            raise AnswerError("the client is closed")
        body = {
            "model": model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **fields,
        }
        answer = Answer(started_s=time.monotonic())
        try:
            async with self._session.post(
                self._url + CHAT_PATH,
                data=msgspec.json.encode(body),
                headers={"Content-Type": "application/json", EXPLAIN: "1", **(headers or {})},
            ) as response:
                answer.headers = {name.lower(): value for name, value in response.headers.items()}
                if response.status != 200:
                    raise AnswerError(_refusal(response.status, await _bounded(response)))
                await _read(response, answer, on_text)
        except (aiohttp.ClientError, TimeoutError, EventTooLargeError) as error:
            why = str(error) or type(error).__name__
            if not answer.events:
                raise AnswerError(f"{self._url}: {why}") from error
            answer.error = why
        answer.total_s = time.monotonic() - answer.started_s
        return answer


def parse_timing(header: str) -> dict[str, float]:
    """``Server-Timing`` (W3C): metric → milliseconds; those without a duration are left out."""
    found: dict[str, float] = {}
    for metric in header.split(","):
        name, *parameters = (part.strip() for part in metric.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip().lower() == "dur":
                try:
                    found[name] = found.get(name, 0.0) + float(value.strip().strip('"'))
                except ValueError:
                    continue
    return found


async def _read(response: aiohttp.ClientResponse, answer: Answer, on_text: OnText) -> None:
    decoder = SSEDecoder()
    async for piece in response.content.iter_any():
        for event in decoder.feed(piece):
            text = take(answer, event)
            if text:
                if not answer.first_token_s:
                    answer.first_token_s = time.monotonic() - answer.started_s
                on_text(text)


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    delta: _Delta = _Delta()
    finish_reason: str | None = None


class _Error(msgspec.Struct, frozen=True):
    message: str = ""


class _Chunk(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    usage: dict[str, Any] | None = None
    error: _Error | None = None


_decoder = msgspec.json.Decoder(_Chunk)


def take(answer: Answer, event: Event) -> str:
    """Add an event to the answer. Returns the text in it."""
    answer.events += 1
    if event.data == _DONE:
        answer.done = True
        return ""
    try:
        chunk = _decoder.decode(event.data)
    except msgspec.DecodeError as error:
        answer.error = f"an event is not of the protocol: {error}"
        return ""
    if chunk.error is not None:
        answer.error = chunk.error.message or "the stream broke"
    answer.usage = chunk.usage or answer.usage
    text = ""
    for choice in chunk.choices[:1]:
        text = choice.delta.content or ""
        answer.finish_reason = choice.finish_reason or answer.finish_reason
    answer.text += text
    return text


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    return await response.content.read(_MAX_ERROR_BYTES)


def _refusal(status: int, body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=_Chunk).error
    except msgspec.DecodeError:
        said = None
    message = "".join(c for c in (said.message if said else "")[:500] if c.isprintable())
    return f"the edge refused ({status}): {message or 'no reason given'}"
