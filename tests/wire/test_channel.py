"""The pointer of a channel: one byte form, bounded, checked."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.channel import (
    MAX_POINTER_BYTES,
    MAX_PREVIOUS,
    Canary,
    ChannelPointer,
    channel_target,
    custom_field,
    decode_pointer,
    encode_pointer,
    from_custom_field,
    pointer_to,
    revision_of_target,
    revision_target,
)
from wire.errors import NameInvalidError, TrustError

REVISION, OTHER = "a" * 64, "b" * 64

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
revisions = st.binary(max_size=8).map(lambda data: hashlib.sha256(data).hexdigest())
canaries = st.none() | st.builds(
    Canary,
    revision=revisions,
    percent=st.integers(1, 99),
    by=st.sampled_from(["workers", "callers"]),
    seed=st.integers(0, 2**31 - 1),
)
pointers = st.builds(
    pointer_to,
    names,
    names,
    revisions,
    sequence=st.integers(1, 2**53),
    canary=canaries,
    previous=st.lists(revisions, max_size=MAX_PREVIOUS).map(tuple),
)


def test_pointer_has_the_published_byte_form() -> None:
    assert encode_pointer(pointer_to("chat-small", "stable", REVISION, sequence=3)) == (
        b'{"channel":"stable","format":"headwater.channel/1","model":"chat-small",'
        b'"revision":"' + REVISION.encode() + b'","sequence":3}'
    )


@given(pointers)
def test_pointer_survives_bytes_and_custom_field(pointer: ChannelPointer) -> None:
    assert decode_pointer(encode_pointer(pointer)) == pointer
    assert from_custom_field(custom_field(pointer)) == pointer


@given(st.binary(max_size=200))
def test_any_bytes_are_a_canonical_pointer_or_refused(data: bytes) -> None:
    try:
        pointer = decode_pointer(data)
    except TrustError:
        return
    assert encode_pointer(pointer) == data


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=5,
    )
)
def test_any_custom_field_that_is_no_pointer_is_refused(fields: object) -> None:
    with pytest.raises(TrustError):
        from_custom_field(fields)


def test_pointer_in_another_form_is_refused() -> None:
    data = encode_pointer(pointer_to("chat", "stable", REVISION, sequence=1))
    for other in (data + b" ", b" " + data, data[:-1] + b',"more":1}', data.replace(b'":', b'": ')):
        with pytest.raises(TrustError, match="canonical"):
            decode_pointer(other)


def test_oversized_pointer_is_refused_before_it_is_read() -> None:
    with pytest.raises(TrustError, match=f"over {MAX_POINTER_BYTES} B"):
        decode_pointer(b"{" * (MAX_POINTER_BYTES + 1))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "headwater.channel/2"},
        {"model": "../etc"},
        {"channel": ".hidden"},
        {"revision": "A" * 64},
        {"sequence": 0},
        {"canary": {"revision": OTHER, "percent": 100}},
        {"canary": {"revision": "x", "percent": 5}},
        {"canary": {"revision": OTHER, "percent": 5, "seed": -1}},
        {"canary": {"revision": OTHER, "percent": 5, "by": "moon"}},
        {"revision": None},
    ],
)
def test_pointer_out_of_range_is_refused(change: dict[str, object]) -> None:
    fields = {**custom_field(pointer_to("chat", "stable", REVISION, sequence=1)), **change}
    with pytest.raises(TrustError):
        from_custom_field(fields)
    with pytest.raises(TrustError):
        decode_pointer(msgspec.json.encode(fields, order="sorted"))


def test_pointer_out_of_range_cannot_be_made() -> None:
    with pytest.raises(NameInvalidError):
        pointer_to("chat/small", "stable", REVISION, sequence=1)


def test_canary_counts_among_the_revisions() -> None:
    canary = Canary(revision=OTHER, percent=5)
    pointer = pointer_to("chat", "stable", REVISION, sequence=1, canary=canary)
    assert pointer.revisions == (REVISION, OTHER)


def test_the_share_of_a_canary_is_stable_and_about_as_large_as_it_says() -> None:
    canary = Canary(revision=OTHER, percent=10, seed=3)
    taken = {name for name in map(str, range(10_000)) if canary.takes(name)}
    assert 800 < len(taken) < 1_200
    wider = Canary(revision=OTHER, percent=20, seed=3)
    assert all(wider.takes(name) for name in taken)
    pointer = pointer_to("chat", "stable", REVISION, sequence=1, canary=canary)
    assert {pointer.revision_for(name) for name in taken} == {OTHER}


def test_another_seed_takes_others() -> None:
    names = list(map(str, range(200)))
    shares = {
        tuple(filter(Canary(revision=OTHER, percent=10, seed=seed).takes, names))
        for seed in range(5)
    }
    assert len(shares) == 5


def test_revision_target_is_read_back() -> None:
    path = revision_target("chat", REVISION)
    assert revision_of_target(path, {"sha256": REVISION}) == ("chat", REVISION)


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (revision_target("chat", REVISION), OTHER),
        (channel_target("chat", "stable"), REVISION),
        (f"revisions/chat/{REVISION}", REVISION),
        (f"revisions/chat/more/{REVISION}.json", REVISION),
        (f"revisions/{REVISION}.json", REVISION),
        ("revisions/chat/stable.json", REVISION),
    ],
)
def test_target_of_another_kind_or_hash_signs_no_revision(path: str, digest: str) -> None:
    assert revision_of_target(path, {"sha256": digest}) is None


def test_earlier_revisions_are_bounded_and_checked() -> None:
    with pytest.raises(NameInvalidError, match="4 earlier revisions at most, not 5"):
        pointer_to("site", "stable", REVISION, sequence=1, previous=(OTHER,) * 5)
    with pytest.raises(NameInvalidError):
        pointer_to("site", "stable", REVISION, sequence=1, previous=("x",))
    pointer = pointer_to("site", "stable", REVISION, sequence=1, previous=(OTHER,))
    assert pointer.revisions == (REVISION,)
