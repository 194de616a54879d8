"""The bundle's format: bytes preserved, sizes bounded."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import NotFoundError, TrustError
from wire.trust_bundle import (
    FORMAT,
    ROLES,
    TrustBundle,
    TrustLimits,
    decode_bundle,
    encode_bundle,
    role_document,
)

LIMITS = TrustLimits()

files = st.text(max_size=60).map(str.encode)
bundles = st.builds(
    TrustBundle,
    st.fixed_dictionaries(dict.fromkeys(ROLES, files)),
    st.dictionaries(st.integers(1, 2**40), files, max_size=4),
)


def bundle_of(size: int = 2, *, roots: int = 0) -> TrustBundle:
    roles = dict.fromkeys(ROLES, b"{" + b" " * (size - 2) + b"}")
    return TrustBundle(roles, dict.fromkeys(range(2, 2 + roots), b"{}"))


@given(bundles)
def test_files_come_out_byte_for_byte(bundle: TrustBundle) -> None:
    assert decode_bundle(encode_bundle(bundle), LIMITS) == bundle


@given(bundles)
def test_roots_come_in_order(bundle: TrustBundle) -> None:
    wire = json.loads(encode_bundle(bundle))
    assert list(map(int, wire["roots"])) == sorted(bundle.roots)


@given(bundles, st.integers(0, 2**40))
def test_after_leaves_only_newer_roots(bundle: TrustBundle, version: int) -> None:
    assert set(bundle.after(version).roots) == {v for v in bundle.roots if v > version}


@given(st.binary(max_size=300))
def test_random_bytes_are_no_bundle(data: bytes) -> None:
    with pytest.raises(TrustError):
        decode_bundle(data, LIMITS)


def test_endless_bundle_is_refused_before_it_is_read() -> None:
    with pytest.raises(TrustError, match="over 1000 B"):
        decode_bundle(b"\x00" * 1001, replace(LIMITS, bundle_bytes=1000))


@pytest.mark.parametrize("role", ROLES)
def test_endless_role_is_refused(role: str) -> None:
    limits = replace(LIMITS, **{f"{role}_bytes": 99})
    with pytest.raises(TrustError, match=rf"{role} of 100 B is over 99 B"):
        decode_bundle(encode_bundle(bundle_of(100)), limits)


def test_limit_counts_bytes_and_not_characters() -> None:
    bundle = TrustBundle({**bundle_of().roles, "timestamp": "é".encode() * 60})
    with pytest.raises(TrustError, match="timestamp of 120 B"):
        decode_bundle(encode_bundle(bundle), replace(LIMITS, timestamp_bytes=100))


def test_endless_roots_are_refused() -> None:
    data = encode_bundle(bundle_of(roots=3))
    assert len(decode_bundle(data, replace(LIMITS, roots=3)).roots) == 3
    with pytest.raises(TrustError, match="holds 3 roots"):
        decode_bundle(data, replace(LIMITS, roots=2))
    with pytest.raises(TrustError, match=r"root 2 of 2 B is over 1 B"):
        decode_bundle(data, replace(LIMITS, root_bytes=1))


@pytest.mark.parametrize("role", ROLES)
def test_bundle_without_a_role_is_refused(role: str) -> None:
    wire = json.loads(encode_bundle(bundle_of()))
    del wire[role]
    with pytest.raises(TrustError, match=role):
        decode_bundle(json.dumps(wire).encode(), LIMITS)


def test_bundle_of_another_format_is_refused() -> None:
    data = encode_bundle(bundle_of()).replace(FORMAT.encode(), b"headwater.trust-bundle/2")
    with pytest.raises(TrustError, match="format"):
        decode_bundle(data, LIMITS)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(TrustError):
        decode_bundle(b'{"format":' + b"[" * 1_000_000, LIMITS)


def signed(version: int) -> bytes:
    return json.dumps({"signatures": [], "signed": {"version": version}}).encode()


NAMED = TrustBundle(
    {role: signed(number) for number, role in enumerate(ROLES, 10)}, {2: signed(2), 3: signed(3)}
)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("timestamp.json", 10),
        ("11.snapshot.json", 11),
        ("12.targets.json", 12),
        ("13.revisions.json", 13),
        ("14.channels.json", 14),
        ("2.root.json", 2),
        ("3.root.json", 3),
    ],
)
def test_document_is_found_by_the_name_of_the_specification(name: str, version: int) -> None:
    assert role_document(NAMED, name) == signed(version)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "root.json",
        "snapshot.json",
        "12.snapshot.json",
        "4.root.json",
        "1.timestamp.json",
        "11.snapshot",
        "11.snapshot.json.json",
        "../11.snapshot.json",
        "-2.root.json",
        "²2.root.json",
        "9999999999.root.json",
    ],
)
def test_document_of_another_name_or_version_is_not_found(name: str) -> None:
    with pytest.raises(NotFoundError):
        role_document(NAMED, name)


@given(st.text(max_size=30))
def test_any_name_finds_a_file_of_the_bundle_or_nothing(name: str) -> None:
    try:
        found = role_document(NAMED, name)
    except NotFoundError:
        return
    assert found in {*NAMED.roles.values(), *NAMED.roots.values()}


def test_document_without_a_version_is_refused() -> None:
    with pytest.raises(TrustError, match="malformed"):
        role_document(bundle_of(), "1.snapshot.json")
