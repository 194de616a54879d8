from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from yarl import URL

from tests.fakes.facades import Tier, make_model, open_tier, publish_in
from tests.fakes.sites import make_site
from wire.catalog import FacadeConfig
from wire.errors import RequestInvalidError
from wire.http_hub import base_url
from wire.paths import revision_key

OLD, NEW = (make_model("chat", seed=seed, extra={"a/b.txt": b"b"}) for seed in (0, 1))
SECRET = make_model("secret", seed=2)
COMMIT = OLD.id[:40]


@pytest.fixture
async def tier(tmp_path: Path) -> AsyncIterator[Tier]:
    async with open_tier(tmp_path) as tier:
        publish_in(tier.source, OLD)
        publish_in(tier.source, SECRET, private=True)
        yield tier


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield session


@pytest.mark.parametrize("method", ["HEAD", "GET"])
async def test_a_moving_name_leads_to_the_commit(
    tier: Tier, http: aiohttp.ClientSession, method: str
) -> None:
    url = f"{tier.url}/headwater/chat/resolve/main/a/b.txt"
    async with http.request(method, url, allow_redirects=False) as sent:
        assert sent.status == 307
        assert sent.headers["Location"] == f"/headwater/chat/resolve/{COMMIT}/a/b.txt"
        assert sent.headers["X-Repo-Commit"] == COMMIT
        assert sent.headers["Surrogate-Key"] == "channel:chat@stable"
        assert "max-age=5," in sent.headers["Cache-Control"]


