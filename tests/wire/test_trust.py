"""Every attack on the metadata that The Update Framework answers, and what is believed after it.

The times are those of 2001: whatever read the system's clock would find everything expired.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, TargetFile, Targets

from origin.documents import (
    DAY_S,
    expiry,
    pointer_target,
    read,
    sign,
    sign_channels,
    sign_snapshot,
    sign_timestamp,
)
from origin.offline import sign_revisions, sign_root, sign_targets
from origin.signing import Repository
from wire.channel import Canary, channel_target, pointer_to, revision_target
from wire.errors import NotFoundError, TrustError, TrustExpiredError
from wire.trust import (
    DEFAULT_GRACE_S,
    GRACE_FIELD,
    MAX_GRACE_S,
    Trusted,
    TrustView,
    offline_grace_s,
    root_version,
    verify,
)
from wire.trust_bundle import (
    CHANNELS,
    REVISIONS,
    ROLES,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TrustBundle,
    TrustLimits,
    decode_bundle,
    encode_bundle,
)

NOW = 1_000_000_000.0
LIMITS = TrustLimits()
ONE, TWO, UNSIGNED = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2", b"evil"))


def key(seed: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ROOT, PUBLISHER, ONLINE, THIEF, NEXT = (key(seed) for seed in range(5))


def published() -> Repository:
    """An origin with two signed revisions, and the channel on the first."""
    repository = Repository.create(ROOT, PUBLISHER, ONLINE, now=NOW)
    signed = sign_revisions(
        repository.document("1.revisions.json"),
        PUBLISHER,
        [("chat", ONE, 100), ("chat", TWO, 200)],
        now=NOW,
    )
    repository = repository.accept_revisions(signed, now=NOW).repository
    return rolled(repository, ONE)


def rolled(repository: Repository, revision: str, *, now: float = NOW) -> Repository:
    return repository.set_channel("chat", "stable", revision, now=now).repository


@dataclass
class Client:
    """A client that keeps what it verified, in memory."""

    anchor: bytes
    now: float = NOW
    held: Trusted | None = None
    limits: TrustLimits = LIMITS

    def update(self, bundle: TrustBundle) -> TrustView:
        held = self.held.bundle if self.held else None
        data = encode_bundle(bundle)
        found = verify(
            decode_bundle(data, self.limits),
            anchor=self.anchor,
            held=held,
            now=self.now,
            limits=self.limits,
        )
        self.held = found
        roots = found.bundle.roots
        self.anchor = roots[max(roots)] if roots else self.anchor
        return found.view

    def refuses(self, bundle: TrustBundle, why: str, kind: type[TrustError] = TrustError) -> None:
        before = self.held
        with pytest.raises(TrustError, match=why) as caught:
            self.update(bundle)
        assert type(caught.value) is kind
        assert self.held is before


@dataclass
class OnlineThief:
    """Somebody with the origin's online key: signs any channels, snapshot and timestamp."""

    bundle: TrustBundle
    key: CryptoSigner = ONLINE
    now: float = NOW

    def forged(
        self,
        changed: Mapping[str, bytes],
        *,
        snapshot: int = 1000,
        timestamp: int = 1000,
        snapshot_says: int | None = None,
    ) -> TrustBundle:
        roles = {**self.bundle.roles, **changed}
        expires = expiry(self.now, DAY_S)
        roles[SNAPSHOT] = sign_snapshot(roles, snapshot, self.key, expires)
        said = snapshot if snapshot_says is None else snapshot_says
        roles[TIMESTAMP] = sign_timestamp(roles[SNAPSHOT], said, timestamp, self.key, expires)
        return TrustBundle(roles, self.bundle.roots)

    def channels(self, *targets: TargetFile, version: int = 1000) -> bytes:
        named = {target.path: target for target in targets}
        return sign_channels(named, version, self.key, expiry(self.now, DAY_S))


@pytest.fixture(scope="module")
def repository() -> Repository:
    return published()


@pytest.fixture
def client(repository: Repository) -> Client:
    client = Client(repository.first_root)
    client.update(repository.trusted.bundle)
    return client


