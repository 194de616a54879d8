from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from tests.fakes.source import MemorySource
from wire.chunk import ChunkId
from wire.http_access import IMMUTABLE
from wire.http_errors import error_middleware
from wire.http_routes import ArtifactRoutes
from wire.manifest import ChunkRef, FileEntry, build, encode
from wire.source import Delivery, PointerState, StoredChunk

PARTS = (b"a" * 1000, b"b" * 500, b"c" * 200_000)
DATA = b"".join(PARTS)
Client = TestClient[web.Request, web.Application]


class FileServer(MemorySource):
    """A MemorySource that delivers from files, like a cache does."""

    def __init__(self, folder: Path) -> None:
        super().__init__("files")
        self._folder = folder

    async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
        chunk = await self.chunk(id, revalidate=revalidate)
        path = self._folder / id
        path.write_bytes(chunk.data)
        return Delivery(StoredChunk(id, path, len(chunk)), "hit")

    def pointer_state(self, key: str) -> PointerState | None:
        return PointerState(7.9, "fwd=stale")


@pytest.fixture(params=["memory", "file"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> MemorySource:
    return FileServer(tmp_path) if request.param == "file" else MemorySource()


@pytest.fixture
def revision(server: MemorySource) -> str:
    refs = tuple(ChunkRef(server.add_chunk(part), len(part)) for part in PARTS)
    entry = FileEntry(
        path="model.gguf",
        size=len(DATA),
        sha256=hashlib.sha256(DATA).hexdigest(),
        role="weights",
        chunks=refs,
    )
    return server.add_manifest(encode(build("chat", (entry,), {})))


@pytest.fixture
async def client(server: MemorySource, executor: ThreadPoolExecutor) -> AsyncIterator[Client]:
    app = web.Application(middlewares=[error_middleware()])
    pointers = server if isinstance(server, FileServer) else None
    ArtifactRoutes(server=server, executor=executor, cache_name="edge-1", pointers=pointers).add_to(
        app
    )
    async with TestClient(TestServer(app)) as made:
        yield made


async def test_a_chunk_is_served_immutable(client: Client, server: MemorySource) -> None:
    name = server.add_chunk(b"hello" * 5000)
    answer = await client.get(f"/artifacts/chunks/{name}")
    assert await answer.read() == b"hello" * 5000
    assert answer.headers["Cache-Control"] == IMMUTABLE
    assert answer.headers["ETag"] == f'"{name}"'
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert "Content-Encoding" not in answer.headers


async def test_conditional_and_ranged_requests_of_a_chunk(
    client: Client, server: MemorySource
) -> None:
    name = server.add_chunk(bytes(range(256)))
    url = f"/artifacts/chunks/{name}"
    unchanged = await client.get(url, headers={"If-None-Match": f'"{name}"'})
    assert unchanged.status == 304
    part = await client.get(url, headers={"Range": "bytes=10-19"})
    assert (part.status, await part.read()) == (206, bytes(range(10, 20)))
    assert part.headers["Content-Range"] == "bytes 10-19/256"
    other = await client.get(url, headers={"Range": "bytes=10-19", "If-Range": '"old"'})
    assert other.status == 200
    outside = await client.get(url, headers={"Range": "bytes=256-"})
    assert outside.status == 416
    assert outside.headers["Content-Range"] == "bytes */256"


async def test_head_has_the_headers_and_no_body(client: Client, server: MemorySource) -> None:
    name = server.add_chunk(b"x" * 99)
    answer = await client.head(f"/artifacts/chunks/{name}")
    assert answer.headers["Content-Length"] == "99"
    assert await answer.read() == b""


@pytest.mark.parametrize(
    ("first", "last"), [(0, 0), (999, 1000), (990, 1510), (0, len(DATA) - 1), (1500, 150_000)]
)
async def test_a_file_is_put_together_from_its_chunks(
    client: Client, revision: str, first: int, last: int
) -> None:
    url = f"/artifacts/files/{revision}/model.gguf"
    answer = await client.get(url, headers={"Range": f"bytes={first}-{last}"})
    assert answer.status == 206
    assert await answer.read() == DATA[first : last + 1]


async def test_a_file_carries_its_digest_over_ranges(client: Client, revision: str) -> None:
    url = f"/artifacts/files/{revision}/model.gguf"
    whole = await client.get(url)
    assert await whole.read() == DATA
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    part = await client.get(url, headers={"Range": "bytes=5-9"})
    for answer in (whole, part):
        assert answer.headers["Repr-Digest"] == f"sha-256=:{digest}:"
        assert answer.headers["ETag"] == f'"{hashlib.sha256(DATA).hexdigest()}"'


async def test_a_chunk_evicted_on_its_way_out_is_sent_all_the_same(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    class Evicting(FileServer):
        async def deliver(self, id: ChunkId, *, revalidate: bool = False) -> Delivery:  # noqa: A002
            delivery = await super().deliver(id, revalidate=revalidate)
            (tmp_path / id).unlink()
            return delivery

    server = Evicting(tmp_path)
    name = server.add_chunk(b"abc" * 1000)
    app = web.Application()
    ArtifactRoutes(server=server, executor=executor).add_to(app)
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(f"/artifacts/chunks/{name}", headers={"Range": "bytes=3-8"})
        assert await answer.read() == b"abcabc"


async def test_doubt_reaches_the_server(client: Client, server: MemorySource) -> None:
    name = server.add_chunk(b"x")
    await client.get(f"/artifacts/chunks/{name}", headers={"Cache-Control": "no-cache"})
    assert server.revalidations == 1


@pytest.mark.parametrize(
    "path",
    [
        "/artifacts/chunks/xyz",
        "/artifacts/chunks/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/artifacts/manifests/main",
        "/artifacts/files/{revision}/..%2f..%2fetc%2fpasswd",
        "/artifacts/files/{revision}/a%00b",
        "/artifacts/channels/..%2fx/stable",
        "/artifacts/trust/bundle?root=-1",
    ],
)
async def test_bad_names_are_refused_before_anything_is_looked_up(
    client: Client, revision: str, server: MemorySource, path: str
) -> None:
    url = client.make_url("/").with_path("/")
    async with aiohttp.ClientSession() as session:
        target = f"http://{url.host}:{url.port}{path.format(revision=revision)}"
        answer = await session.get(URL(target, encoded=True))
        assert answer.status == 400
        assert (await answer.json(content_type=None))["code"] == "name_invalid"
    assert server.call_count == 0


async def test_what_is_missing_gone_or_rotten_says_so(client: Client, server: MemorySource) -> None:
    gone, rotten = server.add_chunk(b"gone"), server.add_chunk(b"rotten")
    server.gone.add(f"chunk:{gone}")
    server.poisoned.add(rotten)
    for name, status in ((ChunkId("0" * 64), 404), (gone, 410), (rotten, 502)):
        answer = await client.get(f"/artifacts/chunks/{name}")
        assert answer.status == status
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.content_type == "application/problem+json"


async def test_a_pointer_is_short_lived_and_tagged(client: Client, server: MemorySource) -> None:
    server.channels["chat", "stable"] = b'{"revision":"r"}'
    answer = await client.get("/artifacts/channels/chat/stable")
    assert await answer.read() == b'{"revision":"r"}'
    # "public": else no shared cache may keep the answer to an edge that asks with a token.
    assert answer.headers["Cache-Control"].startswith(
        "public, max-age=5, stale-while-revalidate=30"
    )
    assert answer.headers["Surrogate-Key"] == answer.headers["Cache-Tag"] == "channel:chat@stable"
    again = await client.get(
        "/artifacts/channels/chat/stable", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert again.status == 304


async def test_a_cache_tells_how_it_came_by_an_answer(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    server = FileServer(tmp_path)
    server.channels["chat", "stable"] = b"{}"
    name = server.add_chunk(b"x")
    app = web.Application()
    ArtifactRoutes(server=server, executor=executor, cache_name="edge-1", pointers=server).add_to(
        app
    )
    async with TestClient(TestServer(app)) as client:
        chunk = await client.get(f"/artifacts/chunks/{name}")
        pointer = await client.get("/artifacts/channels/chat/stable")
    assert chunk.headers["Cache-Status"] == "edge-1; hit"
    assert pointer.headers["Cache-Status"] == "edge-1; fwd=stale"
    assert pointer.headers["Age"] == "7"


async def test_a_takedown_is_told_to_who_has_a_copy_too(
    client: Client, server: MemorySource, revision: str
) -> None:
    """A 304 would let every cache below keep serving what was taken down."""
    name = server.add_chunk(b"x")
    server.gone |= {f"chunk:{name}", f"revision:{revision}"}
    for path in (f"chunks/{name}", f"manifests/{revision}", f"files/{revision}/model.gguf"):
        answer = await client.get(f"/artifacts/{path}", headers={"If-None-Match": "*"})
        assert answer.status == 410, path
