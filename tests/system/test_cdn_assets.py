"""Static sites through real nginx and Varnish, as shipped, before an origin and before an edge."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.cdn import program
from tests.fakes.cdn_rig import CDNS, Rig, running
from tests.fakes.fleet import eventually
from tests.fakes.ports import free_port
from tests.fakes.quick_disk import quick_folder
from tests.fakes.replays import Answer, ask
from tests.fakes.revisions import Revision
from tests.fakes.sites import make_site, text
from wire.paths import revision_key

PROGRAMS = {"nginx": "nginx", "varnish": "varnishd"}
HASHED = "lib/app-3f9a02bc.js"
ENCODINGS = (None, "", "gzip, deflate, br, zstd", "gzip", "x-gzip, br", "zstd , GZIP", "identity")
WEIGHED = ("gzip;q=0, br", "*", "identity;q=0", "br;q=0.5, gzip")


def site_of(model: str, word: str) -> Revision:
    """A site whose page and script say a word; its library stays as it is."""
    return make_site(
        {
            "index.html": text(word),
            "app.js": text(f"script {word}"),
            "docs/index.html": text("docs"),
            HASHED: text("library"),
        },
        model,
    )


@pytest.fixture(scope="module", params=sorted(PROGRAMS))
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An origin that tells the CDN before it. Every test has a site of its own."""
    program(PROGRAMS[request.param])
    with quick_folder() as folder, running(request.param, folder) as made:
        yield made


def differences(got: Answer, want: Answer) -> dict[str, tuple[object, object]]:
    """How an answer is another than the upstream's own."""
    names = ["etag", "content-encoding", "content-type", "cache-control", "vary", "location"]
    names += ["content-range", "content-length", "x-content-type-options", "repr-digest"]
    names += ["content-security-policy", "surrogate-key"]
    pairs: dict[str, tuple[object, object]] = {
        name: (got.headers.get(name), want.headers.get(name)) for name in names
    }
    pairs |= {"status": (got.status, want.status), "body": (got.body[:40], want.body[:40])}
    pairs |= {"size": (len(got.body), len(want.body))}
    if want.status == 304:
        pairs = {name: pairs[name] for name in ("etag", "status")}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def encoded(field: str | None) -> dict[str, str]:
    return {} if field is None else {"Accept-Encoding": field}


def test_each_form_is_kept_for_itself_and_is_the_origins(rig: Rig) -> None:
    rig.publish(site_of("forms", "forms"))
    eventually(rig.is_told)
    wrong = []
    for name in ("", "index.html", "app.js", HASHED, "docs/", "docs", "docs?x=1", "none", "a//b"):
        path = f"/assets/forms/{name}"
        for _ in range(2):
            for field in (*ENCODINGS, *WEIGHED):
                want = rig.direct(path, **encoded(field))
                got = rig.get(path, **encoded(field))
                if found := differences(got, want):
                    wrong.append((name, field, found))
    assert wrong == []


@pytest.mark.parametrize("field", ["gzip, br", "gzip", None])
def test_parts_and_conditions_are_answered_as_by_the_origin(rig: Rig, field: str | None) -> None:
    model = f"parts{len(field or '')}"
    rig.publish(site_of(model, "parts"))
    path = f"/assets/{model}/app.js"
    etags = [rig.direct(path, **encoded(f)).headers["etag"] for f in (None, "gzip", "br")]
    asked = [{"Range": "bytes=10-99"}, {"Range": "bytes=-5"}, {"Range": "bytes=0-"}]
    asked += [{"If_None_Match": etag} for etag in (*etags, '"x"')]
    asked += [{"Range": "bytes=1-9", "If_Range": etag} for etag in (*etags, '"x"')]
    wrong = []
    for _ in range(2):
        for headers in asked:
            given = {**headers, **encoded(field)}
            if found := differences(rig.get(path, **given), rig.direct(path, **given)):
                wrong.append((headers, found))
        rig.get(path, **encoded(field))
    assert wrong == []
    for method in ("HEAD", "POST"):
        want, got = (ask(method, url + path, encoded(field)) for url in (rig.url, rig.cdn.url))
        assert got.status == want.status


def test_a_site_costs_the_origin_once_whatever_is_sent_with_it(rig: Rig) -> None:
    rig.publish(site_of("once", "once"))
    eventually(rig.is_told)
    path = f"/assets/once/{HASHED}"
    first = rig.get(path, Accept_Encoding="br, gzip")
    asked = rig.watch.count(path)
    for query, headers in (
        ("?v=1", {"Accept_Encoding": "gzip,br"}),
        ("?v=2", {"Accept_Encoding": "deflate, gzip, br", "Cookie": "a=b"}),
        ("", {"Accept_Encoding": "GZIP, BR", "X_Forwarded_Host": "evil", "Host": "evil"}),
    ):
        again = rig.get(path + query, **headers)
        assert (again.body, again.headers["x-cache"]) == (first.body, "HIT")
    assert rig.watch.count(path) == asked
    assert "immutable" in first.headers["cache-control"]


def test_a_roll_of_a_site_is_seen_at_once(rig: Rig) -> None:
    old, new = site_of("rolled", "old"), site_of("rolled", "new")
    rig.publish(new)
    rig.publish(old)
    eventually(rig.is_told)
    path = "/assets/rolled/"
    for field in (None, "gzip, br"):
        assert rig.get(path, **encoded(field)).headers["x-model-digest"] == old.id
    rig.roll("rolled", "stable", new.id)
    eventually(rig.is_told)
    for field in (None, "gzip, br"):
        assert rig.get(path, **encoded(field)).headers["x-model-digest"] == new.id


def test_a_private_site_stays_with_those_who_have_a_token(rig: Rig) -> None:
    revision = site_of("mine", "mine")
    rig.publish(revision, private=True)
    path = "/assets/mine/"
    for _ in range(2):
        mine = rig.get(path, Authorization=f"Bearer {rig.reader}")
        assert mine.body == revision.files["index.html"]
        for headers in ({}, {"Authorization": "Bearer hf_wrong"}, {"Range": "bytes=0-"}):
            assert rig.get(path, **headers).status in {401, 404}


def test_a_site_that_was_taken_down_is_gone(rig: Rig) -> None:
    revision = site_of("down", "down")
    rig.publish(revision)
    paths = ("/assets/down/", f"/assets/down/{HASHED}")
    assert [rig.get(path).status for path in paths] == [200, 200]
    rig.take_down(revision_key(revision.id))
    eventually(lambda: all(rig.get(path).status != 200 for path in paths))


def test_before_an_edge_a_roll_is_seen_within_max_age(rig: Rig) -> None:
    old, new = site_of("far", "old"), site_of("far", "new")
    rig.publish(new)
    rig.publish(old)
    path = "/assets/far/"
    with quick_folder() as folder, rig.edge("far") as edge:
        front = CDNS[rig.cdn.style]
        with front(folder / "far", edge, free_port()) as cdn:

            def seen() -> str:
                answer = ask("GET", cdn.url + path, {"Accept-Encoding": "br"})
                return answer.headers.get("x-model-digest", "")

            eventually(lambda: seen() == old.id)
            eventually(lambda: ask("GET", cdn.url + path).headers["x-cache"] == "HIT")
            rig.roll("far", "stable", new.id)
            # Its max-age is one second; the edge must hear, for it asks by itself once a minute.
            eventually(lambda: seen() == new.id)
