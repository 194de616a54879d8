from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_tier.gateway.key_records import (
    KeyRecord,
    decode_records,
    encode_records,
    key_id_of,
    new_key,
)
from edge_tier.gateway.request import Limits, Policy
from wire.errors import ConfigError

RECORD = KeyRecord(
    key_id="acme0001",
    tenant="acme",
    scopes=frozenset({"chat"}),
    limits=Limits(),
    policy=Policy(models=("chat-small",)),
    created=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    digest="ab" * 32,
    note="the nightly job",
)


def test_records_survive_the_file() -> None:
    revoked = msgspec.structs.replace(RECORD, key_id="acme0002", revoked=RECORD.created)
    assert decode_records(encode_records([RECORD, revoked])) == {
        "acme0001": RECORD,
        "acme0002": revoked,
    }


def test_a_record_shows_no_digest() -> None:
    assert repr(RECORD) == "KeyRecord(key_id='acme0001', tenant='acme', valid)"
    assert RECORD.digest not in f"{RECORD} {[RECORD]!r}"


def test_a_caller_is_the_record_without_its_secrets() -> None:
    caller = RECORD.caller()
    assert (caller.key_id, caller.tenant, caller.policy) == ("acme0001", "acme", RECORD.policy)
    assert not hasattr(caller, "digest")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"key_id": "../etc"}, "key id"),
        ({"key_id": "ABC"}, "key id"),
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"tenant": "a" * 129}, "tenant"),
        ({"digest": "ab"}, "digest"),
        ({"scopes": frozenset()}, "scope"),
        ({"note": "n" * 257}, "note"),
        ({"limits": Limits(requests_per_minute=-1)}, "limit"),
        ({"limits": Limits(tokens_per_minute=-1)}, "limit"),
    ],
)
def test_a_record_that_cannot_be_one_is_named(change: dict[str, Any], complaint: str) -> None:
    record = msgspec.structs.replace(RECORD, **change)
    assert complaint in (record.problem() or "")
    with pytest.raises(ConfigError, match=complaint):
        decode_records(encode_records([record]))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"version":3,"keys":[]}',
        b'{"version":1,"keys":[{"key_id":"a"}]}',
        b'{"version":1,"keys":[],"more":1}',
    ],
)
def test_what_is_no_key_file_is_refused(data: bytes) -> None:
    with pytest.raises(ConfigError, match="not a key file"):
        decode_records(data)


def test_a_scope_nobody_knows_is_refused() -> None:
    data = encode_records([RECORD]).replace(b'"chat"', b'"root"', 1)
    with pytest.raises(ConfigError, match="not a key file"):
        decode_records(data)


def test_a_key_id_stands_only_once() -> None:
    with pytest.raises(ConfigError, match="twice"):
        decode_records(encode_records([RECORD, RECORD]))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_key_file_or_refused(data: bytes) -> None:
    with suppress(ConfigError):
        assert isinstance(decode_records(data), dict)


def test_a_new_key_has_190_secret_bits_and_a_public_id() -> None:
    key_id, key = new_key(())
    assert re.fullmatch(r"hw-[a-z0-9]{8}-[A-Za-z0-9]{32}", key)
    assert key_id_of(key) == key_id
    assert len({new_key(())[1] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "key",
    [
        "",
        "hw-",
        "hw--" + "a" * 32,
        "sk-acme0001-" + "a" * 32,
        "hw-acme0001-" + "a" * 26,
        "hw-acme0001-" + "a" * 65,
        "hw-acme0001-" + "a" * 32 + "\n",
        "hw-ACME0001-" + "a" * 32,
        "hw-acme0001-" + "а" * 32,  # Cyrillic
        "hw-acme0001-" + "a" * 31 + "\udc80",
        "hw-acme0001-" + "a" * 31 + "-",
    ],
)
def test_what_has_not_the_form_of_a_key_has_no_id(key: str) -> None:
    assert key_id_of(key) is None
