"""Real nginx and real Varnish, as shipped, between workers and a real origin."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fakes.cdn import program
from tests.fakes.cdn_rig import (
    EVENTS,
    FAILING,
    SHORT_LIVED,
    STREAM,
    Rig,
    running,
)
from tests.fakes.fleet import eventually
from tests.fakes.quick_disk import quick_folder
from tests.fakes.replays import Answer, ask
from tests.fakes.revisions import Revision, chunk_of, make_revision
from wire.paths import (
    EVENTS as EVENTS_PATH,
)
from wire.paths import (
    FILES,
    TAKEDOWNS,
    TRUST_BUNDLE,
    channel_path,
    chunk_path,
    manifest_path,
    revision_key,
)

MIB = 1024**2
PROGRAMS = {"nginx": "nginx", "varnish": "varnishd"}
SIZES = (700_001, MIB, 123_456)


def revision_of(seed: int, model: str = "chat") -> Revision:
    """Chunks that no other seed has."""
    parts = [chunk_of(1000 * seed + n, size) for n, size in enumerate(SIZES)]
    return make_revision({"model.gguf": parts}, model=model)


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An origin that tells the CDN before it. Every test has chunks and channels of its own."""
    program(PROGRAMS[request.param])
    with quick_folder() as folder, running(request.param, folder) as made:
        yield made


def chunk_paths(revision: Revision) -> list[str]:
    return [chunk_path(name) for name in revision.chunks]


def told(answer: Answer) -> dict[str, str]:
    """The headers that a client acts upon, as far as the status lets them mean something."""
    names = ["content-range"]
    if answer.status in {200, 206, 304}:
        names += ["etag", "cache-control", "cdn-cache-control", "cache-tag", "vary"]
    if answer.status in {200, 206}:
        names += ["content-length", "content-type", "content-encoding", "repr-digest", "location"]
    return {name: answer.headers[name] for name in names if name in answer.headers}


def is_kept(rig: Rig, path: str, **headers: str) -> bool:
    """Whether it comes out of the cache. Where we stood still, it may have grown too old there."""
    return rig.get(path, **headers).headers["x-cache"] == "HIT"


def test_a_second_pull_costs_the_origin_no_bytes_of_chunks(rig: Rig, tmp_path: Path) -> None:
    revision = revision_of(1)
    rig.publish(revision)
    before = rig.served_bytes()
    first = rig.pull("chat", tmp_path / "one")
    between = rig.served_bytes()
    assert between - before == revision.unique_bytes
    second = rig.pull("chat", tmp_path / "two")
    assert rig.served_bytes() == between
    whole = revision.files["model.gguf"]
    for pulled in (first, second):
        assert pulled.report.revision == revision.id
        assert (pulled.report.path / "model.gguf").read_bytes() == whole


CASES: dict[str, dict[str, str]] = {
    "whole": {},
    "from the first byte": {"Range": "bytes=0-"},
    "the first bytes": {"Range": "bytes=0-99"},
    "the middle": {"Range": "bytes=1000-70000"},
    "to the end": {"Range": "bytes=100000-"},
    "the last": {"Range": "bytes=-500"},
    "one byte": {"Range": "bytes=5-5"},
    "past the end, from inside": {"Range": "bytes=100-99999999"},
    "outside": {"Range": "bytes=99999999-"},
    "known": {"If-None-Match": "{etag}"},
    "known among others": {"If-None-Match": '"x", {etag}'},
    "another known": {"If-None-Match": '"x"'},
    "range, if the same": {"Range": "bytes=10-19", "If-Range": "{etag}"},
    "range, if another": {"Range": "bytes=10-19", "If-Range": '"x"'},
    "with a query": {"?": "utm=1"},
    "compressed, please": {"Accept-Encoding": "gzip"},
}


