from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import aiohttp
import cramjam
import pytest
from yarl import URL

from tests.fakes.facades import Tier, make_model, open_tier, publish_in
from tests.fakes.sites import make_site, page, text
from wire.assets import AssetsConfig
from wire.http_range import etag_matches

SCRIPT, HASHED = text("script"), "lib/app-3f9a02bc.js"
FILES = {
    "index.html": text("<h1>home</h1>"),
    "404.html": text("nothing here"),
    "docs/index.html": b"<h1>docs</h1>",
    "app.js": SCRIPT,
    HASHED: text("hashed"),
    "dot.png": b"\x89PNG",
    "empty.css": b"",
    "[id]/a b.txt": b"brackets",
}
SITE = make_site(FILES)
NEXT = make_site({**FILES, "index.html": text("<h1>new</h1>")} | {HASHED: text("x")})


@pytest.fixture
async def tier(tmp_path: Path) -> AsyncIterator[Tier]:
    async with open_tier(tmp_path, cache_name="edge") as tier:
        publish_in(tier.source, SITE)
        yield tier


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        auto_decompress=False, skip_auto_headers=["Accept-Encoding"]
    ) as session:
        yield session


class Answer:
    def __init__(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, body

    def says(self, name: str) -> str:
        return self.headers.get(name, "")


async def ask(
    http: aiohttp.ClientSession,
    tier: Tier,
    path: str,
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
) -> Answer:
    url = URL(f"{tier.url}/assets/{path}", encoded=True)
    async with http.request(method, url, headers=headers, allow_redirects=False) as answer:
        return Answer(answer, await answer.read())


async def test_a_page_says_what_it_is(tier: Tier, http: aiohttp.ClientSession) -> None:
    found = await ask(http, tier, "site/")
    entry = SITE.manifest.file("index.html")
    assert (found.status, found.body) == (200, FILES["index.html"])
    assert found.says("Content-Type") == "text/html; charset=utf-8"
    assert found.says("ETag") == f'"{entry.sha256}"'
    assert found.says("Cache-Control").startswith("public, max-age=5, stale-while-revalidate=30")
    assert found.says("Surrogate-Key") == f"channel:site@stable revision:{SITE.id}"
    assert found.says("Cache-Tag") == f"channel:site@stable,revision:{SITE.id}"
    tags = f"channel~site~stable,revision~{SITE.id},headwater"
    assert found.says("Edge-Cache-Tag") == tags
    assert found.says("x-model-digest") == SITE.id
    assert found.says("X-Content-Type-Options") == "nosniff"
    assert found.says("Content-Security-Policy").startswith("default-src 'self'")
    assert found.says("Cross-Origin-Resource-Policy") == "same-origin"
    assert found.says("Vary") == "Accept-Encoding"
    assert "Content-Encoding" not in found.headers
    assert "Content-Disposition" not in found.headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("app.js", "text/javascript; charset=utf-8"),
        ("dot.png", "image/png"),
        ("empty.css", "text/css; charset=utf-8"),
        ("[id]/a%20b.txt", "text/plain; charset=utf-8"),
        ("%5Bid%5D/a%20b.txt", "text/plain; charset=utf-8"),
    ],
)
async def test_types_are_what_the_publisher_said(
    tier: Tier, http: aiohttp.ClientSession, path: str, kind: str
) -> None:
    found = await ask(http, tier, f"site/{path}")
    assert (found.status, found.says("Content-Type")) == (200, kind)
    assert found.body == FILES[path.replace("%20", " ").replace("%5B", "[").replace("%5D", "]")]


@pytest.mark.parametrize(
    ("coding", "library"),
    [("gzip", cramjam.gzip), ("br", cramjam.brotli), ("zstd", cramjam.zstd)],
)
async def test_each_form_is_the_same_content_under_its_own_etag(
    tier: Tier, http: aiohttp.ClientSession, coding: str, library: object
) -> None:
    plain = await ask(http, tier, "site/app.js")
    found = await ask(http, tier, "site/app.js", {"Accept-Encoding": coding})
    assert found.says("Content-Encoding") == coding
    assert bytes(library.decompress(found.body)) == SCRIPT  # type: ignore[attr-defined]
    assert found.says("Content-Type") == plain.says("Content-Type")
    assert found.says("Vary") == plain.says("Vary") == "Accept-Encoding"
    assert found.says("ETag") != plain.says("ETag")
    assert len(found.body) == int(found.says("Content-Length")) < len(SCRIPT)
    again = {"Accept-Encoding": coding, "If-None-Match": found.says("ETag")}
    fresh = await ask(http, tier, "site/app.js", again)
    assert (fresh.status, fresh.body) == (304, b"")
    assert fresh.says("Vary") == "Accept-Encoding"
    other = await ask(http, tier, "site/app.js", {"If-None-Match": found.says("ETag")})
    assert other.status == 200


