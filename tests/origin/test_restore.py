"""Which of the trust bundles that edges offer is believed, and which is the newest."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from origin.documents import DAY_S
from origin.offline import sign_revisions, sign_root, sign_targets
from origin.restore import newest
from origin.signing import Repository
from tests.fakes.revisions import ONLINE_KEY, PUBLISHER_KEY, ROOT_KEY, signing_key
from wire.errors import ConfigError, TrustError, TrustExpiredError
from wire.trust_bundle import TrustBundle, TrustLimits, decode_bundle, encode_bundle

NOW = 4_000_000_000.0
OTHER_ONLINE = signing_key(9)
REVISION = hashlib.sha256(b"1").hexdigest()

first = Repository.create(ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, now=NOW)
older = first.accept_revisions(
    sign_revisions(
        first.trusted.bundle.roles["revisions"], PUBLISHER_KEY, [("chat", REVISION, 9)], now=NOW
    ),
    now=NOW,
).repository
newer = older.set_channel("chat", "stable", REVISION, now=NOW).repository
foreign = Repository.create(*map(signing_key, (20, 21, 22)), now=NOW)


def rotated(repository: Repository) -> Repository:
    """With another online key, and so a second root."""
    online = OTHER_ONLINE.public_key
    root = sign_root(
        ROOT_KEY,
        publisher=PUBLISHER_KEY.public_key,
        online=online,
        now=NOW,
        previous=repository.first_root,
        previous_key=ROOT_KEY,
    )
    current = repository.trusted.bundle.roles["targets"]
    targets = sign_targets(PUBLISHER_KEY, online=online, now=NOW, previous=current)
    return repository.accept(
        root=root, targets=targets, online_key=OTHER_ONLINE, now=NOW
    ).repository


def test_the_newest_of_all_edges_wins() -> None:
    offers = {"a": older.bundle(0), "b": newer.bundle(0), "c": first.bundle(0)}
    found = newest(offers, first.first_root, ONLINE_KEY, now=NOW)
    assert found.source == "b"
    assert found.repository.files == newer.files
    assert found.versions == {
        name: repository.view.versions["timestamp"]
        for name, repository in {"a": older, "b": newer, "c": first}.items()
    }
    assert Repository.load(found.repository.files, ONLINE_KEY).view == newer.view


def test_who_lies_is_named_and_changes_nothing() -> None:
    offers = {
        "noise": b"\xff\x00",
        "empty": b"{}",
        "foreign": foreign.bundle(0),
        "honest": older.bundle(0),
    }
    found = newest(offers, first.first_root, ONLINE_KEY, now=NOW)
    assert found.source == "honest"
    assert found.refused.keys() == {"noise", "empty", "foreign"}
    assert found.repository.files == older.files


def test_other_roots_alone_are_an_error_that_says_so() -> None:
    with pytest.raises(TrustError, match=r"follows from this root\.json.*edge-1: .*verif"):
        newest({"edge-1": foreign.bundle(0)}, first.first_root, ONLINE_KEY, now=NOW)


def test_a_first_root_that_an_edge_gives_is_never_taken() -> None:
    bundle = decode_bundle(older.bundle(0), TrustLimits())
    forged = TrustBundle(bundle.roles, {**bundle.roots, 1: foreign.first_root})
    found = newest({"edge": encode_bundle(forged)}, first.first_root, ONLINE_KEY, now=NOW)
    assert found.repository.files["1.root.json"] == first.first_root


def test_a_bundle_that_is_too_large_is_not_looked_at() -> None:
    limits = TrustLimits(bundle_bytes=100)
    with pytest.raises(TrustError, match="over 100 B"):
        newest({"edge": older.bundle(0)}, first.first_root, ONLINE_KEY, now=NOW, limits=limits)


def test_a_newer_root_stands_over_a_newer_timestamp() -> None:
    """A thief of the online key sets high numbers; the rotation that followed takes them away."""
    fast = newer
    for _ in range(5):
        fast = fast.retimestamp(now=NOW).repository
    healed = rotated(newer)
    assert fast.view.versions["timestamp"] > healed.view.versions["timestamp"]
    offers = {"thief": fast.bundle(0), "edge": healed.bundle(0)}
    found = newest(offers, first.first_root, OTHER_ONLINE, now=NOW)
    assert found.source == "edge"
    assert {"1.root.json", "2.root.json"} <= found.repository.files.keys()


def test_the_key_must_be_the_one_in_force() -> None:
    offers = {"edge": rotated(newer).bundle(0)}
    with pytest.raises(ConfigError, match="online key is not the one"):
        newest(offers, first.first_root, ONLINE_KEY, now=NOW)
    # A rotation whose keys were not moved into place yet.
    found = newest(offers, first.first_root, ONLINE_KEY, spare_key=OTHER_ONLINE, now=NOW)
    assert found.repository.online_key is OTHER_ONLINE


def test_what_has_expired_is_taken_within_the_grace_and_renewed() -> None:
    late = NOW + 3 * DAY_S
    found = newest({"edge": newer.bundle(0)}, first.first_root, ONLINE_KEY, now=late)
    assert found.repository.view.at(late).state == "expired_within_grace"
    renewed = found.repository.retimestamp(now=late).repository
    assert renewed.view.at(late).state == "fresh"


def test_beyond_the_grace_only_where_it_is_asked_for() -> None:
    late, offers = NOW + 9 * DAY_S, {"edge": newer.bundle(0)}
    with pytest.raises(TrustExpiredError, match=r"expired 8\.0 days ago.*--accept-expired"):
        newest(offers, first.first_root, ONLINE_KEY, now=late)
    found = newest(offers, first.first_root, ONLINE_KEY, now=late, accept_expired=True)
    assert found.repository.files == newer.files


def test_a_later_root_is_no_beginning() -> None:
    second = rotated(newer).files["2.root.json"]
    with pytest.raises(ConfigError, match=r"version 2.*headwater origin init"):
        newest({"edge": newer.bundle(0)}, second, OTHER_ONLINE, now=NOW)
    with pytest.raises(ConfigError, match="cannot be used"):
        newest({"edge": newer.bundle(0)}, b"no root", ONLINE_KEY, now=NOW)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(newer.bundle(0)) - 1), st.integers(1, 255))
def test_no_change_of_a_byte_brings_other_documents(at: int, flip: int) -> None:
    data = bytearray(newer.bundle(0))
    data[at] ^= flip
    try:
        found = newest({"edge": bytes(data)}, first.first_root, ONLINE_KEY, now=NOW)
    except TrustError:
        return
    assert replace(found.repository, previous={}).files == newer.files
