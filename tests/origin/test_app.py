from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestServer
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from origin.app import PUBLISHER, build_app
from origin.keys import ONLINE_KEY
from tests.fakes.origin_home import Home, StartOrigin
from tests.fakes.publishing import flip_bit
from tests.fakes.receivers import HttpSink
from tests.fakes.revisions import Revision, chunk_of, make_revision
from tests.fakes.waiting import until
from wire.chunk import Chunk
from wire.errors import ConfigError
from wire.http_client import BlockingClient
from wire.telemetry.config import TelemetryConfig, TracesConfig

ONE = make_revision({"m.gguf": [chunk_of(1), chunk_of(2)]})
TWO = make_revision({"m.gguf": [chunk_of(1), chunk_of(3)]})
CHUNK, DATA = next(iter(ONE.chunks.items()))


async def publish(home: Home, server: TestServer, revision: Revision) -> None:
    publisher = server.app[PUBLISHER]
    await home.fill(publisher.store, revision)
    await publisher.publish(home.sign(publisher.repository, revision))
    await publisher.roll("chat", "stable", revision.id)


@pytest.fixture
async def server(home: Home, start_origin: StartOrigin) -> TestServer:
    """``stable`` on the first revision."""
    made = await start_origin()
    await publish(home, made, ONE)
    return made


async def get(
    server: TestServer, path: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(server.make_url(path), headers=headers) as answer,
    ):
        return answer.status, await answer.read()


