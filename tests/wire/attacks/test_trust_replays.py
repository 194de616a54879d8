"""The attacks that The Update Framework names (TUF 1.0.33 section 1.5.2), by somebody who controls
the edge and has no key: a real HTTP server answers the real client, which keeps its state on disk.
What thieves of keys can do is in ``test_trust_stolen_keys``.

Extraneous dependencies, which the specification names too, cannot be had: nothing that is published
can ask for something else to be installed; a channel names one revision, and a revision its own
files. A slow answer is the transport's business (its stall timeout).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tuf.api.metadata import Timestamp

from origin.documents import (
    DAY_S,
    Lifetimes,
    expiry,
    read,
    sign,
    sign_snapshot,
    sign_timestamp,
)
from origin.offline import sign_root
from origin.signing import Repository
from tests.fakes.hostile_edge import HostileEdge, hostile_edge
from tests.fakes.trust_victim import (
    LIMITS,
    NEXT,
    NOW,
    ONE,
    ONLINE,
    PUBLISHER,
    ROOT,
    THIEF,
    TWO,
    Clock,
    Thief,
    Victim,
    reaching,
    rotated,
    with_role,
)
from wire.errors import (
    SourceUnavailableError,
    TrustError,
    TrustExpiredError,
)
from wire.trust_bundle import (
    CHANNELS,
    REVISIONS,
    ROLES,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    TrustBundle,
)
from wire.trust_client import TrustClient
from wire.trust_store import TrustStore

# Arbitrary software attack


@pytest.mark.parametrize("role", ROLES)
async def test_arbitrary_software_by_an_edge_that_signs_with_its_own_key(
    cold: Victim, repository: Repository, role: str
) -> None:
    document = json.loads(repository.trusted.bundle.roles[role])
    document["signed"]["version"] += 1
    document["signatures"] = [{"keyid": THIEF.public_key.keyid, "sig": "00" * 64}]
    bundle = with_role(repository.trusted.bundle, role, json.dumps(document).encode())
    await cold.refuses(bundle, "does not verify")


async def test_arbitrary_software_by_an_edge_that_brings_its_own_root(
    held: Victim, repository: Repository
) -> None:
    own = Repository.create(THIEF, THIEF, THIEF, now=NOW)
    root = sign_root(
        THIEF,
        publisher=THIEF.public_key,
        online=THIEF.public_key,
        now=NOW,
        previous=repository.first_root,
    )
    await held.refuses(TrustBundle(own.trusted.bundle.roles, {2: root}), "root was signed by 0/2")


# Rollback attack


async def test_rollback_of_everything_by_a_replay(
    cold: Victim, repository: Repository, later: Repository
) -> None:
    await cold.takes(later.trusted.bundle)
    await cold.refuses(repository.trusted.bundle, "version")


async def test_rollback_survives_a_restart_of_the_client(
    cold: Victim, repository: Repository, later: Repository, folder: Path
) -> None:
    await cold.takes(later.trusted.bundle)
    again = TrustStore(folder, repository.first_root, clock=cold.clock)
    with pytest.raises(TrustError, match="version"):
        again.update(repository.bundle(1))


async def test_rollback_of_the_timestamp(
    cold: Victim, repository: Repository, later: Repository
) -> None:
    await cold.takes(later.trusted.bundle)
    old = repository.trusted.bundle.roles[TIMESTAMP]
    await cold.refuses(with_role(later.trusted.bundle, TIMESTAMP, old), "version")


async def test_rollback_of_the_snapshot(cold: Victim, later: Repository) -> None:
    await cold.takes(later.trusted.bundle)
    roles, expires = dict(later.trusted.bundle.roles), expiry(NOW, DAY_S)
    roles[SNAPSHOT] = sign_snapshot(roles, 1, ONLINE, expires)
    roles[TIMESTAMP] = sign_timestamp(roles[SNAPSHOT], 1, 1000, ONLINE, expires)
    await cold.refuses(TrustBundle(roles), "snapshot version must be")


@pytest.mark.parametrize("role", [TARGETS, REVISIONS, CHANNELS])
async def test_rollback_of_a_listed_role_by_a_thief_of_the_online_key(
    cold: Victim, repository: Repository, later: Repository, role: str
) -> None:
    """New timestamp and snapshot, both well signed, around an old file."""
    await cold.takes(later.trusted.bundle)
    old = {role: repository.trusted.bundle.roles[role]}
    await cold.refuses(Thief(later.trusted.bundle).forged(1000, **old), f"Expected {role}")


async def test_rollback_of_the_root_is_ignored(held: Victim, repository: Repository) -> None:
    """Roots that do not follow the trusted one are not looked at."""
    after = rotated(repository, NEXT)
    await held.takes(after.trusted.bundle)
    replay = TrustBundle(after.trusted.bundle.roles, {1: repository.first_root})
    view = await held.takes(replay)
    assert view.versions["root"] == held.client.root_version == 2


# Indefinite freeze attack


async def test_indefinite_freeze_ends_with_the_timestamp(
    held: Victim, repository: Repository
) -> None:
    held.clock.now += DAY_S - 1
    assert (await held.takes(repository.trusted.bundle)).state == "fresh"
    held.clock.now += 1
    with pytest.raises(TrustExpiredError):
        await held.takes(repository.trusted.bundle)
    in_grace = held.view
    assert in_grace.state == "expired_within_grace"
    assert in_grace.pointer("chat", "stable").revision == ONE
    in_grace.require_grace()
    held.clock.now += 7 * DAY_S
    beyond = held.view
    assert beyond.state == "beyond_grace"
    assert beyond.pointer("chat", "stable").revision == ONE
    with pytest.raises(TrustExpiredError, match="offline grace"):
        beyond.require_grace()


async def test_indefinite_freeze_of_a_cold_client(cold: Victim, repository: Repository) -> None:
    cold.clock.now += DAY_S
    await cold.refuses(repository.trusted.bundle, "expired", TrustExpiredError)
    assert cold.client.view is None


async def test_indefinite_freeze_cannot_be_stretched_with_the_online_key(
    held: Victim, thief: Thief, repository: Repository
) -> None:
    """The grace stands in the root, so a thief of the online key cannot sign a longer one."""
    timestamp = read(thief.forged().roles[TIMESTAMP], Timestamp).signed
    timestamp.unrecognized_fields["x-headwater-offline-grace-s"] = 10**9
    forged = thief.forged()
    view = await held.takes(with_role(forged, TIMESTAMP, sign(timestamp, ONLINE)))
    assert view.grace_s == repository.view.grace_s == 7 * DAY_S


@pytest.mark.parametrize("role", ["root", TARGETS, REVISIONS])
async def test_expired_role_of_an_offline_key_is_refused(
    edge: HostileEdge, tmp_path: Path, role: str
) -> None:
    lives = Lifetimes(**{f"{role}_s": 10.0})
    short = Repository.create(ROOT, PUBLISHER, ONLINE, now=NOW, lifetimes=lives)
    clock = Clock(NOW + 10)
    store = TrustStore(tmp_path, short.first_root, clock=clock)
    edge.serve(short.trusted.bundle)
    async with reaching(edge) as (source,):
        with pytest.raises(TrustExpiredError, match=role):
            await TrustClient(source, store).refresh()


# A clock that is wrong


async def test_clock_a_day_ahead_serves_flagged_and_heals(
    held: Victim, repository: Repository
) -> None:
    held.clock.now = NOW + DAY_S + 60
    moved = repository.set_channel("chat", "stable", TWO, now=NOW).repository
    await held.refuses(moved.trusted.bundle, "expired", TrustExpiredError)
    assert held.view.state == "expired_within_grace"
    assert held.view.pointer("chat", "stable").revision == ONE
    held.clock.now = NOW + 60
    assert (await held.takes(moved.trusted.bundle)).pointer("chat", "stable").revision == TWO


async def test_clock_a_day_behind_follows_the_news(held: Victim, repository: Repository) -> None:
    """It takes them, and a freeze then goes unseen for that day longer."""
    held.clock.now = NOW - DAY_S
    moved = repository.set_channel("chat", "stable", TWO, now=NOW).repository
    view = await held.takes(moved.trusted.bundle)
    assert (view.state, view.pointer("chat", "stable").revision) == ("fresh", TWO)
    held.clock.now = NOW
    assert held.view.state == "fresh"


async def test_clock_a_day_behind_still_refuses_a_rollback(
    held: Victim, repository: Repository, later: Repository
) -> None:
    await held.takes(later.trusted.bundle)
    held.clock.now = NOW - DAY_S
    await held.refuses(repository.trusted.bundle, "version")


# Mix-and-match attack


@pytest.mark.parametrize("role", [SNAPSHOT, REVISIONS, CHANNELS])
async def test_mix_and_match_of_an_old_file_with_new_ones(
    cold: Victim, repository: Repository, later: Repository, role: str
) -> None:
    old = repository.trusted.bundle.roles[role]
    await cold.refuses(with_role(later.trusted.bundle, role, old), "does not verify")


@pytest.mark.parametrize("role", [SNAPSHOT, REVISIONS, CHANNELS])
async def test_mix_and_match_of_a_new_file_with_old_ones(
    cold: Victim, repository: Repository, later: Repository, role: str
) -> None:
    new = later.trusted.bundle.roles[role]
    await cold.refuses(with_role(repository.trusted.bundle, role, new), "does not verify")


# Endless data attack


async def test_endless_data_in_place_of_a_bundle(held: Victim) -> None:
    held.edge.endless = True
    with pytest.raises((SourceUnavailableError, TrustError)):
        await held.client.refresh()
    assert held.edge.sent_bytes < 64 << 20
    assert held.view.state == "fresh"


async def test_endless_data_in_one_role(held: Victim, repository: Repository) -> None:
    huge = b" " * (LIMITS.timestamp_bytes + 1)
    await held.refuses(with_role(repository.trusted.bundle, TIMESTAMP, huge), "over")


async def test_endless_data_in_the_whole_bundle(held: Victim, repository: Repository) -> None:
    huge = b" " * (LIMITS.bundle_bytes + 1)
    await held.refuses(with_role(repository.trusted.bundle, REVISIONS, huge), "over")


async def test_endless_data_as_ever_more_roots(held: Victim, repository: Repository) -> None:
    roots = dict.fromkeys(range(1, LIMITS.roots + 2), repository.first_root)
    await held.refuses(TrustBundle(repository.trusted.bundle.roles, roots), "at most 256")


# Malicious mirrors


async def test_malicious_mirror_cannot_keep_the_news_of_an_honest_one_away(
    held: Victim, repository: Repository, later: Repository
) -> None:
    held.edge.serve(with_role(repository.trusted.bundle, TIMESTAMP, b"{}"))
    with hostile_edge() as honest:
        honest.serve(later.trusted.bundle)
        async with reaching(held.edge, honest) as (bad, good):
            with pytest.raises(TrustError):
                await TrustClient(bad, held.store).refresh()
            view = await TrustClient(bad, held.store, [bad, good]).refresh()
    assert view.pointer("chat", "stable").revision == TWO