@pytest.fixture
def thief(repository: Repository) -> OnlineThief:
    return OnlineThief(repository.trusted.bundle)


def with_role(bundle: TrustBundle, role: str, data: bytes) -> TrustBundle:
    return TrustBundle({**bundle.roles, role: data}, bundle.roots)


# What is believed


def test_cold_client_learns_every_channel_from_one_bundle(repository: Repository) -> None:
    commit = repository.set_channel("chat", "beta", TWO, now=NOW)
    view = Client(repository.first_root).update(commit.repository.trusted.bundle)
    assert [(p.channel, p.revision) for p in view.pointers()] == [("beta", TWO), ("stable", ONE)]
    assert view.pointer("chat", "stable").sequence == 1
    assert view.require_revision("chat", TWO) == 200
    assert not view.expired
    assert not view.refused


def test_unknown_channel_and_revision_are_told_apart(client: Client) -> None:
    assert client.held is not None
    view = client.held.view
    with pytest.raises(NotFoundError):
        view.pointer("chat", "nightly")
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.require_revision("chat", UNSIGNED)
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.require_revision("other-model", ONE)


def test_roll_is_seen_by_a_client_that_held_the_old_one(
    client: Client, repository: Repository
) -> None:
    view = client.update(rolled(repository, TWO).trusted.bundle)
    assert view.pointer("chat", "stable").revision == TWO
    assert view.pointer("chat", "stable").sequence == 2


def test_which_revisions_are_private_is_signed_by_the_publisher(
    client: Client, repository: Repository
) -> None:
    assert client.held is not None
    assert client.held.view.private == frozenset()
    current = repository.trusted.bundle.roles[REVISIONS]
    secret = ("chat", "d" * 64)
    signed = sign_revisions(current, PUBLISHER, [(*secret, 7)], private=True, now=NOW)
    commit = repository.accept_revisions(signed, now=NOW)
    view = client.update(commit.repository.trusted.bundle)
    assert view.private == {secret}
    assert view.require_revision(*secret) == 7


def test_canary_is_believed_when_both_revisions_are_signed(
    client: Client, repository: Repository
) -> None:
    canary = Canary(revision=TWO, percent=5)
    commit = repository.set_channel("chat", "stable", ONE, canary=canary, now=NOW)
    view = client.update(commit.repository.trusted.bundle)
    assert view.pointer("chat", "stable").canary == canary


def test_held_files_may_come_again(client: Client, repository: Repository) -> None:
    assert client.held is not None
    assert client.update(repository.trusted.bundle) == client.held.view


# Signatures


@pytest.mark.parametrize("role", ROLES)
def test_role_signed_by_another_key_is_refused(client: Client, role: str) -> None:
    assert client.held is not None
    bundle = client.held.bundle
    document = json.loads(bundle.roles[role])
    document["signatures"][0]["sig"] = "00" * 64
    client.held = None
    client.refuses(with_role(bundle, role, json.dumps(document).encode()), "does not verify")


def test_thief_without_a_key_of_ours_is_refused(client: Client, repository: Repository) -> None:
    thief = OnlineThief(repository.trusted.bundle, key=THIEF)
    client.refuses(thief.forged({}), "timestamp was signed by 0/1 keys")


def test_online_key_cannot_sign_revisions(client: Client, thief: OnlineThief) -> None:
    target = TargetFile(5, {"sha256": UNSIGNED}, revision_target("chat", UNSIGNED))
    forged = sign(
        Targets(1000, expires=expiry(NOW, DAY_S), targets={target.path: target}), thief.key
    )
    client.refuses(thief.forged({REVISIONS: forged}), "revisions was signed by 0/1 keys")


def test_online_key_cannot_change_the_delegations(client: Client, thief: OnlineThief) -> None:
    forged = sign_targets(thief.key, online=thief.key.public_key, now=NOW)
    client.refuses(thief.forged({TARGETS: forged}), "targets was signed by 0/1 keys")


def test_root_of_another_key_is_refused(client: Client, repository: Repository) -> None:
    root = sign_root(
        THIEF,
        publisher=THIEF.public_key,
        online=THIEF.public_key,
        now=NOW,
        previous=repository.first_root,
    )
    client.refuses(
        TrustBundle(repository.trusted.bundle.roles, {2: root}), "root was signed by 0/1"
    )