async def test_a_file_carries_what_clients_want_to_know(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    entry = OLD.manifest.file("chat.gguf")
    url = f"{tier.url}/chat/resolve/{COMMIT}/chat.gguf"
    headers = {"Accept-Encoding": "gzip, br"}
    for method in ("HEAD", "GET"):
        async with http.request(method, url, headers=headers) as answer:
            assert answer.status == 200
            body = await answer.read()
            seen = answer.headers
    assert body == OLD.files["chat.gguf"]
    assert seen["X-Repo-Commit"] == COMMIT
    assert seen["X-Linked-Etag"] == seen["ETag"] == f'"{entry.sha256}"'
    assert seen["X-Linked-Size"] == seen["Content-Length"] == str(entry.size)
    assert seen["Accept-Ranges"] == "bytes"
    assert "immutable" in seen["Cache-Control"]
    assert not {"Content-Encoding", "X-Xet-Hash"} & set(seen)


async def test_ranges_and_conditions(tier: Tier, http: aiohttp.ClientSession) -> None:
    url, data = f"{tier.url}/chat/resolve/{COMMIT}/chat.gguf", OLD.files["chat.gguf"]
    etag = f'"{OLD.manifest.file("chat.gguf").sha256}"'
    for given, status, body in (
        ({"Range": "bytes=100-"}, 206, data[100:]),
        ({"Range": "bytes=100-", "If-Range": etag}, 206, data[100:]),
        ({"Range": "bytes=100-", "If-Range": '"x"'}, 200, data),
        ({"If-None-Match": etag}, 304, b""),
    ):
        async with http.get(url, headers=given) as answer:
            assert (answer.status, await answer.read()) == (status, body)
    async with http.get(url, headers={"Range": f"bytes={len(data)}-"}) as answer:
        assert answer.status == 416


async def test_after_a_roll_the_name_leads_elsewhere_and_the_commit_stays(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    publish_in(tier.source, NEW)
    async with http.get(f"{tier.url}/chat/resolve/main/chat.gguf") as moved:
        assert await moved.read() == NEW.files["chat.gguf"]
    async with http.get(f"{tier.url}/chat/resolve/{COMMIT}/chat.gguf") as stayed:
        assert await stayed.read() == OLD.files["chat.gguf"]


async def test_pages_of_the_tree_stay_on_one_revision(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    url = f"{tier.url}/api/models/headwater/chat/tree/main?recursive=true&expand=false&limit=2"
    seen: list[str] = []
    while url:
        async with http.get(URL(url, encoded=True)) as answer:
            seen += [entry["path"] for entry in await answer.json()]
            url = str(answer.links["next"]["url"]) if answer.links else ""
            assert url == "" or COMMIT in url
        publish_in(tier.source, NEW)
    assert seen == sorted({*OLD.files, "a"})


async def test_a_listing_fits_on_one_page_by_itself(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    async with http.get(f"{tier.url}/api/models/chat/tree/{COMMIT}?recursive=1") as answer:
        assert len(await answer.json()) == len(OLD.files) + 1
        assert "Link" not in answer.headers


async def test_branches_are_those_that_the_reader_may_have(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    hidden = make_model("chat", seed=9)
    publish_in(tier.source, hidden, private=True, channel="hidden")
    _, token = tier.tokens.mint(["chat"])
    url = f"{tier.url}/api/models/chat/refs"
    seen = {}
    for shown in ("", token):
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        async with http.get(url, headers=headers) as answer:
            assert answer.headers["Vary"] == "Authorization"
            assert ("private" in answer.headers["Cache-Control"]) is bool(shown)
            branches = (await answer.json())["branches"]
            seen[shown] = {branch["name"] for branch in branches}
    assert seen == {"": {"main", "stable"}, token: {"main", "stable", "hidden"}}


@pytest.mark.parametrize(
    "path",
    [
        "api/models/headwater/{}",
        "api/models/{}/refs",
        "api/models/headwater/{}/tree/main",
        "api/models/headwater/{}/revision/v9",
        "headwater/{}/resolve/main/x",
    ],
)
async def test_private_is_refused_like_absent(
    tier: Tier, http: aiohttp.ClientSession, path: str
) -> None:
    answers = []
    for model in ("secret", "absent"):
        async with http.get(f"{tier.url}/{path.format(model)}") as answer:
            assert answer.status == 401
            assert answer.headers["X-Error-Code"] == "RepoNotFound"
            assert answer.headers["Cache-Control"] == "no-store"
            seen = {k: v for k, v in answer.headers.items() if k not in {"Date", "Content-Length"}}
            answers.append(str((seen, await answer.text())).replace(model, "x"))
    assert answers[0] == answers[1]


async def test_a_pull_token_opens_what_it_names(tier: Tier, http: aiohttp.ClientSession) -> None:
    record, token = tier.tokens.mint(["sec*"])
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get(f"{tier.url}/secret/resolve/main/secret.gguf", headers=headers) as answer:
        assert await answer.read() == SECRET.files["secret.gguf"]
        assert answer.headers["Cache-Control"] == "private, no-store"
    async with http.get(f"{tier.url}/api/whoami-v2", headers=headers) as answer:
        assert (await answer.json())["name"] == record.token_id
    async with http.get(f"{tier.url}/api/whoami-v2") as answer:
        assert answer.status == 401


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("headwater/chat/resolve/main/none", 404, "EntryNotFound"),
        ("headwater/chat/resolve/v9/chat.gguf", 404, "RevisionNotFound"),
        ("headwater/chat/resolve/refs%2Fpr%2F1/chat.gguf", 404, "RevisionNotFound"),
        ("headwater/chat/resolve/main/..%2f..%2fetc%2fpasswd", 400, None),
        ("headwater/chat/resolve/main/a%00b", 400, None),
        ("%2e%2e/chat/resolve/main/x", 400, None),
        ("a%20b/resolve/main/x", 400, None),
        ("elsewhere/chat/resolve/main/x", 401, "RepoNotFound"),
        ("api/models/headwater/chat/tree/main/none", 404, "EntryNotFound"),
        ("api/models/headwater/chat/tree/main?limit=x", 400, None),
        ("api/models/headwater/chat/other/x", 404, "EntryNotFound"),
        ("api/models/" + "x" * 500, 400, None),
        ("api/models/..%2f..%2fetc", 400, None),
        ("api/agent-harnesses", 404, None),
    ],
)
async def test_what_is_not_there_or_cannot_be_says_so(
    tier: Tier, http: aiohttp.ClientSession, path: str, status: int, code: str | None
) -> None:
    async with http.get(URL(f"{tier.url}/{path}", encoded=True)) as answer:
        assert (answer.status, answer.headers.get("X-Error-Code")) == (status, code)


async def test_what_was_taken_down_is_disabled(tier: Tier, http: aiohttp.ClientSession) -> None:
    tier.source.gone.add(revision_key(OLD.id))
    async with http.get(f"{tier.url}/chat/resolve/{COMMIT}/chat.gguf") as answer:
        assert answer.status == 410
        assert answer.headers["X-Error-Message"] == "Access to this resource is disabled."


async def test_a_hostile_host_header_gets_into_no_answer(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    url = f"{tier.url}/api/models/chat/tree/main?limit=1"
    async with http.get(url, headers={"Host": 'x"><evil'}) as answer:
        assert answer.status == 400
        assert "Link" not in answer.headers


async def test_the_configured_address_is_named(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    config = FacadeConfig(public_url="https://models.example/", namespaces=("acme",))
    async with open_tier(tmp_path, config=config) as tier:
        publish_in(tier.source, OLD)
        async with http.get(f"{tier.url}/api/models/acme/chat/tree/main?limit=1") as answer:
            assert str(answer.links["next"]["url"]).startswith("https://models.example/api/")
        async with http.get(f"{tier.url}/api/models/headwater/chat") as answer:
            assert answer.status == 401
        async with http.get(f"{tier.url}/v2/acme/absent/tags/list") as answer:
            assert 'realm="https://models.example/v2/token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("host", ["a b", "", "h\u00e4", "a/b", "[::1", "x:999999"])
def test_only_hosts_are_repeated(host: str) -> None:
    request: Any = make_mocked_request("GET", "/", headers={"Host": host})
    with pytest.raises(RequestInvalidError):
        base_url(request, "")


async def test_a_static_site_is_files_without_weights(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    site = make_site({"index.html": b"page"})
    publish_in(tier.source, site)
    async with http.get(f"{tier.url}/api/models/site") as answer:
        info = await answer.json()
    assert [file["rfilename"] for file in info["siblings"]] == ["index.html"]
    async with http.get(f"{tier.url}/site/resolve/{site.id[:40]}/index.html") as answer:
        assert await answer.read() == b"page"
        assert answer.headers["Content-Type"] == "application/octet-stream"
