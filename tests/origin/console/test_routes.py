"""The console of a whole origin, as a browser and others ask it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import ClientResponse, ClientSession, CookieJar, web
from aiohttp.test_utils import TestClient, TestServer

from origin.app import BOOTS, FLEET, build_app
from origin.config import OriginConfig
from origin.console.access import Logins
from origin.console.config import ConsoleConfig
from origin.console.merge_patch import apply
from origin.console.routes import OWN_HEADER
from tests.fakes.origin_home import Home, StartOrigin
from tests.fakes.reports import edge_report, worker_report
from tests.fakes.waiting import until, until_async
from wire.fleet import WorkerBoot
from wire.sse import SSEDecoder
from wire.workers import BootSpan, WorkerRoll

Client = TestClient[web.Request, web.Application]
OWN = {OWN_HEADER: "1"}
API = "/console/api"
AT = 1_790_000_000.5


@pytest.fixture
def config(home: Home) -> OriginConfig:
    return replace(home.config, console=ConsoleConfig(interval_ms=5, login_tries=3))


@pytest.fixture
async def server(config: OriginConfig, start_origin: StartOrigin) -> TestServer:
    return await start_origin(config)


@pytest.fixture
async def client(server: TestServer) -> AsyncIterator[Client]:
    async with TestClient(server, cookie_jar=CookieJar(unsafe=True)) as made:
        yield made


@pytest.fixture
def bearer(home: Home) -> dict[str, str]:
    return {"Authorization": f"Bearer {home.token.strip()}"}


@pytest.fixture
def cookie_name(home: Home) -> str:
    return Logins(home.token.strip(), clock=lambda: 0.0, lasts_s=1).cookie


async def login(client: Client | ClientSession, home: Home, **headers: str) -> ClientResponse:
    token = home.token.strip()
    return await client.post(f"{API}/login", json={"token": token}, headers={**OWN, **headers})


async def detail(answer: ClientResponse) -> str:
    return str((await answer.json(content_type=None))["detail"])


class Stream:
    """The live stream as a page follows it."""

    def __init__(self, answer: ClientResponse) -> None:
        self._answer = answer
        self._decoder = SSEDecoder(max_event_bytes=1 << 24)
        self.state: Any = None

    async def until(self, path: str, value: Any) -> None:
        """Follow until ``a/b/c`` is so."""
        async with asyncio.timeout(30):
            while self._at(path) != value:
                for event in self._decoder.feed(await self._answer.content.readany()):
                    told = msgspec.json.decode(event.data)
                    self.state = told if event.event == "state" else apply(self.state, told)

    def _at(self, path: str) -> Any:
        found = self.state
        for name in path.split("."):
            found = (found or {}).get(name)
        return found


# Login


async def test_a_login_opens_the_console_until_it_is_given_up(client: Client, home: Home) -> None:
    session = await client.get(f"{API}/session")
    assert (session.status, await session.json()) == (200, {"logged_in": False})
    answer = await login(client, home)
    assert answer.status == 200
    told = await answer.json()
    assert told["logged_in"]
    assert await (await client.get(f"{API}/session")).json() == told
    assert (await client.get(f"{API}/boots/nobody")).status == 404
    assert (await client.post(f"{API}/logout", headers=OWN)).status == 200
    assert (await client.get(f"{API}/boots/nobody")).status == 401


async def test_a_login_that_is_given_up_is_over_for_whoever_copied_its_cookie(
    client: Client, home: Home, cookie_name: str
) -> None:
    copied = (await login(client, home)).cookies[cookie_name].value
    headers = {"Cookie": f"{cookie_name}={copied}"}
    async with ClientSession(client.make_url("/")) as thief:
        assert (await thief.get(f"{API}/logins", headers=headers)).status == 200
        stream = await thief.get(f"{API}/live", headers=headers)
        await Stream(stream).until("totals.streams", 0)
        answer = await client.post(f"{API}/logout", headers=OWN)
        assert await answer.json() == {"logged_in": False}
        assert (await thief.get(f"{API}/logins", headers=headers)).status == 401
        async with asyncio.timeout(30):
            await stream.read()  # it ends


async def test_logins_are_listed_and_ended_one_by_one(
    client: Client, home: Home, bearer: dict[str, str]
) -> None:
    await login(client, home, **{"User-Agent": "curl/8.5.0", "X-Forwarded-For": "192.0.2.7"})
    jar = CookieJar(unsafe=True)
    async with ClientSession(client.make_url("/"), cookie_jar=jar) as other:
        await login(other, home, **{"User-Agent": "Mozilla/5.0 (X11; Linux) Firefox/133.0"})
        first, second = await (await client.get(f"{API}/logins")).json()
        assert (first["browser"], first["mine"]) == ("curl", True)
        assert first["address"] == "192.0.2.0/24 by way of this machine"
        assert (second["browser"], second["mine"]) == ("Firefox on Linux", False)
        assert second["until"] - second["made"] == pytest.approx(43_200, abs=2)
        plain = await client.delete(f"{API}/logins/{second['id']}")
        assert plain.status == 403
        assert OWN_HEADER in await detail(plain)
        ended = await client.delete(f"{API}/logins/{second['id']}", headers=OWN)
        assert await ended.json() == {"ended": 1}
        assert (await other.get(f"{API}/logins")).status == 401
        assert not (await (await other.get(f"{API}/session")).json())["logged_in"]
        again = await client.delete(f"{API}/logins/{second['id']}", headers=OWN)
        assert again.status == 404
        assert "ended already" in await detail(again)
        assert [row["mine"] for row in await (await client.get(f"{API}/logins")).json()] == [True]
    # Under the token itself none is one's own.
    (left,) = await (await client.get(f"{API}/logins", headers=bearer)).json()
    assert not left["mine"]


async def test_all_logins_but_ones_own_are_ended_at_once(
    client: Client, home: Home, bearer: dict[str, str]
) -> None:
    for _ in range(3):
        await login(client, home)  # the jar keeps the last one
    assert (await client.delete(f"{API}/logins")).status == 403
    ended = await client.delete(f"{API}/logins", headers=OWN)
    assert await ended.json() == {"ended": 2}
    (mine,) = await (await client.get(f"{API}/logins")).json()
    assert mine["mine"]
    ended = await client.delete(f"{API}/logins", headers=bearer)
    assert await ended.json() == {"ended": 1}
    assert (await client.get(f"{API}/logins")).status == 401


async def test_the_cookie_is_for_this_origin_and_no_script(
    client: Client, home: Home, cookie_name: str
) -> None:
    cookie = (await login(client, home)).cookies[cookie_name]
    assert (cookie["path"], cookie["samesite"], cookie["httponly"]) == ("/console", "Strict", True)
    assert (cookie["secure"], cookie["domain"]) == ("", "")
    assert 43_100 < int(cookie["max-age"]) <= 43_200
    for scheme, secure in {"https": True, "HTTPS, http": True, "http, https": "", "": ""}.items():
        cookie = (await login(client, home, **{"X-Forwarded-Proto": scheme})).cookies[cookie_name]
        assert cookie["secure"] == secure, scheme


async def test_a_cookie_that_is_over_or_anothers_opens_nothing(
    client: Client, home: Home, cookie_name: str
) -> None:
    old = Logins(home.token.strip(), clock=lambda: 1.0, lasts_s=60).make()[0]
    other = Logins("another", clock=lambda: 4e9, lasts_s=60).make()[0]
    for value in (old, other, "", "x" * 5_000, "9999999999.x.y"):
        headers = {"Cookie": f"{cookie_name}={value}"}
        assert (await client.get(f"{API}/live", headers=headers)).status == 401
        session = await client.get(f"{API}/session", headers=headers)
        assert await session.json() == {"logged_in": False}


async def test_wrong_tokens_run_out_but_keep_nobody_out_who_has_the_right_one(
    client: Client, home: Home
) -> None:
    guess = {"token": "guess"}
    for _ in range(3):
        answer = await client.post(f"{API}/login", json=guess, headers=OWN)
        assert answer.status == 401
        assert not answer.cookies
    answer = await client.post(f"{API}/login", json=guess, headers=OWN)
    assert answer.status == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await login(client, home)).status == 200


async def test_many_tries_at_once_are_no_more_than_one_after_the_other(client: Client) -> None:
    tries = [
        client.post(f"{API}/login", json={"token": f"guess {n}"}, headers=OWN) for n in range(20)
    ]
    statuses = [answer.status for answer in await asyncio.gather(*tries)]
    assert (statuses.count(401), statuses.count(429)) == (3, 17)


async def test_another_site_can_have_a_browser_try_no_tokens(client: Client, home: Home) -> None:
    """A form may send JSON as text/plain, but no header of ours."""
    for token in ("guess",) * 5 + (home.token.strip(),):
        answer = await client.post(f"{API}/login", data=f'{{"token":"{token}"}}')
        assert answer.status == 403
        assert not answer.cookies
    guess = await client.post(f"{API}/login", json={"token": "guess"}, headers=OWN)
    assert guess.status == 401


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b'{"token":"\xff"}',
        b'{"token":1}',
        b'{"token":"a","b":1}',
        b'{"token":"\\ud800"}',
        b'{"token":"' + b"a" * 2_000 + b'"}',
    ],
)
async def test_a_login_that_is_none_is_refused(client: Client, body: bytes) -> None:
    assert (await client.post(f"{API}/login", data=body, headers=OWN)).status == 400


async def test_a_post_by_cookie_alone_is_refused(client: Client, home: Home) -> None:
    await login(client, home)
    for path in ("logout", "chat"):
        answer = await client.post(f"{API}/{path}", data=b"{}")
        assert answer.status == 403
        assert OWN_HEADER in await detail(answer)


@pytest.mark.parametrize("path", ["live", "logins", "boots/w1", "playground"])
async def test_nothing_is_shown_without_a_login(client: Client, path: str) -> None:
    answer = await client.get(f"{API}/{path}")
    assert answer.status == 401
    assert "log in" in await detail(answer)
    wrong = {"Authorization": "Bearer guess"}
    assert (await client.get(f"{API}/{path}", headers=wrong)).status == 401
    for post in ("chat", "logout"):
        assert (await client.post(f"{API}/{post}", data=b"{}", headers=OWN)).status == 401
    for end in ("logins", "logins/any"):
        assert (await client.delete(f"{API}/{end}", headers=OWN)).status == 401


# What is shown


async def test_the_stream_tells_the_fleet_and_what_changes(
    client: Client, server: TestServer, home: Home
) -> None:
    view = server.app[FLEET]
    view.report(edge_report("e1", worker_report("w1", busy=1), region="eu", ttl_s=60.0))
    await login(client, home)
    answer = await client.get(f"{API}/live")
    assert answer.content_type == "text/event-stream"
    assert answer.headers["Cache-Control"] == "no-store"
    stream = Stream(answer)
    await stream.until("workers.w1/chat.busy", 1)
    assert stream.state["regions"]["eu"]["workers"] == 1
    view.report(edge_report("e1", worker_report("w1", busy=3), region="eu", ttl_s=60.0))
    await stream.until("workers.w1/chat.busy", 3)
    view.report(edge_report("e1", region="eu", ready=False, reason="full", ttl_s=60.0))
    await stream.until("workers.w1/chat.state", "missing")
    assert stream.state["edges"]["e1"]["reason"] == "full"
    answer.close()


async def test_what_leaves_the_origin_is_counted(
    client: Client, server: TestServer, bearer: dict[str, str]
) -> None:
    metrics = await (await client.get("/metrics")).text()
    assert "headwater_console_viewers 0.0" in metrics
    answer = await client.get(f"{API}/live", headers=bearer)
    await Stream(answer).until("totals.origin_bytes_per_s", 0)
    assert "headwater_console_viewers 1.0" in await (await client.get("/metrics")).text()
    answer.close()


async def test_a_viewer_that_takes_nothing_is_given_up(
    home: Home, config: OriginConfig, bearer: dict[str, str]
) -> None:
    def small(sock: socket.socket, option: int) -> socket.socket:
        sock.setsockopt(socket.SOL_SOCKET, option, 4_096)
        return sock

    def listener(*_where: object) -> socket.socket:
        made = small(socket.socket(), socket.SO_SNDBUF)
        made.bind(("127.0.0.1", 0))
        return made

    impatient = replace(config.console, write_timeout_s=0.05)
    app = await build_app(replace(config, console=impatient))
    async with TestServer(app, socket_factory=listener) as server:
        workers = [worker_report(f"w{n}") for n in range(800)]
        app[FLEET].report(edge_report("e1", *workers, ttl_s=60.0))
        with small(socket.socket(), socket.SO_RCVBUF) as viewer:
            viewer.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(viewer, ("127.0.0.1", server.port))
            lines = [f"{name}: {value}" for name, value in {"Host": "a", **bearer}.items()]
            head = "\r\n".join([f"GET {API}/live HTTP/1.1", *lines, "", ""])
            await loop.sock_sendall(viewer, head.encode())
            # It is counted before its answer begins, and may be gone as soon as it has.
            assert await loop.sock_recv(viewer, 12) == b"HTTP/1.1 200"
            async with TestClient[web.Request, None](server) as other:

                async def viewers(count: int) -> bool:
                    shown = await (await other.get("/metrics")).text()
                    return f"headwater_console_viewers {count}.0" in shown

                await until_async(lambda: viewers(0))


async def test_an_origin_that_stops_ends_its_streams(
    server: TestServer, client: Client, bearer: dict[str, str]
) -> None:
    answer = await client.get(f"{API}/live", headers=bearer)
    await Stream(answer).until("totals.streams", 0)
    async with asyncio.timeout(30):
        await asyncio.gather(server.close(), answer.read())


async def test_a_boot_is_a_list_of_spans_for_each_model(
    client: Client, server: TestServer, bearer: dict[str, str]
) -> None:
    app, worker = server.app, worker_report("w1")
    app[FLEET].report(edge_report("e1", worker, ttl_s=60.0))
    spans = (BootSpan("pull", 0.0, 12.5), BootSpan("load", 12.5, 100.0))
    roll = WorkerRoll(
        revision="b" * 64,
        previous="a" * 64,
        began=AT,
        outcome="failed",
        reason="out of memory",
        spans=(BootSpan("load", 3.0, 4.5),),
    )
    told = WorkerBoot(worker="w1", model="chat", revision="a" * 64, spans=spans, roll=roll)
    answers: list[ClientResponse] = []

    async def answered() -> bool:
        """It is not, where the machine stood still for longer than an edge is waited for."""
        asked = asyncio.create_task(client.get(f"{API}/boots/w1", headers=bearer))
        await until(lambda: asked.done() or bool(app[BOOTS].wanted("e1")))
        app[BOOTS].heard(edge_report("e1", worker, boots=(told,)))
        answers.append(await asked)
        return answers[-1].status == 200

    await until_async(answered)
    (boot,) = await answers[-1].json()
    assert (boot["model"], boot["revision"], boot["total_ms"]) == ("chat", "a" * 64, 112.5)
    assert boot["spans"][1] == {"name": "load", "start_ms": 12.5, "length_ms": 100.0}
    assert boot["roll"] == {
        "revision": "b" * 64,
        "previous": "a" * 64,
        "began": AT,
        "outcome": "failed",
        "step": "",
        "reason": "out of memory",
        "total_ms": 7.5,
        "spans": [{"name": "load", "start_ms": 3.0, "length_ms": 4.5}],
    }


async def test_without_edges_the_playground_says_what_to_set(
    client: Client, bearer: dict[str, str]
) -> None:
    answer = await client.get(f"{API}/playground", headers=bearer)
    assert answer.status == 404
    assert "origin.console.edges" in await detail(answer)


async def test_an_origin_that_takes_no_reports_says_so_where_its_fleet_would_be(
    home: Home, config: OriginConfig, start_origin: StartOrigin, bearer: dict[str, str]
) -> None:
    origin = await start_origin(replace(config, edge_token_file=None))
    async with TestClient(origin) as client:
        answer = await client.get(f"{API}/live", headers=bearer)
        await Stream(answer).until(
            "totals.problems", ["no edge can report to this origin: give it origin.edge_token_file"]
        )
        answer.close()