@pytest.mark.parametrize("kind", ["chunk", "file"])
def test_ranges_and_conditions_are_answered_as_by_the_origin(rig: Rig, kind: str) -> None:
    revision = revision_of(2, "ranges")
    rig.publish(revision)
    chunk = chunk_paths(revision)[1]
    path = chunk if kind == "chunk" else f"{FILES}/{revision.id}/model.gguf"
    etag = rig.direct(path).headers["etag"]
    wrong = []
    for temperature in ("cold", "warm"):
        for name, given in CASES.items():
            headers = {key: value.format(etag=etag) for key, value in given.items()}
            target = path + (f"?{headers.pop('?')}" if "?" in headers else "")
            want = ask("GET", rig.url + target, headers)
            got = ask("GET", rig.cdn.url + target, headers)
            # The words of a refusal are each server's own.
            same = got.body == want.body or want.status == 416
            if (got.status, told(got)) != (want.status, told(want)) or not same:
                differ = dict(told(got).items() ^ told(want).items())
                wrong.append(f"{name}, {temperature}: {got.status} for {want.status}: {differ}")
    assert wrong == []


def test_heads_are_answered_as_by_the_origin(rig: Rig) -> None:
    revision = revision_of(3, "heads")
    rig.publish(revision)
    for path in (
        chunk_paths(revision)[0],
        f"{FILES}/{revision.id}/model.gguf",
        manifest_path(revision.id),
        channel_path("heads", "stable"),
        TRUST_BUNDLE,
    ):
        want, got = (ask("HEAD", url + path) for url in (rig.url, rig.cdn.url))
        assert (got.status, told(got), got.body) == (200, told(want), b""), path


def test_a_range_from_the_first_byte_on_is_kept_whole_on_a_miss(rig: Rig) -> None:
    revision = revision_of(4, "first")
    rig.publish(revision)
    path = chunk_paths(revision)[0]
    first = rig.get(path, Range="bytes=0-")
    size = len(first.body)
    assert first.status == 206
    assert first.headers["content-range"] == f"bytes 0-{size - 1}/{size}"
    again = rig.get(path, Range="bytes=100-199")
    assert (again.status, again.headers["x-cache"]) == (206, "HIT")
    assert again.body == first.body[100:200]
    assert rig.watch.count(path) == 1


def test_many_who_miss_at_once_cost_one_fetch(rig: Rig) -> None:
    revision = revision_of(5, "many")
    rig.publish(revision)
    path = chunk_paths(revision)[1]
    rig.watch.delay_s = 0.1
    try:
        with ThreadPoolExecutor(20) as clients:
            answers = list(clients.map(lambda _: rig.get(path), range(20)))
    finally:
        rig.watch.delay_s = 0.0
    assert {(a.status, len(a.body)) for a in answers} == {(200, len(answers[0].body))}
    assert rig.watch.count(path) == 1


def test_a_roll_is_seen_at_once(rig: Rig) -> None:
    old, new = revision_of(6, "rolled"), revision_of(7, "rolled")
    rig.publish(new)
    rig.publish(old)
    path = channel_path("rolled", "stable")

    def seen() -> str:
        return str(json.loads(rig.get(path).body)["revision"])

    bundles = [f"{TRUST_BUNDLE}?root={version}" for version in (0, 1)]
    eventually(rig.is_told)
    assert seen() == old.id
    before = [rig.get(bundle).body for bundle in bundles]
    eventually(lambda: is_kept(rig, path))
    rig.roll("rolled", "stable", new.id)
    eventually(rig.is_told)
    assert seen() == new.id
    eventually(lambda: all(rig.get(b).body != o for b, o in zip(bundles, before, strict=True)))
    assert rig.purges("done") > 0
    assert rig.purges("failed") == 0


def test_whoever_hears_of_a_roll_gets_it_through_the_cdn(rig: Rig) -> None:
    """Events wait for the caches: an edge that asks at once must not get what was before."""
    old, new = revision_of(8, "heard"), revision_of(9, "heard")
    rig.publish(new)
    rig.publish(old)
    path = channel_path("heard", "stable")
    eventually(rig.is_told)
    assert old.id.encode() in rig.get(path).body
    with socket.create_connection(address(rig), 30) as link:
        link.sendall(f"GET {EVENTS_PATH} HTTP/1.1\r\nHost: cdn\r\n\r\n".encode())
        read_until(link, b"reset")
        rig.roll("heard", "stable", new.id)
        read_until(link, b"channel:heard@stable")
        assert json.loads(rig.get(path).body)["revision"] == new.id