async def test_what_has_no_forms_does_not_vary(tier: Tier, http: aiohttp.ClientSession) -> None:
    found = await ask(http, tier, "site/dot.png", {"Accept-Encoding": "br"})
    assert (found.status, found.body) == (200, FILES["dot.png"])
    assert "Vary" not in found.headers
    assert "Content-Encoding" not in found.headers


async def test_nothing_acceptable_is_406(tier: Tier, http: aiohttp.ClientSession) -> None:
    found = await ask(http, tier, "site/dot.png", {"Accept-Encoding": "identity;q=0"})
    assert found.status == 406


async def test_head_says_the_same_without_the_body(tier: Tier, http: aiohttp.ClientSession) -> None:
    for path in ("site/app.js", "site/", "site/nowhere"):
        for accept in ({}, {"Accept-Encoding": "br"}):
            got = await ask(http, tier, path, accept)
            head = await ask(http, tier, path, accept, method="HEAD")
            assert (head.status, head.body) == (got.status, b"")
            skipped = {"Date", "Cache-Status"}  # nothing is fetched for a HEAD
            assert {k: v for k, v in head.headers.items() if k not in skipped} == {
                k: v for k, v in got.headers.items() if k not in skipped
            }


async def test_parts_are_of_the_file_itself(tier: Tier, http: aiohttp.ClientSession) -> None:
    asked = {"Range": "bytes=3990-4010", "Accept-Encoding": "br"}
    found = await ask(http, tier, "site/app.js", asked)
    assert (found.status, found.body) == (206, SCRIPT[3990:4011])
    assert found.says("Content-Range") == f"bytes 3990-4010/{len(SCRIPT)}"
    assert "Content-Encoding" not in found.headers
    beyond = await ask(http, tier, "site/app.js", {"Range": "bytes=99999-"})
    assert beyond.status == 416


async def test_a_broken_off_form_is_taken_up_again(tier: Tier, http: aiohttp.ClientSession) -> None:
    whole = await ask(http, tier, "site/app.js", {"Accept-Encoding": "gzip"})
    asked = {"Accept-Encoding": "gzip", "Range": "bytes=5-", "If-Range": whole.says("ETag")}
    rest = await ask(http, tier, "site/app.js", asked)
    assert (rest.status, rest.body) == (206, whole.body[5:])
    assert rest.says("Content-Encoding") == "gzip"
    changed = await ask(http, tier, "site/app.js", asked | {"If-Range": '"another"'})
    assert (changed.status, changed.body) == (200, SCRIPT)


async def test_names_with_a_hash_are_kept_for_ever(tier: Tier, http: aiohttp.ClientSession) -> None:
    found = await ask(http, tier, f"site/{HASHED}")
    assert found.says("Cache-Control") == "public, max-age=31536000, immutable"
    assert found.says("Surrogate-Key") == f"revision:{SITE.id}"  # a roll leaves it in caches


@pytest.mark.parametrize(
    ("path", "location"),
    [("site", "./site/"), ("site/docs", "./docs/"), ("site/docs?q=1", "./docs/?q=1")],
)
async def test_a_folder_is_led_to(
    tier: Tier, http: aiohttp.ClientSession, path: str, location: str
) -> None:
    found = await ask(http, tier, path)
    assert (found.status, found.says("Location")) == (308, location)
    async with http.get(f"{tier.url}/assets/{path}") as followed:
        assert followed.status == 200


