from __future__ import annotations

import base64
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.facades import make_model, publish_in
from tests.fakes.revisions import SignedSource
from tests.fakes.waiting import until
from wire.catalog import CatalogMissingError, CatalogSource
from wire.errors import NotFoundError
from wire.http_access import (
    PRIVATE_HEADERS,
    PUBLIC_HEADERS,
    SERVICE,
    Access,
    credential,
    tag_headers,
)
from wire.http_server import background
from wire.pull_tokens import ANYBODY, REFUSED, PullTokens
from wire.signed_urls import Signer

OPEN, SECRET, UNSIGNED = (make_model("chat"), make_model("secret"), make_model("other"))


@pytest.fixture
def access(tmp_path: Path) -> Access:
    source = SignedSource()
    publish_in(source, OPEN)
    publish_in(source, SECRET, private=True)
    catalog = CatalogSource(lambda: source.repository.view)
    return Access(catalog, PullTokens(tmp_path / "tokens"), Signer("s"), ("worker", "admin"))


def asking(authorization: str = "") -> web.Request:
    headers = {"Authorization": authorization} if authorization else {}
    return make_mocked_request("GET", "/", headers=headers)


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_a_credential_comes_as_bearer_or_as_basic() -> None:
    for header in ("Bearer t", "bearer  t", basic("name:t"), basic("t:"), basic("t")):
        assert credential(header) == "t"
    for header in ("", "t", "Digest t", "Basic !", "Basic é", "Bearer " + "x" * 5_000):
        assert credential(header) == ""


@given(st.text())
def test_no_header_does_worse_than_none(header: str) -> None:
    assert isinstance(credential(header), str)
    assert isinstance(credential("Basic " + header), str)


async def test_readers_are_told_by_what_they_show(access: Access) -> None:
    record, token = access.tokens.mint(["sec*"])
    short = access.signer.token(record.token_id, 60)
    anonymous = access.signer.token("", 60)
    for shown, reader in (
        ("", ANYBODY),
        (f"Bearer {token}", record.reader()),
        (basic(f"me:{token}"), record.reader()),
        (f"Bearer {short}", record.reader()),
        (f"Bearer {anonymous}", ANYBODY),
        (f"Bearer {access.signer.token('service', 60)}", SERVICE),
        ("Bearer worker", SERVICE),
        ("Bearer admin", SERVICE),
        ("Bearer nothing", REFUSED),
        ("c2lnbmF0dXJl:a2V5", REFUSED),
    ):
        assert access.reader(asking(shown)) == reader, shown
    access.tokens.revoke(record.token_id)
    assert access.reader(asking(f"Bearer {short}")) == REFUSED


async def test_the_guard_tells_what_caches_may_do(access: Access) -> None:
    _, token = access.tokens.mint(["sec*"])
    _, other = access.tokens.mint(["other"])
    holder, service = asking(f"Bearer {token}"), asking("Bearer worker")
    assert access.caching(asking(), OPEN.id) == PUBLIC_HEADERS
    assert access.caching(holder, SECRET.id) == PRIVATE_HEADERS
    assert access.caching(service, SECRET.id) == PRIVATE_HEADERS
    assert access.caching(service, UNSIGNED.id) == PRIVATE_HEADERS
    for request in (asking(), asking(f"Bearer {other}"), asking("Bearer nothing")):
        for revision in (SECRET.id, UNSIGNED.id):
            with pytest.raises(NotFoundError, match=f"no revision {revision}, or it needs"):
                access.caching(request, revision)


async def test_without_verified_metadata_nothing_is_known_to_be_public(tmp_path: Path) -> None:
    access = Access(CatalogSource(lambda: None), PullTokens(tmp_path / "tokens"), Signer("s"))
    with pytest.raises(CatalogMissingError):
        access.caching(asking(), OPEN.id)


async def test_the_file_of_tokens_is_followed(access: Access) -> None:
    follower = background("pull-tokens", access.watch)(web.Application())
    await anext(follower)
    _, token = PullTokens(access.tokens.path).mint(["*"])
    await until(lambda: access.reader(asking(f"Bearer {token}")).known)
    access.tokens.path.write_text("{")
    await until(lambda: access.reader(asking(f"Bearer {token}")).known)
    await anext(follower, None)


def test_every_kind_of_cache_gets_its_tag() -> None:
    assert tag_headers("channel:chat@stable") == {
        "Surrogate-Key": "channel:chat@stable",
        "Cache-Tag": "channel:chat@stable",
        "Edge-Cache-Tag": "channel~chat~stable,headwater",
    }