def test_without_a_purge_a_pointer_is_good_for_its_max_age(rig: Rig) -> None:
    def is_good() -> bool:
        rig.watch.short_lived = "one"
        eventually(lambda: rig.get(SHORT_LIVED).body == b"one")
        rig.watch.short_lived = "two"
        asked = rig.watch.count(SHORT_LIVED)
        kept = rig.get(SHORT_LIVED).body == b"one"
        return kept and rig.watch.count(SHORT_LIVED) == asked

    # Its max-age is one second: where we stood still, it may be over at once.
    eventually(is_good)
    eventually(lambda: rig.get(SHORT_LIVED).body == b"two")


def test_events_pass_unbuffered(rig: Rig) -> None:
    rig.watch.events_read = 0
    with socket.create_connection(address(rig), 30) as link:
        link.sendall(
            f"POST {STREAM} HTTP/1.1\r\nHost: cdn\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )
        for number in range(EVENTS):  # each is sent when the one before was read
            read_until(link, f"data: {number}\n".encode())
            rig.watch.events_read = number + 1
        read_until(link, b"[DONE]")


def test_a_query_that_changes_nothing_does_not_split_the_cache(rig: Rig) -> None:
    eventually(rig.is_told)
    for path, name in ((TRUST_BUNDLE, "root"), (TAKEDOWNS, "since")):
        for attempt in range(5):  # where we stood still, it may have grown too old meanwhile
            bodies = {rig.get(f"{path}?{name}=1").body}
            asked = rig.watch.count(path)
            for query in (f"x={attempt}&{name}=1", f"{name}=1&utm=a%20{attempt}"):
                bodies.add(rig.get(f"{path}?{query}").body)
            assert len(bodies) == 1
            if rig.watch.count(path) <= asked + 1:  # a second may have gone by
                break
        assert rig.watch.count(path) <= asked + 1
        assert rig.get(f"{path}?{name}=no-number").status == 400


def test_a_private_model_stays_with_those_who_have_a_token(rig: Rig) -> None:
    revision = revision_of(10, "secret")
    rig.publish(revision, private=True)
    token = f"Bearer {rig.reader}"
    for path in (manifest_path(revision.id), f"{FILES}/{revision.id}/model.gguf"):
        for _ in range(2):
            mine = rig.get(path, Authorization=token)
            assert mine.status == 200
            assert mine.headers["cache-control"] == "private, no-store"
            assert rig.get(path).status == 404
            assert rig.get(path, Authorization="Bearer hf_wrong").status == 404
            assert rig.get(path, Range="bytes=0-").status == 404


def test_what_is_public_is_given_to_those_with_a_token_too(rig: Rig) -> None:
    revision = revision_of(11, "open")
    rig.publish(revision)
    token = f"Bearer {rig.reader}"
    for path in (*chunk_paths(revision), channel_path("open", "stable")):
        rig.get(path, Authorization=token)
        eventually(lambda path=path: is_kept(rig, path))  # type: ignore[misc]
        eventually(lambda path=path: is_kept(rig, path, Authorization=token))  # type: ignore[misc]


def test_a_takedown_is_final_at_once(rig: Rig) -> None:
    revision = revision_of(12, "gone")
    rig.publish(revision)
    paths = [manifest_path(revision.id), *chunk_paths(revision)]
    for _ in range(2):
        assert {rig.get(path).status for path in paths} == {200}
    rig.take_down(revision_key(revision.id))
    eventually(lambda: {rig.get(path).status for path in paths} == {410})
    assert {rig.get(path).status for path in paths} == {410}


def test_files_are_kept_until_they_are_taken_down(rig: Rig) -> None:
    """nginx keeps slices that no purge finds, and confirms them; Varnish knows their key."""
    revision = revision_of(15, "file")
    rig.publish(revision)
    path = f"{FILES}/{revision.id}/model.gguf"
    assert rig.get(path).body == revision.files["model.gguf"]
    sent = rig.served_bytes("file")
    if rig.cdn.style == "nginx":
        asked = rig.watch.count(path)
        eventually(lambda: "REVALIDATED" in rig.get(path).headers["x-cache"])
        assert rig.watch.count(path) == asked + 1
    eventually(lambda: is_kept(rig, path))
    assert rig.served_bytes("file") == sent
    rig.take_down(revision_key(revision.id))
    eventually(lambda: rig.get(path).status == 410)
    assert rig.get(path).status == 410


def test_edges_below_a_cdn_cost_the_origin_once_and_hear_of_a_roll(
    rig: Rig, tmp_path: Path
) -> None:
    old, new = revision_of(16, "below"), revision_of(17, "below")
    rig.publish(new)
    rig.publish(old)
    before = rig.served_bytes()
    path = channel_path("below", "stable")
    eventually(rig.is_told)
    with rig.edge("left") as left, rig.edge("right") as right:
        for edge, name in ((left, "left"), (right, "right")):
            assert rig.pull("below", tmp_path / name, edge).report.revision == old.id
        assert rig.served_bytes() - before == old.unique_bytes
        rig.roll("below", "stable", new.id)
        eventually(lambda: all(new.id.encode() in ask("GET", e + path).body for e in (left, right)))
        for edge, name in ((left, "left"), (right, "right")):
            assert rig.pull("below", tmp_path / name, edge).report.revision == new.id
        assert rig.served_bytes() - before == old.unique_bytes + new.unique_bytes


def test_no_error_is_kept(rig: Rig) -> None:
    rig.watch.failing = True
    for _ in range(2):
        assert rig.get(FAILING).status >= 500
    rig.watch.failing = False
    eventually(lambda: rig.get(FAILING).status == 200)
    revision = revision_of(13, "later")
    path = manifest_path(revision.id)
    assert rig.get(path).status == 404
    rig.publish(revision)
    eventually(lambda: rig.get(path).status == 200)


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/admin/status", "/readyz"])
def test_operations_are_never_kept(rig: Rig, path: str) -> None:
    before = len(rig.watch.headers)
    answers = [rig.get(path, From="operator") for _ in range(3)]
    # Varnish asks for /readyz too, now and then.
    assert sum("from" in headers for headers in rig.watch.headers[before:]) == 3
    assert {answer.status for answer in answers} <= {200, 401}


def test_nobody_purges_without_the_secret(rig: Rig) -> None:
    revision = revision_of(14, "safe")
    rig.publish(revision)
    path = chunk_paths(revision)[0]
    rig.get(path)
    for headers in (
        {"Headwater-Purge": "*", "Headwater-Purge-Secret": "guess"},
        {"Headwater-Purge": "*"},
        {"Headwater-Refresh": "guess"},
        {"Headwater-Refresh": "replace-me", "Headwater-Hard": "1"},
        {"Headwater-Purge": "*", "Headwater-Purge-Secret": "", "Headwater-Expected-Secret": ""},
        {"Cache-Control": "no-cache"},
    ):
        for method in ("BAN", "PURGE", "GET"):
            answer = ask(method, rig.cdn.url + path, headers)
            assert answer.status == 200 if method == "GET" else answer.status in {403, 405}, (
                method,
                headers,
            )
    assert rig.get(path).headers["x-cache"] == "HIT"
    assert rig.watch.count(path) == 1


def test_secrets_of_the_cdn_do_not_reach_the_origin(rig: Rig) -> None:
    rig.get("/healthz", Headwater_Refresh="guess", Headwater_Purge_Secret="guess")
    seen = [name for headers in rig.watch.headers for name in headers if "headwater" in name]
    assert seen == []


def address(rig: Rig) -> tuple[str, int]:
    parts = urlsplit(rig.cdn.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def read_until(link: socket.socket, end: bytes) -> None:
    """Read until these bytes came."""
    seen = b""
    while end not in seen:
        data = link.recv(65536)
        assert data, f"ended before {end!r}: {seen!r}"
        seen += data
