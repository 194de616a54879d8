from __future__ import annotations

import hashlib
import hmac
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from origin.purge_config import PurgeStyle
from origin.purge_requests import (
    KEYS_A_BAN,
    KEYS_A_WEBHOOK,
    TAGS_A_PURGE,
    PurgeRequest,
    paths_of,
    requests_for,
    sign,
)
from wire.paths import MAX_EDGE_TAG

ID = "0a" * 32
CHUNK, REVISION, CHANNEL = f"chunk:{ID}", f"revision:{ID}", "channel:chat-v1.2@stable"


def told(style: PurgeStyle, wants: dict[str, bool]) -> list[PurgeRequest]:
    return requests_for(style, wants, secret="s3cret", root_version=2, now_s=1_700_000_000.9)


def test_varnish_gets_keys_in_headers_that_it_can_take() -> None:
    wants = {f"chunk:{number:064x}": True for number in range(70)}
    requests = told("varnish", wants)
    assert [len(request.keys) for request in requests] == [KEYS_A_BAN, KEYS_A_BAN, 6]
    assert [key for request in requests for key in request.keys] == list(wants)
    for request in requests:
        assert (request.method, request.path) == ("BAN", "/")
        assert request.headers["Headwater-Purge"] == "|".join(request.keys)
        assert request.headers["Headwater-Purge-Secret"] == "s3cret"
        assert len(request.headers["Headwater-Purge"]) < 4_000


def test_a_reset_takes_everything_with_it() -> None:
    (request,) = told("varnish", {CHANNEL: False, "*": False})
    assert request.headers["Headwater-Purge"] == "*"
    assert request.keys == (CHANNEL, "*")


@pytest.mark.parametrize(
    ("key", "paths"),
    [
        (CHANNEL, ["/artifacts/channels/chat-v1.2/stable"]),
        (CHUNK, [f"/artifacts/chunks/{ID}"]),
        (REVISION, [f"/artifacts/manifests/{ID}"]),
        (
            "trust",
            [
                *(f"/artifacts/trust/bundle?root={version}" for version in (0, 1, 2)),
                "/artifacts/trust/timestamp.json",
                "/artifacts/takedowns",
            ],
        ),
    ],
)
def test_nginx_gets_each_path(key: str, paths: list[str]) -> None:
    assert list(paths_of(key, 2)) == paths
    requests = told("nginx", {key: False})
    assert [request.path for request in requests] == paths
    assert all(request.needs_bypass and request.method == "GET" for request in requests)
    hard = {"Headwater-Hard" in request.headers for request in requests}
    assert hard == {key.startswith(("chunk:", "revision:"))}


def test_paths_of_trust_are_bounded() -> None:
    assert len(list(paths_of("trust", 10_000))) < 25


def test_a_webhook_is_signed_over_time_and_body() -> None:
    (request,) = told("webhook", {CHANNEL: False})
    assert json.loads(request.body) == {
        "keys": [CHANNEL],
        "tags": ["channel~chat-v1.2~stable"],
        "hard": False,
    }
    assert request.headers["Headwater-Timestamp"] == "1700000000"
    wanted = hmac.new(b"s3cret", b"1700000000." + request.body, hashlib.sha256).hexdigest()
    assert request.headers["Headwater-Signature"] == f"v1={wanted}"
    assert sign("s3cret", "1700000001", request.body) != f"v1={wanted}"
    assert "s3cret" not in str(request.headers)


def test_a_webhook_says_hard_of_what_is_hard() -> None:
    wants = {f"chunk:{number:064x}": number % 2 == 0 for number in range(2 * KEYS_A_WEBHOOK + 4)}
    requests = told("webhook", wants)
    assert [len(request.keys) for request in requests] == [KEYS_A_WEBHOOK, 2] * 2
    for request in requests:
        assert {wants[key] for key in request.keys} == {json.loads(request.body)["hard"]}


def test_a_fast_purge_never_has_more_than_akamai_takes() -> None:
    """Tags of the longest that are not told by their hash."""
    wants = {f"channel:{'m' * 59}@{n:060d}": n % 2 == 0 for n in range(2 * TAGS_A_PURGE + 4)}
    requests = told("akamai", wants)
    assert [len(request.keys) for request in requests] == [TAGS_A_PURGE, 2] * 2
    for request in requests:
        action = "delete" if wants[request.keys[0]] else "invalidate"
        assert (request.method, request.path) == ("POST", f"/ccu/v3/{action}/tag/production")
        objects = json.loads(request.body)["objects"]
        assert set(map(len, objects)) == {MAX_EDGE_TAG}
        assert len(objects) == len(request.keys)
        assert len(request.body) < 50_000


def test_secrets_are_not_shown() -> None:
    for style in ("varnish", "nginx", "webhook"):
        for request in told(style, {CHANNEL: True}):
            assert "s3cret" not in repr(request)


@given(st.dictionaries(st.text(max_size=40), st.booleans(), max_size=8))
def test_what_is_no_key_becomes_no_request(wants: dict[str, bool]) -> None:
    for style in ("varnish", "nginx", "akamai", "webhook"):
        for request in told(style, wants):
            assert set(request.keys) <= wants.keys()
            assert re.fullmatch(r"[A-Za-z0-9/._@?=-]*", request.path)
            assert all(
                value.isprintable() and value.isascii() for value in request.headers.values()
            )