async def raw_get(server: TestServer, target: bytes) -> bytes:
    """The answer to a request line that no client library would send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET " + target + b" HTTP/1.1\r\nHost: o\r\nConnection: close\r\n\r\n")
    try:
        return await reader.read()
    finally:
        writer.close()


async def metric(server: TestServer, name: str) -> float:
    _, text = await get(server, "/metrics")
    lines = [line for line in text.decode().splitlines() if line.startswith(name + " ")]
    return float(lines[0].split()[1])


async def test_an_origin_serves_what_was_published(server: TestServer) -> None:
    assert await get(server, f"/artifacts/manifests/{ONE.id}") == (200, ONE.data)
    assert await get(server, f"/artifacts/chunks/{CHUNK}") == (200, DATA)
    assert await get(server, f"/artifacts/files/{ONE.id}/m.gguf") == (200, ONE.files["m.gguf"])
    status, pointer = await get(server, "/artifacts/channels/chat/stable")
    assert (status, ONE.id.encode() in pointer) == (200, True)
    assert (await get(server, "/readyz"))[0] == 200


async def test_a_restart_finds_everything_again(
    home: Home, server: TestServer, start_origin: StartOrigin
) -> None:
    await server.close()
    again = await start_origin()
    assert await get(again, f"/artifacts/files/{ONE.id}/m.gguf") == (200, ONE.files["m.gguf"])
    assert again.app[PUBLISHER].repository.view.pointer("chat", "stable").revision == ONE.id


async def test_a_takedown_is_410_also_after_a_restart(
    home: Home, server: TestServer, start_origin: StartOrigin
) -> None:
    publisher = server.app[PUBLISHER]
    await publisher.purge(f"revision:{ONE.id}", hard=True)
    await publisher.purge(f"chunk:{CHUNK}", hard=True)
    again = await start_origin()
    for taken in (server, again):
        for path in (f"manifests/{ONE.id}", f"files/{ONE.id}/m.gguf", f"chunks/{CHUNK}"):
            assert (await get(taken, f"/artifacts/{path}"))[0] == 410


# Rot in the store


async def test_a_flipped_bit_is_found_counted_and_healed_by_publishing_again(
    home: Home, server: TestServer
) -> None:
    corrupt = "headwater_origin_chunks_corrupt_total"
    assert await metric(server, corrupt) == 0
    flip_bit(home.chunk_file(CHUNK))
    path = f"/artifacts/chunks/{CHUNK}"
    status, body = await get(server, path, {"Cache-Control": "no-cache"})
    assert (status, b"chunk_mismatch" in body) == (502, True)
    assert await metric(server, corrupt) == 1
    assert (await get(server, path))[0] == 404
    await home.fill(server.app[PUBLISHER].store, ONE)
    assert await get(server, path) == (200, DATA)
    assert await metric(server, corrupt) == 1


async def test_a_chunk_that_heals_with_another_size_is_served_whole(
    home: Home, server: TestServer
) -> None:
    path = f"/artifacts/chunks/{CHUNK}"
    assert await get(server, path) == (200, DATA)
    home.chunk_file(CHUNK).write_bytes(b"cut")
    assert await get(server, path) == (200, b"cut")  # whoever asked finds that out by the hash
    assert (await get(server, path, {"Cache-Control": "no-cache"}))[0] == 502
    await server.app[PUBLISHER].put_chunk(Chunk.of(DATA))
    assert await get(server, path) == (200, DATA)


# Names (threat 5)

CLIMBING = [
    b"/artifacts/chunks/../../../../etc/passwd",
    b"/artifacts/chunks/%2e%2e%2f%2e%2e%2fkeys%2fonline.key",
    b"/artifacts/chunks/..",
    b"/artifacts/chunks//etc/passwd",
    b"/artifacts/chunks/%00",
    b"/artifacts/chunks/%252e%252e",
    b"/artifacts/chunks/..%5c..",
    b"/artifacts/chunks/" + CHUNK.encode() + b"%00",
    b"/artifacts/chunks/../chunks/" + CHUNK.encode(),
    b"/artifacts/chunks/" + CHUNK.upper().encode(),
    b"/artifacts/chunks/aa/" + b"../" * 8 + CHUNK.encode(),
    b"/artifacts/manifests/../manifests/" + ONE.id.encode(),
    b"/artifacts/manifests/%2e%2e%2fmanifests%2f" + ONE.id.encode(),
    b"/artifacts/channels/../chat/stable",
    b"/artifacts/channels/%2e%2e%2fchat/stable",
    b"/artifacts/channels/chat/stable%00",
    b"/artifacts/files/" + ONE.id.encode() + b"/../../m.gguf",
    b"/artifacts/files/" + ONE.id.encode() + b"/%2e%2e/m.gguf",
    b"/artifacts/files/" + ONE.id.encode() + b"//m.gguf",
    b"/artifacts/files/" + ONE.id.encode() + b"/a%00",
    b"/artifacts/trust/..%2f..%2fkeys%2fonline.key",
    b"/artifacts/trust/..",
    b"/artifacts/trust/1.root.json%00",
]


@pytest.mark.parametrize("target", CLIMBING)
async def test_a_name_that_climbs_is_refused(server: TestServer, target: bytes) -> None:
    assert (await raw_get(server, target)).startswith(b"HTTP/1.1 400 ")


async def test_the_refusal_does_not_tell_whether_the_target_exists(
    home: Home, server: TestServer
) -> None:
    def body(answer: bytes) -> bytes:
        return answer.partition(b"\r\n\r\n")[2]

    there, nowhere = home.chunk_file(CHUNK), home.chunk_file("f" * 64)
    answers = [
        body(await raw_get(server, b"/artifacts/chunks/..%2f" + os.fsencode(path.name)))
        for path in (there, nowhere)
    ]
    assert answers[0] == answers[1]
    assert b"name_invalid" in answers[0]


async def test_a_link_in_the_store_is_no_way_out(home: Home, server: TestServer) -> None:
    secret = home.folder / "secret"
    secret.write_bytes(b"secret")
    name = "e" * 64
    home.chunk_file(name).parent.mkdir(parents=True)
    home.chunk_file(name).symlink_to(secret)
    status, body = await get(server, f"/artifacts/chunks/{name}")
    assert (status, b"secret" in body) == (404, False)


# Trust


class HttpFetcher(FetcherInterface):
    """Downloads as a stock client of The Update Framework does, one file at a time."""

    def __init__(self, url: str) -> None:
        self._client = BlockingClient(url)
        self.before: Callable[[str], None] = lambda _name: None

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.rpartition("/")[2]
        self.before(name)
        answer = self._client.get(f"/artifacts/trust/{name}", limit_bytes=1 << 20)
        if answer.status != 200:
            raise DownloadHTTPError(name, answer.status)
        yield bytes(answer.body)

    def close(self) -> None:
        self._client.close()


async def with_stock_client(
    home: Home, server: TestServer, fetcher: HttpFetcher, tmp_path: Path
) -> int:
    """Update a stock client; the length of the first revision's manifest by its own account."""

    def run() -> int:
        client = Updater(
            str(tmp_path / "tuf"), "http://origin/", fetcher=fetcher, bootstrap=home.root
        )
        client.refresh()
        info = client.get_targetinfo(f"revisions/chat/{ONE.id}.json")
        assert info is not None
        return info.length

    try:
        return await asyncio.to_thread(run)
    finally:
        fetcher.close()


async def test_a_stock_client_follows_the_role_files(
    home: Home, server: TestServer, tmp_path: Path
) -> None:
    fetcher = HttpFetcher(str(server.make_url("")))
    assert await with_stock_client(home, server, fetcher, tmp_path) == len(ONE.data)


async def test_a_stock_client_in_the_middle_of_an_update_is_not_cut_by_a_roll(
    home: Home, server: TestServer, tmp_path: Path
) -> None:
    fetcher = HttpFetcher(str(server.make_url("")))
    loop = asyncio.get_running_loop()

    def roll_once(name: str) -> None:
        if name.endswith(".snapshot.json"):
            fetcher.before = lambda _name: None
            roll = server.app[PUBLISHER].roll("chat", "beta", ONE.id)
            asyncio.run_coroutine_threadsafe(roll, loop).result(30)

    fetcher.before = roll_once
    assert await with_stock_client(home, server, fetcher, tmp_path) == len(ONE.data)


async def test_the_timestamp_is_renewed_while_the_origin_runs(
    home: Home, start_origin: StartOrigin
) -> None:
    server = await start_origin(replace(home.config, retimestamp_s=0.01))
    publisher = server.app[PUBLISHER]
    await until(lambda: publisher.repository.view.versions["timestamp"] > 3)
    await server.close()
    assert (await home.load()).view == publisher.repository.view


async def test_a_renewal_that_fails_is_tried_again(home: Home, start_origin: StartOrigin) -> None:
    quick = replace(home.config, retimestamp_s=0.01, retry_renewal_s=0.01)
    server = await start_origin(quick)
    publisher = server.app[PUBLISHER]
    trust, aside = home.store_folder / "trust", home.store_folder / "aside"
    trust.rename(aside)
    trust.write_text("in the way")
    version = publisher.repository.view.versions["timestamp"]
    assert (await get(server, "/artifacts/trust/timestamp.json"))[0] == 200
    trust.unlink()
    aside.rename(trust)
    await until(lambda: publisher.repository.view.versions["timestamp"] > version + 1)


# What cannot be started


async def spoil_key(home: Home) -> None:
    (home.config.keys_dir / ONLINE_KEY).unlink()


async def spoil_token(home: Home) -> None:
    home.config.admin_token_file.chmod(0o644)


async def spoil_trust(home: Home) -> None:
    flip_bit(home.store_folder / "trust" / "documents.json")


async def lose_trust(home: Home) -> None:
    (home.store_folder / "trust" / "documents.json").unlink()


async def spoil_store(home: Home) -> None:
    documents = home.store_folder / "trust" / "documents.json"
    documents.unlink()
    documents.symlink_to("documents.json")  # leads to itself


@pytest.mark.parametrize("spoil", [spoil_key, spoil_token, spoil_trust, lose_trust, spoil_store])
async def test_what_cannot_be_used_is_a_configuration_error(
    home: Home, spoil: Callable[[Home], Awaitable[None]]
) -> None:
    await spoil(home)
    with pytest.raises(ConfigError):
        await build_app(home.config)


async def test_an_origin_sends_its_metrics(
    home: Home, start_origin: StartOrigin, tmp_path: Path
) -> None:
    sink = HttpSink()
    async with TestServer(sink.app()) as receiver:
        telemetry = TelemetryConfig(
            remote_write_url=str(receiver.make_url("/write")), spool_dir=tmp_path / "spool"
        )
        origin = await start_origin(replace(home.config, telemetry=telemetry))
        await until(lambda: bool(sink.bodies))
        await origin.close()
    assert {"headwater_origin_chunks_corrupt_total", "headwater_fleet_nodes"} & sink.metrics


async def test_an_origin_says_that_it_has_no_traces(home: Home) -> None:
    traces = TracesConfig(endpoint="http://collector/v1/traces")
    with pytest.raises(ConfigError, match="only edges and workers"):
        await build_app(replace(home.config, telemetry=TelemetryConfig(traces=traces)))