def test_delegations_other_than_ours_are_refused(client: Client, thief: OnlineThief) -> None:
    targets = read(thief.bundle.roles[TARGETS], Targets).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    targets.delegations.roles[CHANNELS].paths = ["channels/*/*", "revisions/*/*"]
    changed = sign(targets, PUBLISHER)
    client.refuses(thief.forged({TARGETS: changed}), "must delegate exactly")


# An attacker with the online key moves channels


def test_channel_to_an_unsigned_revision_is_not_believed(
    client: Client, thief: OnlineThief
) -> None:
    evil = pointer_target(pointer_to("chat", "stable", UNSIGNED, sequence=9))
    good = pointer_target(pointer_to("chat", "beta", TWO, sequence=1))
    view = client.update(thief.forged({CHANNELS: thief.channels(evil, good)}))
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.pointer("chat", "stable")
    assert [pointer.channel for pointer in view.pointers()] == ["beta"]
    assert list(view.refused) == ["channels/chat/stable.json"]


def test_canary_to_an_unsigned_revision_is_not_believed(client: Client, thief: OnlineThief) -> None:
    canary = Canary(revision=UNSIGNED, percent=1)
    evil = pointer_target(pointer_to("chat", "stable", ONE, sequence=9, canary=canary))
    view = client.update(thief.forged({CHANNELS: thief.channels(evil)}))
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.pointer("chat", "stable")


def test_revision_of_another_model_is_not_believed(client: Client, thief: OnlineThief) -> None:
    evil = pointer_target(pointer_to("judge", "stable", ONE, sequence=1))
    view = client.update(thief.forged({CHANNELS: thief.channels(evil)}))
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.pointer("judge", "stable")


def test_channels_role_has_no_say_about_revisions(client: Client, thief: OnlineThief) -> None:
    smuggled = TargetFile(5, {"sha256": UNSIGNED}, revision_target("chat", UNSIGNED))
    evil = pointer_target(pointer_to("chat", "stable", UNSIGNED, sequence=9))
    view = client.update(thief.forged({CHANNELS: thief.channels(smuggled, evil)}))
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.require_revision("chat", UNSIGNED)
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.pointer("chat", "stable")


def test_pointer_beside_another_target_is_not_believed(client: Client, thief: OnlineThief) -> None:
    moved = pointer_target(pointer_to("chat", "beta", TWO, sequence=1))
    moved.path = channel_target("chat", "stable")
    view = client.update(thief.forged({CHANNELS: thief.channels(moved)}))
    with pytest.raises(TrustError, match="another channel's"):
        view.pointer("chat", "stable")


@pytest.mark.parametrize("custom", [None, {}, [], "x", {"format": "headwater.channel/1"}])
def test_target_without_a_pointer_is_not_believed(
    client: Client, thief: OnlineThief, custom: object
) -> None:
    target = pointer_target(pointer_to("chat", "stable", TWO, sequence=9))
    target.unrecognized_fields["custom"] = custom
    view = client.update(thief.forged({CHANNELS: thief.channels(target)}))
    with pytest.raises(TrustError, match="not a channel pointer"):
        view.pointer("chat", "stable")


def test_pointer_whose_bytes_are_others_is_not_believed(client: Client, thief: OnlineThief) -> None:
    target = pointer_target(pointer_to("chat", "stable", TWO, sequence=9))
    target.unrecognized_fields["custom"]["revision"] = ONE
    view = client.update(thief.forged({CHANNELS: thief.channels(target)}))
    with pytest.raises(TrustError, match="hash"):
        view.pointer("chat", "stable")


# Rollback


def test_older_bundle_is_refused(client: Client, repository: Repository) -> None:
    client.update(rolled(repository, TWO).trusted.bundle)
    client.refuses(repository.trusted.bundle, "timestamp version")


def test_rollback_of_the_snapshot_is_refused(client: Client, thief: OnlineThief) -> None:
    client.refuses(thief.forged({}, snapshot=1), "New snapshot version must be")


@pytest.mark.parametrize("role", [CHANNELS, REVISIONS])
def test_rollback_of_a_listed_role_is_refused(client: Client, role: str) -> None:
    first = Repository.create(ROOT, PUBLISHER, ONLINE, now=NOW).trusted.bundle
    thief = OnlineThief(first)
    assert client.held is not None
    current = {r: client.held.bundle.roles[r] for r in (CHANNELS, REVISIONS) if r != role}
    client.refuses(thief.forged(current), f"Expected {role}.json version")


def test_rollback_is_refused_when_what_is_held_has_expired(
    client: Client, repository: Repository, thief: OnlineThief
) -> None:
    client.now = thief.now = NOW + 30 * DAY_S
    client.refuses(thief.forged({}, snapshot=1), "New snapshot version must be")


# Freeze


def test_frozen_bundle_is_refused_when_it_expires(client: Client, repository: Repository) -> None:
    client.now = NOW + DAY_S - 1
    client.update(repository.trusted.bundle)
    client.now = NOW + DAY_S
    client.refuses(repository.trusted.bundle, "timestamp.json is expired", TrustExpiredError)


def test_cold_client_refuses_an_expired_bundle(repository: Repository) -> None:
    client = Client(repository.first_root, now=NOW + 2 * DAY_S)
    client.refuses(repository.trusted.bundle, "expired", TrustExpiredError)


@pytest.mark.parametrize(
    ("days", "role"), [(8, "snapshot"), (366, "Final root"), (8, "channels"), (366, "revisions")]
)
def test_every_role_expires(repository: Repository, days: int, role: str) -> None:
    later = NOW + days * DAY_S
    thief = OnlineThief(repository.trusted.bundle, now=later)
    roles: dict[str, bytes] = {}
    if role != "channels":
        roles[CHANNELS] = thief.channels(version=3)
    bundle = thief.forged(roles)
    if role == "snapshot":
        old = sign_snapshot(bundle.roles, 1000, ONLINE, expiry(NOW, DAY_S))
        stamp = sign_timestamp(old, 1000, 1000, ONLINE, expiry(later, DAY_S))
        bundle = TrustBundle({**bundle.roles, SNAPSHOT: old, TIMESTAMP: stamp})
    if role == "revisions":
        root = sign_root(
            ROOT,
            publisher=PUBLISHER.public_key,
            online=ONLINE.public_key,
            now=later,
            previous=repository.first_root,
        )
        targets = sign_targets(
            PUBLISHER, online=ONLINE.public_key, now=later, previous=bundle.roles[TARGETS]
        )
        forged = thief.forged({**roles, TARGETS: targets})
        bundle = TrustBundle(forged.roles, {2: root})
    Client(repository.first_root, now=later).refuses(bundle, role, TrustExpiredError)


def test_view_says_when_it_expires(client: Client) -> None:
    assert client.held is not None
    view = client.held.view
    assert view.expires_at == NOW + DAY_S
    assert not view.at(NOW + DAY_S - 1).expired
    assert view.at(NOW + DAY_S).expired
    assert not view.at(NOW + DAY_S).at(NOW).expired


def test_view_says_how_long_it_may_be_worked_from(client: Client) -> None:
    assert client.held is not None
    view = client.held.view
    assert (view.expires_at, view.grace_until) == (NOW + DAY_S, NOW + 8 * DAY_S)
    for days, state in ((0, "fresh"), (1, "expired_within_grace"), (8, "beyond_grace")):
        at = view.at(NOW + days * DAY_S)
        assert (at.state, at.expired) == (state, days > 0)
        assert at.at(NOW) == view
        assert at.pointer("chat", "stable").revision == ONE
    view.at(NOW + 8 * DAY_S - 1).require_grace()
    with pytest.raises(TrustExpiredError, match=r"\(timestamp\).*604800 s is over"):
        view.at(NOW + 8 * DAY_S).require_grace()


