"""The attacks that The Update Framework names (TUF 1.0.33 section 1.5.2), by somebody who controls
the edge and has stolen keys: arbitrary and wrong software, keys below the threshold or in another's
role, fast-forward and the recovery from it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root, TargetFile, Targets

from origin.documents import (
    DAY_S,
    expiry,
    pointer_target,
    read,
    sign,
)
from origin.offline import make_root, sign_root, sign_targets
from origin.rotate import Changes, add_signatures, prepare_rotation
from origin.signing import Repository
from tests.fakes.trust_victim import (
    EVIL,
    FAR,
    NEXT,
    NOW,
    ONE,
    ONLINE,
    PUBLISHER,
    ROOT,
    ROOT_2,
    ROOT_3,
    THIEF,
    TWO,
    Thief,
    Victim,
    rotated,
)
from wire.channel import pointer_to, revision_target
from wire.errors import (
    NotFoundError,
    TrustError,
)
from wire.trust_bundle import (
    REVISIONS,
    TIMESTAMP,
    TrustBundle,
)
from wire.trust_store import TrustStore

# Arbitrary and wrong software


async def test_arbitrary_software_by_a_thief_of_the_online_key(held: Victim, thief: Thief) -> None:
    """He may point at it, but nobody believes it, for the publisher has not signed it."""
    pointer = pointer_target(pointer_to("chat", "stable", EVIL, sequence=9))
    view = await held.takes(thief.forged(channels=thief.channels(pointer)))
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.pointer("chat", "stable")
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.require_revision("chat", EVIL)


async def test_wrong_software_by_a_pointer_under_another_channels_name(
    held: Victim, thief: Thief
) -> None:
    """``stable`` with the pointer of ``beta``: both revisions are signed, the place is not."""
    moved = pointer_target(pointer_to("chat", "beta", TWO, sequence=9))
    moved.path = "channels/chat/stable.json"
    view = await held.takes(thief.forged(channels=thief.channels(moved)))
    with pytest.raises(TrustError, match="another channel's"):
        view.pointer("chat", "stable")


async def test_wrong_software_by_a_revision_of_another_model(held: Victim, thief: Thief) -> None:
    other = pointer_target(pointer_to("judge", "stable", ONE, sequence=9))
    view = await held.takes(thief.forged(channels=thief.channels(other)))
    with pytest.raises(TrustError, match="not signed by the publisher"):
        view.pointer("judge", "stable")
    with pytest.raises(NotFoundError):
        view.pointer("chat", "stable")


# Key compromise below the threshold, and in the wrong role


@pytest.mark.parametrize("stolen", [ROOT, ROOT_2, ROOT_3])
async def test_one_root_key_of_two_is_not_enough(
    held: Victim, repository: Repository, stolen: CryptoSigner
) -> None:
    root = sign_root(
        stolen,
        publisher=THIEF.public_key,
        online=THIEF.public_key,
        now=NOW,
        previous=repository.first_root,
    )
    bundle = TrustBundle(repository.trusted.bundle.roles, {2: root})
    await held.refuses(bundle, "root was signed by 1/2")


@pytest.mark.parametrize("alias", [ROOT, ROOT_2])
async def test_one_root_key_that_signs_twice_counts_once(
    held: Victim, repository: Repository, alias: CryptoSigner
) -> None:
    """Under its own id twice, or once under its own and once under another's."""
    keys = [key.public_key for key in (ROOT, ROOT_2, ROOT_3)]
    root = make_root(
        keys,
        2,
        publisher=THIEF.public_key,
        online=THIEF.public_key,
        now=NOW,
        previous=repository.first_root,
    )
    document = json.loads(sign(root, ROOT))
    first = document["signatures"][0]
    document["signatures"] = [first, {**first, "keyid": alias.public_key.keyid}]
    bundle = TrustBundle(repository.trusted.bundle.roles, {2: json.dumps(document).encode()})
    await held.refuses(bundle, "root was signed by 1/2|Failed to deserialize")


async def test_two_root_keys_are_enough(held: Victim, repository: Repository) -> None:
    assert (await held.takes(rotated(repository, NEXT).trusted.bundle)).versions["root"] == 2


async def test_new_root_needs_its_own_threshold_too(held: Victim, repository: Repository) -> None:
    new = [key.public_key for key in (THIEF, NEXT)]
    root = make_root(
        new,
        2,
        publisher=PUBLISHER.public_key,
        online=ONLINE.public_key,
        now=NOW,
        previous=repository.first_root,
    )
    signed = sign(root, ROOT, ROOT_2, NEXT)
    bundle = TrustBundle(repository.trusted.bundle.roles, {2: signed})
    await held.refuses(bundle, "root was signed by 1/2")


