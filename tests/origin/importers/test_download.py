"""Downloads by URL over real TLS: where the connection goes, and what survives a break."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from origin.errors import ImportRefusedError, PublishError
from origin.importers.download import Downloader, Resolve, resolve
from origin.importers.transfer import FetchLimits
from tests.fakes.tls_server import NAME, Asked, TlsServer, ranged, redirect, tls_server, whole
from wire.errors import NotFoundError, SourceUnavailableError, TooLargeError

CONTENT = bytes(range(256)) * 4_000
ETAG = '"one"'
OPEN = FetchLimits(max_bytes=2_000_000, allow_private_network=True, any_port=True, idle_s=5)


def here(_host: str, _port: int) -> Sequence[str]:
    return ["127.0.0.1"]


@contextmanager
def served(
    tmp_path: Path, *answers: Callable[[Asked], Iterator[bytes]] | bytes
) -> Iterator[TlsServer]:
    """Answers one after the other, and the last one again and again."""
    left = list(answers)

    def answer(asked: Asked) -> Iterator[bytes]:
        made = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(made, bytes):
            yield made
        else:
            yield from made(asked)

    with tls_server(tmp_path, answer) as server:
        yield server


def fetch(
    server: TlsServer, file: Path, *, limits: FetchLimits = OPEN, look_up: Resolve = here
) -> list[tuple[str, int, int]]:
    steps: list[tuple[str, int, int]] = []
    downloader = Downloader(
        limits=limits, resolve=look_up, tls=server.tls, pause=lambda _seconds: None
    )
    url = f"https://{NAME}:{server.port}/model.gguf?sig=secret"
    downloader.fetch(url, file, lambda *step: steps.append(step))
    return steps


def breaking(at: int) -> Callable[[Asked], Iterator[bytes]]:
    """Sends so many bytes of what was asked for, and goes."""

    def answer(asked: Asked) -> Iterator[bytes]:
        head, body = ranged(CONTENT, asked, ETAG)
        yield head + body[:at]

    return answer


def giving(asked: Asked) -> Iterator[bytes]:
    yield b"".join(ranged(CONTENT, asked, ETAG))


def test_a_file_is_brought_by_its_name_from_a_checked_address(tmp_path: Path) -> None:
    asked: list[tuple[str, int]] = []

    def look_up(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return here(host, port)

    with served(tmp_path, giving) as server:
        steps = fetch(server, tmp_path / "model.gguf", look_up=look_up)
    assert (tmp_path / "model.gguf").read_bytes() == CONTENT
    assert server.asked[0].path == "/model.gguf?sig=secret"
    assert server.asked[0].headers["host"] == f"{NAME}:{server.port}"
    assert "authorization" not in server.asked[0].headers
    assert server.server_names == [NAME]
    assert asked == [(NAME, server.port)], "resolved once, and never again"
    assert steps[-1] == ("fetch", len(CONTENT), len(CONTENT))
    assert {path.name for path in tmp_path.iterdir()} == {"model.gguf", f"{NAME}.pem"}


def test_a_broken_connection_is_gone_on_with(tmp_path: Path) -> None:
    with served(tmp_path, breaking(300_000), breaking(300_000), giving) as server:
        fetch(server, tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == CONTENT
    assert [asked.headers.get("range") for asked in server.asked] == [
        None, "bytes=300000-", "bytes=600000-",
    ]  # fmt: skip


def test_a_later_run_goes_on_where_the_first_one_died(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    with served(tmp_path, breaking(300_000), b"HTTP/1.1 503 No\r\n\r\n", giving) as server:
        with pytest.raises(SourceUnavailableError):
            fetch(
                server,
                file,
                limits=FetchLimits(allow_private_network=True, any_port=True, max_failures=1),
            )
        assert not file.exists()
        assert b"secret" not in (tmp_path / "model.gguf.state").read_bytes()
        with pytest.raises(SourceUnavailableError, match="503"):
            fetch(
                server,
                file,
                limits=FetchLimits(allow_private_network=True, any_port=True, max_failures=1),
            )
        fetch(server, file)
    assert file.read_bytes() == CONTENT
    assert server.asked[-1].headers["range"] == "bytes=300000-"


def test_what_is_left_of_another_url_is_not_taken(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    (tmp_path / "model.gguf.part").write_bytes(b"another file")
    (tmp_path / "model.gguf.state").write_bytes(b'{"url_sha256":"x","etag":"\\"one\\""}')
    with served(tmp_path, giving) as server:
        fetch(server, file)
    assert "range" not in server.asked[0].headers
    assert file.read_bytes() == CONTENT


def test_a_name_that_leads_to_this_machine_is_refused_unasked(tmp_path: Path) -> None:
    limits = FetchLimits()
    downloader = Downloader(limits=limits, resolve=lambda *_: ["8.8.8.8", "127.0.0.1"])
    with pytest.raises(ImportRefusedError, match="public Internet"):
        downloader.fetch("https://rebind.example/model.gguf", tmp_path / "model.gguf")
    for address in ("127.0.0.1", "169.254.169.254", "[::1]", "[::ffff:7f00:1]"):
        with pytest.raises(ImportRefusedError, match="public Internet"):
            Downloader().fetch(f"https://{address}/model.gguf", tmp_path / "model.gguf")


def test_a_redirect_into_a_private_network_is_refused(tmp_path: Path) -> None:
    def look_up(host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"] if host == NAME else ["10.0.0.7"]

    with served(tmp_path, redirect("https://inside.example/x")) as server:
        downloader = Downloader(
            limits=FetchLimits(any_port=True),
            resolve=look_up,
            public=lambda address: address == "127.0.0.1",  # as if the server were out there
            tls=server.tls,
        )
        with pytest.raises(ImportRefusedError, match=r"inside\.example is at 10\.0\.0\.7"):
            downloader.fetch(f"https://{NAME}:{server.port}/model.gguf", tmp_path / "model.gguf")
    assert len(server.asked) == 1


@pytest.mark.parametrize("location", ["http://models.example.org/x", "https://a@b.org/", ""])
def test_a_redirect_that_is_no_plain_https_is_refused(tmp_path: Path, location: str) -> None:
    with served(tmp_path, redirect(location)) as server, pytest.raises(ImportRefusedError):
        fetch(server, tmp_path / "model.gguf")
    assert len(server.asked) == 1


def test_every_hop_is_resolved_and_redirects_end(tmp_path: Path) -> None:
    hosts: list[str] = []

    def look_up(host: str, _port: int) -> Sequence[str]:
        hosts.append(host)
        return ["127.0.0.1"]

    with (
        served(tmp_path, redirect("/again")) as server,
        pytest.raises(ImportRefusedError, match="redirects"),
    ):
        fetch(server, tmp_path / "model.gguf", look_up=look_up)
    assert hosts == [NAME] * (OPEN.max_redirects + 1)


def test_a_certificate_of_another_name_is_refused_at_once(tmp_path: Path) -> None:
    with served(tmp_path, giving) as server:
        downloader = Downloader(limits=OPEN, resolve=here, tls=server.tls)
        with pytest.raises(ImportRefusedError, match="certificate"):
            downloader.fetch(f"https://other.example:{server.port}/m.gguf", tmp_path / "m.gguf")
    assert server.asked == []


def test_two_different_lengths_are_refused(tmp_path: Path) -> None:
    with (
        served(tmp_path, whole(b"x", more="Content-Length: 9\r\n")) as server,
        pytest.raises(ImportRefusedError, match="two different"),
    ):
        fetch(server, tmp_path / "model.gguf")


def test_endless_bodies_end_at_the_limit(tmp_path: Path) -> None:
    def endless(_asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield b"10000\r\n" + bytes(0x10000) + b"\r\n"

    with served(tmp_path, endless) as server, pytest.raises(TooLargeError):
        fetch(server, tmp_path / "model.gguf")


def test_a_server_that_drips_is_cut_off_in_time(tmp_path: Path) -> None:
    stop = threading.Event()

    def drip(_asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\n"
        while not stop.wait(0.05):
            yield b"x"

    limits = FetchLimits(allow_private_network=True, any_port=True, total_s=0.5, idle_s=5)
    with served(tmp_path, drip) as server:
        start = time.monotonic()
        with pytest.raises(SourceUnavailableError):
            fetch(server, tmp_path / "model.gguf", limits=limits)
        took = time.monotonic() - start
        stop.set()
    assert 0.5 <= took < 20


def test_silence_is_a_failure(tmp_path: Path) -> None:
    stop = threading.Event()

    def silent(_asked: Asked) -> Iterator[bytes]:
        stop.wait(60)
        yield b""

    tries: list[str] = []

    def look_up(host: str, port: int) -> Sequence[str]:
        tries.append(host)
        return here(host, port)

    limits = FetchLimits(allow_private_network=True, any_port=True, idle_s=0.1, max_failures=2)
    with served(tmp_path, silent) as server, pytest.raises(SourceUnavailableError):
        fetch(server, tmp_path / "model.gguf", limits=limits, look_up=look_up)
    stop.set()
    assert len(tries) == 2


def test_nobody_there_and_nothing_there_are_told(tmp_path: Path) -> None:
    limits = FetchLimits(allow_private_network=True, any_port=True, max_failures=1)
    with (
        served(tmp_path, whole(b"", status="404 Not Found")) as server,
        pytest.raises(NotFoundError, match=r"nothing at .*model\.gguf \(404\)"),
    ):
        fetch(server, tmp_path / "model.gguf")
    with pytest.raises(SourceUnavailableError, match="ConnectionRefused"):
        Downloader(limits=limits, resolve=here).fetch("https://x.org:9/m.gguf", tmp_path / "m")


def test_a_folder_that_is_not_there_is_no_fault_of_the_source(tmp_path: Path) -> None:
    with served(tmp_path, giving) as server, pytest.raises(PublishError, match="cannot write"):
        fetch(server, tmp_path / "absent" / "model.gguf")


def test_the_resolver_gives_addresses_and_names_what_it_does_not_know() -> None:
    assert resolve("127.0.0.1", 443) == ["127.0.0.1"]
    with pytest.raises(SourceUnavailableError, match=r"cannot resolve host\.invalid"):
        resolve("host.invalid", 443)