@pytest.mark.parametrize(
    ("given", "grace_s"),
    [
        ({}, DEFAULT_GRACE_S),
        ({GRACE_FIELD: 5}, 5.0),
        ({GRACE_FIELD: 0}, 0.0),
        ({GRACE_FIELD: -5}, 0.0),
        ({GRACE_FIELD: 10**30}, MAX_GRACE_S),
        ({GRACE_FIELD: True}, 0.0),
        ({GRACE_FIELD: "a week"}, 0.0),
        ({GRACE_FIELD: None}, 0.0),
    ],
)
def test_grace_that_a_root_gives(given: dict[str, object], grace_s: float) -> None:
    """A root from before there was a grace has a week; one that is none gives nothing."""
    assert offline_grace_s(Root(unrecognized_fields=dict(given))) == grace_s


def test_expiry_is_not_judged_where_no_time_is_given(repository: Repository) -> None:
    found = verify(
        repository.trusted.bundle,
        anchor=repository.first_root,
        held=None,
        now=None,
        limits=LIMITS,
    )
    assert found.view.at(time.time()).expired


# Mix and match


@pytest.mark.parametrize("role", [SNAPSHOT, TARGETS, REVISIONS, CHANNELS])
def test_old_role_with_new_ones_is_refused(repository: Repository, role: str) -> None:
    first = Repository.create(ROOT, PUBLISHER, ONLINE, now=NOW - 1).trusted.bundle
    mixed = with_role(repository.trusted.bundle, role, first.roles[role])
    Client(repository.first_root).refuses(mixed, "does not match|Expected")


def test_new_channels_with_an_old_snapshot_are_refused(
    client: Client, repository: Repository
) -> None:
    newer = rolled(repository, TWO).trusted.bundle
    mixed = with_role(repository.trusted.bundle, CHANNELS, newer.roles[CHANNELS])
    fresh = Client(repository.first_root)
    fresh.refuses(mixed, "does not match")
    before = client.held
    view = client.update(mixed)  # what is held already is not asked for again
    assert before is not None
    assert view == before.view


def test_two_snapshots_of_one_version_are_refused(client: Client, thief: OnlineThief) -> None:
    """The held one would be kept, and the state could not be verified again from disk."""
    assert client.held is not None
    version = client.held.view.versions[SNAPSHOT]
    client.refuses(thief.forged({}, snapshot=version), "does not match")


def test_snapshot_of_another_version_than_named_is_refused(
    client: Client, thief: OnlineThief
) -> None:
    client.refuses(thief.forged({}, snapshot_says=999), "Expected snapshot version")


def test_publishers_targets_cannot_stand_in_for_its_revisions(
    client: Client, thief: OnlineThief
) -> None:
    """Both are of one type and signed by one key; what is lost is service, never a revision."""
    view = Client(client.anchor).update(thief.forged({REVISIONS: thief.bundle.roles[TARGETS]}))
    assert not view.revisions
    assert not view.pointers()


# Endless data


def test_role_over_the_limit_is_refused(repository: Repository) -> None:
    client = Client(repository.first_root, limits=replace(LIMITS, revisions_bytes=500))
    client.refuses(repository.trusted.bundle, "revisions of .* is over 500 B")


def test_fetcher_holds_the_limit_even_for_a_bundle_built_in_memory(
    repository: Repository,
) -> None:
    with pytest.raises(TrustError, match="at most 10"):
        verify(
            repository.trusted.bundle,
            anchor=repository.first_root,
            held=None,
            now=NOW,
            limits=replace(LIMITS, timestamp_bytes=10),
        )


def test_huge_unsigned_role_is_not_even_parsed(repository: Repository) -> None:
    nested = b'{"signed":' + b"[" * 4_000_000
    started = time.thread_time()
    Client(repository.first_root).refuses(
        with_role(repository.trusted.bundle, REVISIONS, nested), "at most"
    )
    assert time.thread_time() - started < 1.0


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"null", b'{"signed":' + b"[" * 5000])
@pytest.mark.parametrize("role", [TIMESTAMP, "root"])
def test_garbage_in_an_unhashed_file_is_refused(
    repository: Repository, role: str, text: bytes
) -> None:
    bundle = repository.trusted.bundle
    bad = TrustBundle(bundle.roles, {2: text}) if role == "root" else with_role(bundle, role, text)
    Client(repository.first_root).refuses(bad, "does not verify")


# Rotation