async def test_online_key_cannot_publish(held: Victim, thief: Thief) -> None:
    target = TargetFile(5, {"sha256": EVIL}, revision_target("chat", EVIL))
    own = Targets(1000, expires=expiry(NOW, DAY_S), targets={target.path: target})
    await held.refuses(thief.forged(revisions=sign(own, ONLINE)), "revisions was signed by 0/1")


async def test_online_key_cannot_take_over_the_delegations(held: Victim, thief: Thief) -> None:
    own = sign_targets(ONLINE, online=ONLINE.public_key, now=NOW)
    await held.refuses(thief.forged(targets=own), "targets was signed by 0/1")


async def test_publishers_key_alone_cannot_move_a_channel(
    held: Victim, repository: Repository
) -> None:
    pointer = pointer_target(pointer_to("chat", "stable", TWO, sequence=9))
    stolen = Thief(repository.trusted.bundle, key=PUBLISHER)
    forged = stolen.forged(channels=stolen.channels(pointer))
    await held.refuses(forged, "timestamp was signed by 0/1")


async def test_publishers_key_cannot_sign_channels_even_with_a_snapshot_around_them(
    held: Victim, repository: Repository, thief: Thief
) -> None:
    pointer = pointer_target(pointer_to("chat", "stable", TWO, sequence=9))
    by_publisher = Thief(repository.trusted.bundle, key=PUBLISHER).channels(pointer)
    await held.refuses(thief.forged(channels=by_publisher), "channels was signed by 0/1")


@pytest.mark.parametrize("signer", [ROOT, PUBLISHER])
async def test_timestamp_signed_by_another_roles_key_is_refused(
    held: Victim, repository: Repository, signer: CryptoSigner
) -> None:
    forged = Thief(repository.trusted.bundle, key=signer).forged()
    await held.refuses(forged, "timestamp was signed by 0/1")


# Fast-forward attack


@pytest.fixture
def fast_forwarded(thief: Thief) -> TrustBundle:
    """Versions as high as they go, by a thief of the online key."""
    return thief.forged(FAR, channels=thief.channels(version=FAR))


async def test_fast_forward_shuts_the_news_out_until_the_rotation(
    held: Victim, repository: Repository, fast_forwarded: TrustBundle
) -> None:
    await held.takes(fast_forwarded)
    moved = repository.set_channel("chat", "stable", TWO, now=NOW).repository
    await held.refuses(moved.trusted.bundle, "version")


@pytest.mark.parametrize("state", ["cold", "held", "attacked", "attacked and restarted"])
async def test_fast_forward_is_recovered_by_a_new_online_key(
    cold: Victim, repository: Repository, fast_forwarded: TrustBundle, folder: Path, state: str
) -> None:
    if state != "cold":
        await cold.takes(repository.trusted.bundle)
    if "attacked" in state:
        await cold.takes(fast_forwarded)
    if "restarted" in state:
        cold.store = TrustStore(folder, repository.first_root, clock=cold.clock)
        assert cold.store.view is not None
        assert cold.store.view.versions[TIMESTAMP] == FAR
    recovered = rotated(repository, NEXT).set_channel("chat", "stable", TWO, now=NOW).repository
    view = await cold.takes(recovered.trusted.bundle)
    assert view.pointer("chat", "stable").revision == TWO
    assert max(view.versions.values()) < 100
    again = TrustBundle(fast_forwarded.roles, recovered.trusted.bundle.roots)
    await cold.refuses(again, "timestamp was signed by 0/1")


async def test_fast_forward_of_the_publishers_lists_is_recovered_too(
    held: Victim, repository: Repository, thief: Thief
) -> None:
    """With both keys stolen. The snapshot that remembers the high version goes with the online
    key, so both are rotated."""
    listed = read(repository.trusted.bundle.roles[REVISIONS], Targets).signed
    listed.version = FAR
    await held.takes(thief.forged(FAR, revisions=sign(listed, PUBLISHER)))
    changes = Changes(online=NEXT.public_key, publisher=THIEF.public_key)
    rotation = prepare_rotation(repository.bundle(0), repository.first_root, changes, now=NOW)
    signed = add_signatures(rotation, repository.first_root, [ROOT, ROOT_2, THIEF])
    recovered = repository.accept(
        root=signed.root,
        targets=signed.targets,
        revisions=signed.revisions,
        online_key=NEXT,
        now=NOW,
    ).repository
    view = await held.takes(recovered.trusted.bundle)
    assert view.versions[REVISIONS] < 100
    assert read(recovered.trusted.bundle.roots[2], Root).signed.version == 2
