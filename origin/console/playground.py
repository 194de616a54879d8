"""The playground: prompts from the page to an edge, and its answers back as they come.

Edges are asked under the API key that somebody typed, which is neither kept nor logged, and only at
the URLs that this origin was configured with: what an edge reports of itself may be anybody's
address. Of requests and answers only the headers that are named here pass.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping

import aiohttp
import msgspec
from aiohttp import web

from origin.console.config import ConsoleConfig
from origin.console.state import Playground, PlaygroundEdge
from wire.errors import HeadwaterError, NotFoundError, RequestInvalidError, SourceUnavailableError
from wire.http_bodies import read_body

KEY_HEADER = "X-Headwater-Api-Key"
EDGE_HEADER = "X-Headwater-Edge"
_HINTS = tuple(
    f"x-headwater-{name}"
    for name in ("privacy", "prefer", "latency", "quality", "cost", "residency")
)
_TOLD = (
    "x-headwater-route",
    "x-headwater-worker",
    "x-headwater-plan",
    "x-headwater-tokens",
    "x-model-digest",
    "x-request-id",
    "server-timing",
    "retry-after",
)
"""Headers of an edge's answer that the page gets."""
_TYPES = frozenset({"text/event-stream", "application/json"})
"""What an answer may be; anything else is shown as text."""
_KEY = re.compile(r"[!-~]{1,512}")
_PRINTABLE = re.compile(r"[ -~]{0,2048}")
_MAX_MODELS = 256
_MAX_MODELS_BYTES = 256 * 1024
_MODELS_TIMEOUT_S = 5.0
_REASON_CHARS = 200


class TooManyChatsError(HeadwaterError):
    """As many answers of the playground as this origin relays."""

    status = 503
    code = "too_many_chats"


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: tuple[_Model, ...] = ()


class Relay:
    """Asks the configured edges. Made on the event loop; close it."""

    def __init__(self, config: ConsoleConfig) -> None:
        self._config = config
        self._edges = tuple(url.rstrip("/") for url in config.edges)
        self._chats = 0
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=config.max_chats + len(self._edges)),
            cookie_jar=aiohttp.DummyCookieJar(),
            # Compressed events would be held back; and a bomb is not our business.
            auto_decompress=False,
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def edges(self, request: web.Request) -> Playground:
        """The edges, and what each offers to the request's key.

        Raises:
            NotFoundError: there is no playground.
            RequestInvalidError: the key cannot be one.
        """
        self._require_edges()
        key = _key(request) if KEY_HEADER in request.headers else ""
        return Playground(
            edges=tuple(await asyncio.gather(*(self._edge(u, key) for u in self._edges)))
        )

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Send a prompt on, and its answer back.

        Raises:
            NotFoundError, RequestInvalidError, TooLargeError, TooManyChatsError: nothing was asked.
            SourceUnavailableError: the edge was not reached.
        """
        self._require_edges()
        url, headers = self._wanted(request)
        body = await read_body(request, self._config.max_prompt_bytes)
        if self._chats >= self._config.max_chats:
            raise TooManyChatsError(
                f"{self._chats} answers are under way (origin.console.max_chats)",
                headers={"Retry-After": "2"},
            )
        self._chats += 1
        try:
            # A page that goes away cancels this, and with it the request to the edge.
            async with self._asked(url, headers, body) as answer:
                return await self._back(request, url, answer)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise SourceUnavailableError(f"{url}: {_named(error)}") from error
        finally:
            self._chats -= 1

    def _require_edges(self) -> None:
        if not self._edges:
            raise NotFoundError(
                "there is no playground here; name the edges that it may ask in "
                'origin.console.edges, for example edges = ["http://127.0.0.1:7401"]'
            )

    def _wanted(self, request: web.Request) -> tuple[str, dict[str, str]]:
        url = request.headers.get(EDGE_HEADER, self._edges[0]).rstrip("/")
        if url not in self._edges:
            raise RequestInvalidError(
                f"{EDGE_HEADER}: not one of origin.console.edges ({', '.join(self._edges)})"
            )
        headers = {
            "Authorization": f"Bearer {_key(request)}",
            "Content-Type": "application/json",
            "Accept-Encoding": "identity",
            "X-Headwater-Explain": "1",
        }
        return url, headers | _passed(request.headers, _HINTS)

    def _asked(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> aiohttp.client._RequestContextManager:
        config = self._config
        return self._session.post(
            f"{url}/v1/chat/completions",
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=config.answer_timeout_s,
                sock_connect=config.connect_timeout_s,
                sock_read=config.silence_timeout_s,
            ),
        )

    async def _back(
        self, request: web.Request, url: str, answer: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        if 300 <= answer.status < 400:
            raise SourceUnavailableError(f"{url}: answers with a redirect ({answer.status})")
        kind = answer.content_type if answer.content_type in _TYPES else "text/plain"
        response = web.StreamResponse(
            status=answer.status,
            headers={
                "Content-Type": kind,
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
                EDGE_HEADER: url,
                **_passed(answer.headers, _TOLD),
            },
        )
        await response.prepare(request)
        left = self._config.max_answer_bytes
        try:
            async for piece in answer.content.iter_any():
                left -= len(piece)
                if left < 0:
                    break
                async with asyncio.timeout(self._config.write_timeout_s):
                    await response.write(piece)
            else:
                await response.write_eof()
                return response
        except (aiohttp.ClientError, TimeoutError):
            pass
        # The answer has begun: an end that is none is all that can be said.
        response.force_close()
        if request.transport is not None:
            request.transport.abort()
        return response

    async def _edge(self, url: str, key: str) -> PlaygroundEdge:
        if not key:
            return PlaygroundEdge(url=url)
        try:
            async with self._session.get(
                f"{url}/v1/models",
                headers={"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=_MODELS_TIMEOUT_S),
            ) as answer:
                body = await _bounded(answer)
                if answer.status != 200:
                    return PlaygroundEdge(url=url, problem=_refused(answer.status))
                models = _models(body)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return PlaygroundEdge(url=url, problem=_named(error))
        return PlaygroundEdge(url=url, models=tuple(m.id[:128] for m in models))


def _key(request: web.Request) -> str:
    key = request.headers.get(KEY_HEADER, "")
    if not _KEY.fullmatch(key):
        raise RequestInvalidError(f"{KEY_HEADER}: an API key of the edge is needed")
    return key


def _passed(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    found = {name: headers[name] for name in names if name in headers}
    return {name: value for name, value in found.items() if _PRINTABLE.fullmatch(value)}


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > _MAX_MODELS_BYTES:
            raise aiohttp.ClientPayloadError("its list of models is too long")
    return body


def _models(body: bytes) -> tuple[_Model, ...]:
    try:
        return msgspec.json.decode(body, type=_Models).data[:_MAX_MODELS]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise aiohttp.ClientPayloadError("its list of models cannot be read") from None


def _refused(status: int) -> str:
    if status == 401:
        return "it does not know this API key"
    return f"it answered {status}"


def _named(error: Exception) -> str:
    text = "no answer in time" if isinstance(error, TimeoutError) else str(error)
    return (text or type(error).__name__)[:_REASON_CHARS]
