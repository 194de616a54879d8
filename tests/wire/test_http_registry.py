from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.fakes.facades import Tier, make_model, open_tier, publish_in
from tests.fakes.sites import make_site
from wire.catalog import FacadeConfig
from wire.paths import revision_key
from wire.registry import digest_of

PUBLIC = make_model("chat", variants=("Q8_0", "Q4_K_M"))
SECRET = make_model("secret", seed=1)
WEIGHTS = digest_of(SECRET.files["secret.gguf"])
OCI = {"Accept": "application/vnd.oci.image.manifest.v1+json"}


@pytest.fixture
async def tier(tmp_path: Path) -> AsyncIterator[Tier]:
    async with open_tier(tmp_path) as tier:
        publish_in(tier.source, PUBLIC)
        publish_in(tier.source, SECRET, private=True)
        yield tier


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def test_a_registry_answers_at_its_root(tier: Tier, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{tier.url}/v2/") as answer:
        assert (answer.status, await answer.json()) == (200, {})
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    async with http.get(f"{tier.url}/v2/", headers={"Authorization": "Bearer x"}) as answer:
        assert answer.status == 401


@pytest.mark.parametrize("accept", [{}, OCI])
async def test_every_digest_that_a_manifest_names_is_there(
    tier: Tier, http: aiohttp.ClientSession, accept: dict[str, str]
) -> None:
    base = f"{tier.url}/v2/library/chat"
    async with http.get(f"{base}/manifests/latest", headers=accept) as answer:
        manifest = await answer.json(content_type=None)
        assert answer.headers["Vary"] == "Accept"
    for layer in [manifest["config"], *manifest["layers"]]:
        url = f"{base}/blobs/{layer['digest']}"
        async with http.head(url) as head, http.get(url) as whole:
            data = await whole.read()
            assert head.headers["Content-Length"] == str(len(data)) == str(layer["size"])
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
            assert whole.headers["Location"] == URL(url).path
        async with http.get(url, headers={"Range": "bytes=1-2"}) as part:
            assert (part.status, await part.read()) == (206, data[1:3])


async def test_a_manifest_is_told_of_without_being_sent(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    url = f"{tier.url}/v2/chat/manifests/stable"
    async with http.head(url, headers=OCI) as head, http.get(url, headers=OCI) as whole:
        assert head.headers["Content-Length"] == str(len(await whole.read()))
        for name in ("Content-Type", "Docker-Content-Digest", "ETag"):
            assert head.headers[name] == whole.headers[name]
        etag = {**OCI, "If-None-Match": whole.headers["ETag"]}
    async with http.get(url, headers=etag) as answer:
        assert answer.status == 304


async def test_a_small_blob_is_found_by_a_tier_that_never_made_it(
    tier: Tier, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with http.get(f"{tier.url}/v2/chat/manifests/stable") as answer:
        config = (await answer.json(content_type=None))["config"]["digest"]
    async with open_tier(tmp_path / "other") as other:
        publish_in(other.source, PUBLIC)
        async with http.get(f"{other.url}/v2/chat/blobs/{config}") as found:
            assert found.status == 200


async def test_digests_that_are_nowhere_are_looked_for_once(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    for number in range(5):
        digest = f"sha256:{number:064x}"
        async with http.get(f"{tier.url}/v2/chat/blobs/{digest}") as answer:
            assert answer.status == 404
            assert (await answer.json())["errors"][0]["code"] == "BLOB_UNKNOWN"
        async with http.get(f"{tier.url}/v2/chat/manifests/{digest}") as answer:
            assert (await answer.json())["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    assert tier.source.calls[revision_key(PUBLIC.id)] == 1


async def test_the_token_endpoint_gives_tokens_that_open_the_same(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    record, token = tier.tokens.mint(["sec*"])
    url = f"{tier.url}/v2/headwater/secret/manifests/stable"
    async with http.get(url) as refused:
        assert refused.status == 401
        challenge = refused.headers["WWW-Authenticate"]
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    assert fields["scope"] == "repository:headwater/secret:pull"
    shown = base64.b64encode(f"pull:{token}".encode()).decode()
    made = {}
    for name, authorization in (
        ("basic", f"Basic {shown}"),
        ("bearer", f"Bearer {token}"),
        ("nothing", ""),
        ("ollama", "a2V5:c2lnbmF0dXJl"),
    ):
        headers = {"Authorization": authorization} if authorization else {}
        async with http.get(fields["realm"], params=fields, headers=headers) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
            made[name] = {"Authorization": f"Bearer {(await answer.json())['token']}"}
    for name, status in (("basic", 200), ("bearer", 200), ("nothing", 401), ("ollama", 401)):
        async with http.get(url, headers=made[name]) as answer:
            assert answer.status == status, name
    tier.tokens.revoke(record.token_id)
    async with http.get(url, headers=made["basic"]) as answer:
        assert answer.status == 401
    wrong = base64.b64encode(b"pull:wrong").decode()
    async with http.get(fields["realm"], headers={"Authorization": f"Basic {wrong}"}) as answer:
        assert answer.status == 401


async def test_the_address_of_a_private_blob_expires(
    http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with open_tier(tmp_path, config=FacadeConfig(signed_url_s=-1.0)) as tier:
        publish_in(tier.source, SECRET, private=True)
        _, token = tier.tokens.mint(["*"])
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{tier.url}/v2/secret/blobs/{WEIGHTS}"
        async with http.get(url, headers=headers, allow_redirects=False) as sent:
            assert sent.status == 307
            location = sent.headers["Location"]
        async with http.get(URL(tier.url + location, encoded=True)) as answer:
            assert answer.status == 401


async def test_the_address_of_a_private_blob_needs_no_credential(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    _, token = tier.tokens.mint(["secret"])
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{tier.url}/v2/secret/blobs/{WEIGHTS}"
    async with http.get(url, headers=headers, allow_redirects=False) as sent:
        location = sent.headers["Location"]
    assert location.startswith("/v2/secret/blobs/sha256:")
    direct = URL(tier.url + location, encoded=True)
    async with http.get(direct, headers={"Range": "bytes=0-9"}) as part:
        assert (part.status, await part.read()) == (206, SECRET.files["secret.gguf"][:10])
        assert part.headers["Cache-Control"] == "private, no-store"
        assert part.headers["CDN-Cache-Control"] == "no-store"
        assert part.headers["Location"].startswith("/v2/secret/blobs/sha256:")
    async with http.head(url, headers=headers, allow_redirects=False) as head:
        assert head.status == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("chat/manifests/v9", 404, "MANIFEST_UNKNOWN"),
        ("chat/manifests/stable-Q2_K", 404, "MANIFEST_UNKNOWN"),
        ("chat/manifests/" + "x" * 300, 404, "MANIFEST_UNKNOWN"),
        ("chat/manifests/sha256:x", 400, "DIGEST_INVALID"),
        ("chat/blobs/md5:" + "a" * 64, 400, "DIGEST_INVALID"),
        ("chat/blobs/sha256:" + "A" * 64, 400, "DIGEST_INVALID"),
        ("elsewhere/chat/manifests/latest", 401, "UNAUTHORIZED"),
        ("..%2f..%2fchat/manifests/latest", 400, "NAME_INVALID"),
        ("elsewhere/more/chat/manifests/latest", 401, "UNAUTHORIZED"),
        ("x/" * 300 + "chat/manifests/latest", 400, "NAME_INVALID"),
        ("chat/tags/list?n=x", 400, "REQUEST_INVALID"),
        ("_catalog", 404, "NOT_FOUND"),
    ],
)
async def test_refusals_have_the_shape_of_a_registry(
    tier: Tier, http: aiohttp.ClientSession, path: str, status: int, code: str
) -> None:
    async with http.get(URL(f"{tier.url}/v2/{path}", encoded=True)) as answer:
        body: Any = await answer.json()
        assert (answer.status, body["errors"][0]["code"]) == (status, code)


async def test_what_was_taken_down_is_not_found_by_its_digests(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    tier.source.gone.add(revision_key(PUBLIC.id))
    digest = digest_of(PUBLIC.files["chat-Q8_0.gguf"])
    async with http.get(f"{tier.url}/v2/chat/blobs/{digest}") as answer:
        assert answer.status == 404
    async with http.get(f"{tier.url}/v2/chat/manifests/stable") as answer:
        assert answer.status == 410


async def test_a_static_site_is_an_image_for_oci_clients_and_nothing_for_ollama(
    tier: Tier, http: aiohttp.ClientSession
) -> None:
    publish_in(tier.source, make_site({"index.html": b"page"}))
    url = f"{tier.url}/v2/site/manifests/latest"
    async with http.get(url) as answer:
        assert answer.status == 404
        assert (await answer.json())["errors"][0]["code"] == "MANIFEST_UNKNOWN"
    async with http.get(url, headers=OCI) as answer:
        layers = (await answer.json(content_type=None))["layers"]
        assert [layer["annotations"]["org.cncf.model.filepath"] for layer in layers] == [
            "index.html"
        ]
