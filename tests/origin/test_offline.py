"""What the offline keys sign."""

from __future__ import annotations

import hashlib
from functools import partial

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Root, Targets

from origin.documents import DAY_S, Lifetimes, read
from origin.offline import sign_revisions, sign_root, sign_targets
from wire.errors import (
    ConflictError,
    ForbiddenError,
    NameInvalidError,
    NotFoundError,
    RequestInvalidError,
)
from wire.trust import root_version

NOW = 1_000_000_000.0
ONE, TWO = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2"))


def key(seed: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ROOT, PUBLISHER, ONLINE, NEXT = (key(seed) for seed in range(4))
root_of = partial(sign_root, publisher=PUBLISHER.public_key, online=ONLINE.public_key, now=NOW)


def listed(data: bytes) -> dict[str, int]:
    return {path: target.length for path, target in read(data, Targets).signed.targets.items()}


def test_root_divides_the_roles() -> None:
    root = read(root_of(ROOT), Root).signed
    owners = {role: root.roles[role].keyids for role in root.roles}
    assert owners == {
        "root": [ROOT.public_key.keyid],
        "targets": [PUBLISHER.public_key.keyid],
        "snapshot": [ONLINE.public_key.keyid],
        "timestamp": [ONLINE.public_key.keyid],
    }
    assert root.consistent_snapshot


def test_rotated_root_bears_both_signatures() -> None:
    first = root_of(ROOT)
    second = root_of(NEXT, previous=first, previous_key=ROOT)
    assert root_version(second) == 2
    metadata = read(second, Root)
    read(first, Root).signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)


def test_rotated_root_without_the_old_key_does_not_follow() -> None:
    first = root_of(ROOT)
    metadata = read(root_of(NEXT, previous=first), Root)
    with pytest.raises(UnsignedMetadataError):
        read(first, Root).signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)


def test_targets_delegate_revisions_and_channels_to_different_keys() -> None:
    first = sign_targets(PUBLISHER, online=ONLINE.public_key, now=NOW)
    targets = read(first, Targets).signed
    assert targets.get_delegated_role("revisions").keyids == [PUBLISHER.public_key.keyid]
    assert targets.get_delegated_role("channels").keyids == [ONLINE.public_key.keyid]
    second = sign_targets(PUBLISHER, online=NEXT.public_key, now=NOW, previous=first)
    assert read(second, Targets).signed.version == 2


def test_documents_expire_after_their_lifetime() -> None:
    lives = Lifetimes(root_s=DAY_S, targets_s=2 * DAY_S, revisions_s=3 * DAY_S)
    root = read(root_of(ROOT, lifetimes=lives), Root).signed
    targets = sign_targets(PUBLISHER, online=ONLINE.public_key, now=NOW, lifetimes=lives)
    revisions = sign_revisions(None, PUBLISHER, now=NOW, lifetimes=lives)
    expiries = [root.expires, *(read(d, Targets).signed.expires for d in (targets, revisions))]
    assert [at.timestamp() for at in expiries] == [NOW + days * DAY_S for days in (1, 2, 3)]


def test_revisions_are_added_and_removed() -> None:
    first = sign_revisions(None, PUBLISHER, [("chat", ONE, 10)], now=NOW)
    second = sign_revisions(first, PUBLISHER, [("chat", TWO, 20)], now=NOW)
    assert listed(second) == {f"revisions/chat/{ONE}.json": 10, f"revisions/chat/{TWO}.json": 20}
    third = sign_revisions(second, PUBLISHER, remove=[("chat", ONE)], now=NOW)
    assert listed(third) == {f"revisions/chat/{TWO}.json": 20}
    assert read(third, Targets).signed.version == 3


def test_revision_added_again_stands_once() -> None:
    first = sign_revisions(None, PUBLISHER, [("chat", ONE, 10)], now=NOW)
    assert listed(sign_revisions(first, PUBLISHER, [("chat", ONE, 10)], now=NOW)) == listed(first)
    with pytest.raises(ConflictError, match="another size"):
        sign_revisions(first, PUBLISHER, [("chat", ONE, 11)], now=NOW)


def test_publisher_does_not_sign_on_top_of_somebody_elses_list() -> None:
    """An origin that was taken over could otherwise have its revisions signed."""
    forged = sign_revisions(None, NEXT, [("chat", TWO, 20)], now=NOW)
    with pytest.raises(ForbiddenError, match="not signed by this publisher"):
        sign_revisions(forged, PUBLISHER, now=NOW)
    own = sign_revisions(None, PUBLISHER, [("chat", ONE, 10)], now=NOW)
    with pytest.raises(ForbiddenError, match="do not sign on top"):
        sign_revisions(own.replace(ONE.encode(), TWO.encode()), PUBLISHER, now=NOW)


def test_rotated_publisher_takes_over_the_old_ones_list() -> None:
    own = sign_revisions(None, PUBLISHER, [("chat", ONE, 10)], now=NOW)
    assert listed(sign_revisions(own, NEXT, now=NOW, previous=PUBLISHER.public_key)) == listed(own)


def test_revision_that_is_not_listed_cannot_be_removed() -> None:
    with pytest.raises(NotFoundError):
        sign_revisions(None, PUBLISHER, remove=[("chat", ONE)], now=NOW)


@pytest.mark.parametrize(
    ("entry", "kind"),
    [
        (("../chat", ONE, 1), NameInvalidError),
        (("chat", "latest", 1), NameInvalidError),
        (("chat", ONE.upper(), 1), NameInvalidError),
        (("chat", ONE, 0), RequestInvalidError),
    ],
)
def test_revision_that_cannot_be_one_is_not_signed(
    entry: tuple[str, str, int], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        sign_revisions(None, PUBLISHER, [entry], now=NOW)


def test_wrong_kind_of_document_is_named() -> None:
    root = root_of(ROOT)
    with pytest.raises(RequestInvalidError, match="root file where targets"):
        sign_targets(PUBLISHER, online=ONLINE.public_key, now=NOW, previous=root)
    with pytest.raises(RequestInvalidError, match="not a signed role file"):
        root_of(ROOT, previous=b"{}")


def test_a_site_is_signed_as_one() -> None:
    added = [("site", "a" * 64, 1)]
    for private, custom in (
        (False, {"kind": "static"}),
        (True, {"kind": "static", "private": True}),
    ):
        data = sign_revisions(None, PUBLISHER, added, kind="static", private=private, now=NOW)
        (target,) = read(data, Targets).signed.targets.values()
        assert target.custom == custom