async def test_the_sites_own_404(tier: Tier, http: aiohttp.ClientSession) -> None:
    found = await ask(http, tier, "site/nowhere.html", {"If-None-Match": "*"})
    assert (found.status, found.body) == (404, FILES["404.html"])
    assert found.says("Content-Type") == "text/html; charset=utf-8"
    assert found.says("Cache-Control") == "no-store"
    assert found.says("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize("path", ["../chat", "..%2f..%2fetc", "a%00b", "%2e%2e/x", "x//y", "é"])
async def test_a_path_that_could_climb_is_refused(
    tier: Tier, http: aiohttp.ClientSession, path: str
) -> None:
    assert (await ask(http, tier, f"site/{path}")).status == 400


@pytest.mark.parametrize("path", ["app.js.br", "app.js.gz", "manifest", "app.js/"])
async def test_forms_are_no_addresses(tier: Tier, http: aiohttp.ClientSession, path: str) -> None:
    assert (await ask(http, tier, f"site/{path}")).status == 404


async def test_no_file_of_a_model_is_offered(tier: Tier, http: aiohttp.ClientSession) -> None:
    model = make_model("chat")
    publish_in(tier.source, model)
    for path in ("chat/chat.gguf", "chat/LICENSE", "chat", f"chat@{model.id}/chat.gguf"):
        found = await ask(http, tier, path)
        assert found.status == 404
        assert b"no such static site" in found.body


async def test_other_channels_and_one_revision(tier: Tier, http: aiohttp.ClientSession) -> None:
    publish_in(tier.source, NEXT, channel="preview")
    assert (await ask(http, tier, "site/")).body == FILES["index.html"]
    preview = await ask(http, tier, "site@preview/")
    assert preview.body == NEXT.files["index.html"]
    assert preview.says("Surrogate-Key").startswith("channel:site@preview ")
    for name in (NEXT.id, NEXT.id[:40]):
        fixed = await ask(http, tier, f"site@{name}/")
        assert fixed.body == NEXT.files["index.html"]
        assert "immutable" in fixed.says("Cache-Control")
    assert (await ask(http, tier, "site@nowhere/")).status == 404
    assert (await ask(http, tier, "site@../x/")).status in {400, 404}


async def test_a_roll_is_whole_and_leaves_old_pages_their_scripts(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    builds = [make_site(page(number)) for number in range(4)]
    scripts = [next(path for path in page(number) if path.endswith(".js")) for number in range(4)]
    for number, build in enumerate(builds):
        publish_in(tier.source, build)
        shown = await ask(http, tier, "site/")
        assert shown.body == page(number)["index.html"]
    for number, status in ((3, 200), (2, 200), (1, 200), (0, 404)):  # keep_previous is 2
        found = await ask(http, tier, f"site/{scripts[number]}")
        assert found.status == status
        if status == 200:
            assert found.body == page(number)[scripts[number]]
            assert found.says("x-model-digest") == builds[number].id
            assert "immutable" in found.says("Cache-Control")


async def test_what_can_change_is_not_looked_for_in_older_revisions(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    publish_in(tier.source, make_site({"index.html": b"alone"}))
    assert (await ask(http, tier, "site/app.js")).status == 404
    assert (await ask(http, tier, f"site/{HASHED}")).status == 200


async def test_private_sites_want_a_token(tier: Tier, http: aiohttp.ClientSession) -> None:
    publish_in(tier.source, make_site(FILES, "inside"), private=True)
    _, token = tier.tokens.mint(("inside",))
    tier.tokens.refresh()
    asked = await ask(http, tier, "inside/app.js")
    assert asked.status == 401
    assert asked.says("WWW-Authenticate").startswith("Basic ")
    unknown = await ask(http, tier, "nothing/app.js")
    assert (unknown.status, unknown.says("WWW-Authenticate")) == (
        asked.status,
        asked.says("WWW-Authenticate"),
    )
    basic = aiohttp.encode_basic_auth("anybody", token)
    for given in (f"Bearer {token}", basic):
        found = await ask(http, tier, "inside/app.js", {"Authorization": given})
        assert (found.status, found.body) == (200, SCRIPT)
        assert found.says("Cache-Control") == "private, no-store"
        assert found.says("Vary") == "Authorization, Accept-Encoding"


async def test_a_taken_down_revision_is_gone(tier: Tier, http: aiohttp.ClientSession) -> None:
    publish_in(tier.source, NEXT)
    tier.source.gone.add(f"revision:{SITE.id}")
    assert (await ask(http, tier, "site/")).status == 200
    tier.source.gone.add(f"revision:{NEXT.id}")
    assert (await ask(http, tier, "site/")).status == 410


async def test_nothing_is_there_where_it_is_switched_off(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async with open_tier(tmp_path, assets=AssetsConfig(enabled=False)) as tier:
        publish_in(tier.source, SITE)
        assert (await ask(http, tier, "site/")).status == 404


async def test_an_etag_in_a_list_counts(tier: Tier, http: aiohttp.ClientSession) -> None:
    etag = (await ask(http, tier, "site/app.js")).says("ETag")
    assert etag_matches(f'"x", W/{etag}', etag)
    found = await ask(http, tier, "site/app.js", {"If-None-Match": f'"x", W/{etag}'})
    assert found.status == 304


async def test_a_field_on_two_lines_is_one(tier: Tier) -> None:
    lines = "Accept-Encoding: gzip;q=0.5\r\nAccept-Encoding: br\r\n"
    answer = await raw(tier, f"GET /assets/site/app.js HTTP/1.1\r\nHost: x\r\n{lines}".encode())
    assert b"Content-Encoding: br\r\n" in answer


@pytest.mark.parametrize("target", [b"docs?\xff\xfe", b"docs?\xc3\xa9", b"\xff", b"docs\xff/"])
async def test_bytes_that_are_no_text_break_nothing(tier: Tier, target: bytes) -> None:
    answer = await raw(tier, b"GET /assets/site/" + target + b" HTTP/1.1\r\nHost: x\r\n")
    assert answer.partition(b" ")[2][:3] in {b"308", b"400"}


async def raw(tier: Tier, request: bytes) -> bytes:
    """What comes back to bytes that no client library would send."""
    at = URL(tier.url)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(request + b"Connection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer
