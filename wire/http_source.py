"""A Source over HTTP: the client half of the paths in ``wire.paths``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar

import msgspec

from wire.chunk import MAX_CHUNK_BYTES, Chunk, ChunkId
from wire.errors import (
    ChunkMismatchError,
    GoneError,
    ManifestInvalidError,
    NameInvalidError,
    NotFoundError,
    SourceUnavailableError,
    TooLargeError,
    TrustError,
    TrustExpiredError,
    UnauthorizedError,
)
from wire.http_client import BlockingClient, ClientConfig
from wire.http_connection import Abandon, Response
from wire.manifest import MAX_MANIFEST_BYTES, revision_of
from wire.paths import TRUST_BUNDLE, channel_path, chunk_path, manifest_path
from wire.threads import in_thread

T = TypeVar("T")
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
MAX_POINTER_BYTES = 16 * 1024

_BY_STATUS: dict[int, type[Exception]] = {
    400: NameInvalidError,
    401: UnauthorizedError,
    404: NotFoundError,
    410: GoneError,
}
_BY_CODE: dict[str, type[Exception]] = {
    kind.code: kind for kind in (ChunkMismatchError, TrustError, TrustExpiredError)
}


class HttpSource:
    """Another tier, reached over HTTP.

    Args:
        base_url: ``http[s]://host[:port]``.
        executor: threads that receive; as many requests run at once as it has threads.
        name: for logs and figures; the host and port where not given.
        token: a service token, where the other tier asks for one.
    """

    def __init__(
        self,
        base_url: str,
        executor: ThreadPoolExecutor,
        *,
        name: str | None = None,
        token: str | None = None,
        config: ClientConfig | None = None,
    ) -> None:
        self._client = BlockingClient(base_url, token=token, config=config)
        self._executor = executor
        self._name = name or self._client.netloc

    @property
    def name(self) -> str:
        return self._name

    async def trust_bundle(self, root_version: int) -> bytes:
        target = f"{TRUST_BUNDLE}?root={root_version}"
        return bytes(await self._run(lambda _: self._get(target, MAX_BUNDLE_BYTES).body))

    async def channel(self, model: str, channel: str) -> bytes:
        target = channel_path(model, channel)
        return bytes(await self._run(lambda _: self._get(target, MAX_POINTER_BYTES).body))

    async def manifest(self, revision: str) -> bytes:
        return await self._run(lambda _: self._manifest(revision))

    async def chunk(
        self,
        id: ChunkId,  # noqa: A002
        *,
        revalidate: bool = False,
        into: memoryview | None = None,
    ) -> Chunk:
        return await self._run(lambda abandon: self._chunk(id, revalidate, into, abandon))

    async def aclose(self) -> None:
        self._client.close()

    async def _run(self, work: Callable[[Abandon], T]) -> T:
        """Work in a thread. Where the caller is cancelled the request ends at once, and the thread
        has let go of every buffer before the caller goes on."""
        abandon = Abandon()
        return await in_thread(self._executor, lambda: work(abandon), on_cancel=abandon.abandon)

    def _manifest(self, revision: str) -> bytes:
        data = bytes(self._get(manifest_path(revision), MAX_MANIFEST_BYTES).body)
        if revision_of(data) != revision:
            raise ManifestInvalidError(f"{self._name}: manifest bytes are not {revision}")
        return data

    def _chunk(
        self, chunk: ChunkId, revalidate: bool, into: memoryview | None, abandon: Abandon
    ) -> Chunk:
        headers = {"Cache-Control": "no-cache"} if revalidate else None
        limit = MAX_CHUNK_BYTES
        return Chunk(chunk, self._get(chunk_path(chunk), limit, headers, into, abandon).body)

    def _get(
        self,
        target: str,
        limit: int,
        headers: dict[str, str] | None = None,
        into: memoryview | None = None,
        abandon: Abandon | None = None,
    ) -> Response:
        try:
            response = self._client.get(
                target, limit_bytes=limit, headers=headers, into=into, abandon=abandon
            )
        except TooLargeError as error:
            raise SourceUnavailableError(f"{self._name}: {target}: {error}") from error
        if response.status != 200:
            _raise_for(self._name, target, response)
        return response


def _raise_for(name: str, target: str, response: Response) -> NoReturn:
    """Translate an answer that is not 200 into the error that our own server meant."""
    try:
        problem = msgspec.json.decode(response.body, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem()
    kind = _BY_CODE.get(problem.code) or _BY_STATUS.get(response.status, SourceUnavailableError)
    detail = "".join(c for c in problem.detail[:200] if c.isprintable())
    raise kind(f"{name}: {target}: {response.status} {detail}".rstrip())


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    detail: str = ""