def rotation(
    repository: Repository,
    *,
    root: CryptoSigner = ROOT,
    previous_root: CryptoSigner = ROOT,
    publisher: CryptoSigner = PUBLISHER,
    online: CryptoSigner = ONLINE,
) -> Repository:
    """Everything signed anew, by the keys given."""
    bundle = repository.trusted.bundle
    newest = bundle.roots[max(bundle.roots)] if bundle.roots else repository.first_root
    return repository.accept(
        root=sign_root(
            root,
            publisher=publisher.public_key,
            online=online.public_key,
            now=NOW,
            previous=newest,
            previous_key=previous_root,
        ),
        targets=sign_targets(
            publisher, online=online.public_key, now=NOW, previous=bundle.roles[TARGETS]
        ),
        revisions=sign_revisions(
            bundle.roles[REVISIONS], publisher, now=NOW, previous=PUBLISHER.public_key
        ),
        online_key=online,
        now=NOW,
    ).repository


def test_client_follows_a_sequence_of_roots_in_one_bundle(
    client: Client, repository: Repository
) -> None:
    once = rotation(repository, root=NEXT)
    twice = rotation(once, root=key(9), previous_root=NEXT)
    view = client.update(twice.trusted.bundle)
    assert view.versions["root"] == 3
    assert view.pointer("chat", "stable").revision == ONE


def test_gap_in_the_roots_is_refused(client: Client, repository: Repository) -> None:
    """Without root 2 the client stays at root 1, whose online key did not sign this."""
    once = rotation(repository, online=NEXT)
    twice = rotation(once, online=key(9))
    client.refuses(twice.trusted.bundle.after(2), "timestamp was signed by 0/1 keys")


def test_revoked_online_key_is_refused_after_rotation(
    client: Client, repository: Repository, thief: OnlineThief
) -> None:
    client.update(rotation(repository, online=NEXT).trusted.bundle)
    client.refuses(thief.forged({}), "timestamp was signed by 0/1 keys")


def test_rotated_publisher_key_signs_from_then_on(client: Client, repository: Repository) -> None:
    client.update(rotation(repository, publisher=NEXT).trusted.bundle)
    assert client.held is not None
    assert client.held.view.require_revision("chat", ONE) == 100


def test_fast_forward_is_recovered_by_a_root_signed_rotation(
    client: Client, repository: Repository, thief: OnlineThief
) -> None:
    far = 2**62
    stuck = thief.forged({CHANNELS: thief.channels(version=far)}, snapshot=far, timestamp=far)
    client.update(stuck)
    client.refuses(rolled(repository, TWO).trusted.bundle, "version")
    recovered = rolled(rotation(repository, online=NEXT), TWO)
    view = client.update(recovered.trusted.bundle)
    assert view.pointer("chat", "stable").revision == TWO
    assert view.versions[TIMESTAMP] < far


def test_root_knows_its_version(repository: Repository) -> None:
    assert root_version(repository.first_root) == 1
    with pytest.raises(TrustError):
        root_version(repository.trusted.bundle.roles[TARGETS])
    with pytest.raises(TrustError):
        root_version(repository.first_root.replace(b"2002", b"2003"))


# Any change at all

BUNDLE = encode_bundle(published().trusted.bundle)
FIRST_ROOT = published().first_root


def view_of(data: bytes) -> TrustView:
    bundle = decode_bundle(data, LIMITS)
    return verify(bundle, anchor=FIRST_ROOT, held=None, now=NOW, limits=LIMITS).view


VIEW = view_of(BUNDLE)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(BUNDLE) - 1), st.integers(1, 255))
def test_any_flipped_byte_is_refused_or_changes_nothing(position: int, mask: int) -> None:
    data = bytearray(BUNDLE)
    data[position] ^= mask
    with suppress(TrustError):
        assert view_of(bytes(data)) == VIEW


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(BUNDLE) - 1), st.integers(0, 40), st.binary(max_size=20))
def test_any_cut_or_insertion_is_refused_or_changes_nothing(
    position: int, cut: int, inserted: bytes
) -> None:
    with suppress(TrustError):
        assert view_of(BUNDLE[:position] + inserted + BUNDLE[position + cut :]) == VIEW
