"""Rotations and renewals: who must sign, what may change, and what clients then follow."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from origin.documents import DAY_S, read
from origin.offline import make_targets, sign_revisions
from origin.rotate import (
    Changes,
    add_signatures,
    check_follows,
    describe_rotation,
    missing_signatures,
    prepare_renewal,
    prepare_rotation,
)
from origin.rotation import Rotation, decode_rotation, encode_rotation
from origin.signing import Repository
from tests.fakes.revisions import signing_key
from wire.errors import ConflictError, ForbiddenError, RequestInvalidError, TrustError
from wire.trust_store import TrustStore

NOW = 1_000_000_000.0
ONE = hashlib.sha256(b"1").hexdigest()
ROOT, ROOT_2, ROOT_3, PUBLISHER, ONLINE, NEW, NEW_2, NEW_3 = (signing_key(n) for n in range(8))


def published(*, of_three: bool = False) -> Repository:
    more = [ROOT_2, ROOT_3] if of_three else []
    repository = Repository.create(
        ROOT,
        PUBLISHER,
        ONLINE,
        now=NOW,
        more_root_keys=more,
        root_threshold=2 if of_three else 1,
    )
    added = [("chat", ONE, 100)]
    signed = sign_revisions(
        repository.document("1.revisions.json"), PUBLISHER, added, private=True, now=NOW
    )
    repository = repository.accept_revisions(signed, now=NOW).repository
    return repository.set_channel("chat", "stable", ONE, now=NOW).repository


@pytest.fixture(scope="module")
def repository() -> Repository:
    return published()


@pytest.fixture(scope="module")
def of_three() -> Repository:
    """Whose root needs two keys of three."""
    return published(of_three=True)


def prepared(repository: Repository, changes: Changes, *, now: float = NOW) -> Rotation:
    return prepare_rotation(repository.bundle(0), repository.first_root, changes, now=now)


def accepted(
    repository: Repository,
    rotation: Rotation,
    *signers: CryptoSigner,
    online: CryptoSigner | None = None,
    now: float = NOW,
) -> Repository:
    signed = add_signatures(rotation, repository.first_root, signers)
    assert missing_signatures(signed, repository.first_root) == []
    return repository.accept(
        root=signed.root,
        targets=signed.targets,
        revisions=signed.revisions,
        online_key=online,
        now=now,
    ).repository


def follows(before: Repository, after: Repository, folder: Path, *, now: float = NOW) -> None:
    """A client that held the old state and a cold one believe the new, which says the same."""
    store = TrustStore(folder, before.first_root, clock=lambda: now)
    view = store.update(after.bundle(1))
    assert view.pointer("chat", "stable").revision == ONE
    assert view.private == {("chat", ONE)}


# What a rotation holds, and who signs it


def test_later_expiry_needs_the_root_alone(repository: Repository, tmp_path: Path) -> None:
    late = NOW + 300 * DAY_S
    renewed = repository.retimestamp(now=late).repository
    rotation = prepared(renewed, Changes(), now=late)
    assert list(rotation.documents) == ["root"]
    after = accepted(renewed, rotation, ROOT, now=late)
    assert after.view.expires["root"] == late + 365 * DAY_S
    follows(repository, after, tmp_path, now=late)


def test_root_key_alone(repository: Repository, tmp_path: Path) -> None:
    rotation = prepared(repository, Changes(root_keys=(NEW.public_key,)))
    assert list(rotation.documents) == ["root"]
    after = accepted(repository, rotation, ROOT, NEW)
    follows(repository, after, tmp_path)
    with pytest.raises(ForbiddenError, match="no say"):
        add_signatures(prepared(after, Changes()), after.first_root, [ROOT])
    accepted(after, prepared(after, Changes()), NEW)


def test_online_key_alone(repository: Repository, tmp_path: Path) -> None:
    rotation = prepared(repository, Changes(online=NEW.public_key))
    assert list(rotation.documents) == ["root", "targets"]
    after = accepted(repository, rotation, ROOT, PUBLISHER, online=NEW)
    follows(repository, after, tmp_path)
    moved = after.remove_channel("chat", "stable", now=NOW).repository
    assert Repository.load(moved.files, NEW).view == moved.view


def test_publishers_key_alone(repository: Repository, tmp_path: Path) -> None:
    rotation = prepared(repository, Changes(publisher=NEW.public_key))
    assert list(rotation.documents) == ["root", "targets", "revisions"]
    after = accepted(repository, rotation, ROOT, NEW)
    follows(repository, after, tmp_path)
    current = after.trusted.bundle.roles["revisions"]
    with pytest.raises(ForbiddenError):
        sign_revisions(current, PUBLISHER, now=NOW)
    after.accept_revisions(sign_revisions(current, NEW, now=NOW), now=NOW)


def test_every_key_at_once(repository: Repository, tmp_path: Path) -> None:
    changes = Changes(
        root_keys=(NEW.public_key,), publisher=NEW_2.public_key, online=NEW_3.public_key
    )
    after = accepted(repository, prepared(repository, changes), ROOT, NEW, NEW_2, online=NEW_3)
    follows(repository, after, tmp_path)


def test_from_one_root_key_to_two_of_three_and_back(repository: Repository, tmp_path: Path) -> None:
    keys = tuple(key.public_key for key in (NEW, NEW_2, NEW_3))
    three = accepted(
        repository,
        prepared(repository, Changes(root_keys=keys, root_threshold=2)),
        ROOT,
        NEW,
        NEW_3,
    )
    back = prepared(three, Changes(root_keys=(ROOT.public_key,), root_threshold=1))
    one = accepted(three, back, NEW_2, NEW_3, ROOT)
    assert one.view.versions["root"] == 3
    follows(repository, one, tmp_path)


def test_offline_grace_is_kept_and_can_be_changed(repository: Repository) -> None:
    kept = accepted(
        repository, prepared(repository, Changes(root_keys=(NEW.public_key,))), ROOT, NEW
    )
    assert kept.view.grace_s == 7 * DAY_S
    short = accepted(kept, prepared(kept, Changes(grace_s=DAY_S)), NEW)
    assert short.view.grace_s == DAY_S
    again = accepted(short, prepared(short, Changes()), NEW)
    assert again.view.grace_s == DAY_S


@pytest.mark.parametrize(
    "changes",
    [
        Changes(root_threshold=2),
        Changes(root_keys=(NEW.public_key, NEW.public_key), root_threshold=2),
        Changes(grace_s=-1),
        Changes(grace_s=400 * DAY_S),
    ],
)
def test_what_no_root_can_say_is_refused(repository: Repository, changes: Changes) -> None:
    with pytest.raises(RequestInvalidError):
        prepared(repository, changes)


# A ceremony over several machines


def test_ceremony_says_which_signatures_are_missing(of_three: Repository) -> None:
    anchor = of_three.first_root
    changes = Changes(root_keys=(NEW.public_key, NEW_2.public_key), root_threshold=2)
    rotation = prepared(of_three, changes)
    steps = [(missing.by, missing.needed) for missing in missing_signatures(rotation, anchor)]
    assert steps == [("old root", 2), ("new root", 2)]
    for signer, left in (
        (ROOT_3, [("old root", 1), ("new root", 2)]),
        (NEW, [("old root", 1), ("new root", 1)]),
        (ROOT_3, [("old root", 1), ("new root", 1)]),
        (ROOT, [("new root", 1)]),
        (NEW_2, []),
    ):
        rotation = decode_rotation(encode_rotation(rotation))
        rotation = add_signatures(rotation, anchor, [signer])
        found = missing_signatures(rotation, anchor)
        assert [(missing.by, missing.needed) for missing in found] == left
    of_three.accept(root=rotation.root, now=NOW)


def test_missing_signatures_name_keys(of_three: Repository) -> None:
    rotation = add_signatures(prepared(of_three, Changes()), of_three.first_root, [ROOT])
    told = [str(missing) for missing in missing_signatures(rotation, of_three.first_root)]
    assert len(told) == 2
    assert told[0].startswith("root: 1 more of the old root keys (")
    assert ROOT_2.public_key.keyid[:12] in told[0]
    assert ROOT.public_key.keyid[:12] not in told[0]


def test_origin_refuses_what_too_few_have_signed(of_three: Repository) -> None:
    rotation = add_signatures(prepared(of_three, Changes()), of_three.first_root, [ROOT])
    with pytest.raises(TrustError, match="root was signed by 1/2"):
        of_three.accept(root=rotation.root, now=NOW)


def test_key_without_a_say_is_told_who_has(repository: Repository) -> None:
    rotation = prepared(repository, Changes())
    with pytest.raises(ForbiddenError, match=ROOT.public_key.keyid[:12]):
        add_signatures(rotation, repository.first_root, [PUBLISHER])


def test_signer_sees_what_changes(of_three: Repository) -> None:
    changes = Changes(root_keys=(ROOT.public_key, NEW.public_key), online=NEW_2.public_key)
    told = describe_rotation(prepared(of_three, changes), of_three.first_root)
    assert told["root_version"] == 2
    assert told["grace_s"] == 7 * DAY_S
    keys = told["keys"]
    assert isinstance(keys, dict)
    assert keys["root"]["kept"] == [ROOT.public_key.keyid]
    assert keys["root"]["added"] == [NEW.public_key.keyid]
    assert len(keys["root"]["removed"]) == 2
    assert keys["timestamp"]["added"] == [NEW_2.public_key.keyid]
    assert keys["targets"]["added"] == keys["targets"]["removed"] == []


# What whoever prepares it cannot have signed


def test_revisions_cannot_be_slipped_in(repository: Repository) -> None:
    """Nobody signs it, whatever the preparer says."""
    rotation = prepared(repository, Changes(publisher=NEW.public_key))
    assert rotation.revisions is not None
    listed = read(rotation.revisions, Targets).signed
    path = next(iter(listed.targets))
    listed.targets["revisions/chat/" + "e" * 64 + ".json"] = listed.targets[path]
    forged = replace(rotation, revisions=Metadata(listed).to_bytes())
    with pytest.raises(ForbiddenError, match="changes the list of revisions"):
        add_signatures(forged, repository.first_root, [NEW])


def test_private_revision_cannot_be_made_public(repository: Repository) -> None:
    rotation = prepared(repository, Changes(publisher=NEW.public_key))
    assert rotation.revisions is not None
    listed = read(rotation.revisions, Targets).signed
    for target in listed.targets.values():
        target.unrecognized_fields.clear()
    forged = replace(rotation, revisions=Metadata(listed).to_bytes())
    with pytest.raises(ForbiddenError, match="changes the list of revisions"):
        check_follows(forged, repository.first_root)


def test_delegations_to_other_keys_than_the_root_names_are_refused(
    repository: Repository,
) -> None:
    rotation = prepared(repository, Changes(online=NEW.public_key))
    previous = repository.trusted.bundle.roles["targets"]
    other = make_targets(PUBLISHER.public_key, online=NEW_2.public_key, now=NOW, previous=previous)
    forged = replace(rotation, targets=Metadata(other).to_bytes())
    with pytest.raises(ForbiddenError, match="other keys than the root names"):
        check_follows(forged, repository.first_root)
    none = Targets(version=other.version, expires=other.expires)
    with pytest.raises(ForbiddenError, match="delegate exactly"):
        check_follows(replace(rotation, targets=Metadata(none).to_bytes()), repository.first_root)


def test_signer_with_another_root_signs_nothing(repository: Repository) -> None:
    rotation = prepared(repository, Changes())
    elsewhere = Repository.create(NEW, NEW, NEW, now=NOW)
    with pytest.raises(TrustError):
        add_signatures(rotation, elsewhere.first_root, [ROOT])


def test_rotation_that_was_overtaken_is_refused(repository: Repository) -> None:
    slow = prepared(repository, Changes())
    after = accepted(repository, prepared(repository, Changes()), ROOT)
    overtaken = replace(slow, current=after.bundle(0))
    with pytest.raises(ConflictError, match="prepare the rotation anew"):
        check_follows(overtaken, repository.first_root)


def test_rotation_of_nothing_is_none(repository: Repository) -> None:
    with pytest.raises(RequestInvalidError, match="no document"):
        check_follows(Rotation(current=repository.bundle(0)), repository.first_root)


# Renewal


def test_publisher_renews_before_and_after_expiry(repository: Repository, tmp_path: Path) -> None:
    late = NOW + 400 * DAY_S
    rotation = prepare_renewal(repository.bundle(0), repository.first_root, now=late)
    assert list(rotation.documents) == ["targets", "revisions"]
    with pytest.raises(ForbiddenError, match="no say"):
        add_signatures(rotation, repository.first_root, [ROOT])
    root = add_signatures(prepared(repository, Changes(), now=late), repository.first_root, [ROOT])
    both = add_signatures(rotation, repository.first_root, [PUBLISHER])
    after = repository.accept(
        root=root.root, targets=both.targets, revisions=both.revisions, now=late
    ).repository
    follows(repository, after, tmp_path, now=late)
