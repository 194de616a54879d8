"""What a client keeps: over failures, restarts, kill -9, and beside other processes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from securesystemslib.signer import CryptoSigner

from origin.documents import DAY_S
from origin.offline import sign_revisions, sign_root, sign_targets
from origin.signing import Repository
from wire.errors import ConfigError, NotFoundError, TrustError, TrustExpiredError, TrustStateError
from wire.trust import TrustView, verify
from wire.trust_bundle import REVISIONS, TARGETS, TrustLimits, decode_bundle
from wire.trust_store import STATE_NAME, TrustStore

NOW = 1_000_000_000.0
REVISIONS_OF_CHAT = [hashlib.sha256(bytes([i])).hexdigest() for i in range(4)]


def key(seed: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ROOT, PUBLISHER, ONLINE, NEXT = (key(seed) for seed in range(4))


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def published() -> Repository:
    repository = Repository.create(ROOT, PUBLISHER, ONLINE, now=NOW)
    signed = sign_revisions(
        repository.document("1.revisions.json"),
        PUBLISHER,
        [("chat", revision, 100) for revision in REVISIONS_OF_CHAT],
        now=NOW,
    )
    return rolled(repository.accept_revisions(signed, now=NOW).repository, 0)


def rolled(repository: Repository, which: int, *, now: float = NOW) -> Repository:
    revision = REVISIONS_OF_CHAT[which]
    return repository.set_channel("chat", "stable", revision, now=now).repository


def rotated(repository: Repository, online: CryptoSigner, *, now: float = NOW) -> Repository:
    bundle = repository.trusted.bundle
    newest = bundle.roots[max(bundle.roots)] if bundle.roots else repository.first_root
    return repository.accept(
        root=sign_root(
            ROOT,
            publisher=PUBLISHER.public_key,
            online=online.public_key,
            now=now,
            previous=newest,
        ),
        targets=sign_targets(
            PUBLISHER, online=online.public_key, now=now, previous=bundle.roles[TARGETS]
        ),
        online_key=online,
        now=now,
    ).repository


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def repository() -> Repository:
    return published()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "trust"


@pytest.fixture
def store(folder: Path, repository: Repository, clock: Clock) -> TrustStore:
    store = TrustStore(folder, repository.first_root, clock=clock)
    store.update(repository.bundle(1))
    return store


def revision_of(view: TrustView | None) -> str:
    assert view is not None
    return view.pointer("chat", "stable").revision


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Restarts


def test_new_client_believes_nothing(folder: Path, repository: Repository) -> None:
    store = TrustStore(folder, repository.first_root)
    assert store.view is None
    assert store.root_version == 1
    assert not store.problem
    with pytest.raises(NotFoundError):
        store.bundle(1)


def test_restarted_client_has_what_it_verified(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    again = TrustStore(folder, repository.first_root, clock=clock)
    assert again.view == store.view
    assert not again.problem


def test_client_restarted_after_expiry_serves_flagged(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    clock.now = NOW + 400 * DAY_S
    again = TrustStore(folder, repository.first_root, clock=clock)
    assert revision_of(again.view) == REVISIONS_OF_CHAT[0]
    assert again.view is not None
    assert again.view.expired
    with pytest.raises(TrustExpiredError):
        again.update(repository.bundle(1))
    assert again.view.expired


def test_restarted_client_still_refuses_a_rollback(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    store.update(rolled(repository, 1).bundle(1))
    again = TrustStore(folder, repository.first_root, clock=clock)
    with pytest.raises(TrustError, match="timestamp version"):
        again.update(repository.bundle(1))
    assert revision_of(again.view) == REVISIONS_OF_CHAT[1]


def test_restart_after_rotations_goes_over_every_root(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    once = rotated(repository, NEXT)
    store.update(once.bundle(store.root_version))
    twice = rotated(once, key(9))
    store.update(twice.bundle(store.root_version))
    again = TrustStore(folder, repository.first_root, clock=clock)
    assert (again.root_version, again.view) == (3, store.view)


def test_client_installed_anew_with_a_newer_root_keeps_its_state(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    newer = rotated(repository, NEXT)
    store.update(newer.bundle(1))
    again = TrustStore(folder, newer.document("2.root.json"), clock=clock)
    assert (again.root_version, again.view, again.problem) == (2, store.view, "")


def test_client_installed_for_another_repository_starts_anew(
    store: TrustStore, folder: Path, clock: Clock
) -> None:
    other = Repository.create(key(7), key(8), key(9), now=NOW)
    again = TrustStore(folder, other.first_root, clock=clock)
    assert again.view is None
    assert "not used" in again.problem
    again.update(other.bundle(1))
    assert not again.problem


def test_provisioned_root_that_is_none_is_a_configuration_error(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"copy the publisher's root\.json"):
        TrustStore(folder, b"{}")


# Failures change nothing


def test_failing_update_leaves_memory_and_disk_alone(
    store: TrustStore, folder: Path, repository: Repository
) -> None:
    before, view = contents(folder), store.view
    newer = json.loads(rolled(repository, 1).bundle(1))
    newer["channels"] = json.loads(repository.bundle(1))["channels"]
    for bad in (b"", b"{}", json.dumps(newer).encode()):
        with pytest.raises(TrustError):
            store.update(bad)
        assert contents(folder) == before
        assert store.view == view


def test_same_bundle_is_accepted_until_it_expires(
    store: TrustStore, repository: Repository, clock: Clock
) -> None:
    bundle = repository.bundle(1)
    assert store.update(bundle) == store.view
    clock.now = NOW + DAY_S
    with pytest.raises(TrustExpiredError, match="timestamp"):
        store.update(bundle)
    assert store.view is not None
    assert store.view.expired


def test_renewed_timestamp_ends_the_expired_state(
    store: TrustStore, repository: Repository, clock: Clock
) -> None:
    clock.now = NOW + 3 * DAY_S
    renewed = repository.retimestamp(now=clock.now).repository
    assert not store.update(renewed.bundle(1)).expired


def test_clock_that_was_ahead_does_no_harm(
    store: TrustStore, repository: Repository, clock: Clock
) -> None:
    clock.now = NOW + 5 * DAY_S
    with pytest.raises(TrustExpiredError, match="check this machine's clock"):
        store.update(rolled(repository, 1).bundle(1))
    clock.now = NOW
    assert revision_of(store.update(rolled(repository, 1).bundle(1))) == REVISIONS_OF_CHAT[1]


def test_folder_that_cannot_be_written_is_named(
    tmp_path: Path, repository: Repository, clock: Clock
) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = TrustStore(tmp_path / "file" / "trust", repository.first_root, clock=clock)
    assert "Not a directory" in store.problem
    with pytest.raises(TrustStateError, match="make the folder writable"):
        store.update(repository.bundle(1))
    assert store.view is None


def test_state_that_could_not_be_read_back_is_not_kept(
    folder: Path, repository: Repository, clock: Clock
) -> None:
    """Each bundle is within the limit, but the roots add up over the updates."""
    first = repository.first_root
    bundles: list[bytes] = []
    for seed in range(20, 24):
        repository = rotated(repository, key(seed))
        bundles.append(repository.bundle(len(bundles) + 1))
    limits = TrustLimits(bundle_bytes=max(map(len, bundles)) + 100)
    store = TrustStore(folder, first, clock=clock, limits=limits)
    store.update(bundles[0])
    before = store.view
    with pytest.raises(TrustError, match="over"):
        store.update(bundles[1])
    assert store.view == before
    assert TrustStore(folder, first, clock=clock, limits=limits).view == before


# Damaged state


@pytest.mark.parametrize("damage", [b"", b"{}", b"\x00" * 100, None])
def test_damaged_state_counts_as_none_and_heals(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock, damage: bytes | None
) -> None:
    state = folder / STATE_NAME
    good = state.read_bytes()
    state.write_bytes(good[: len(good) // 2] if damage is None else damage)
    again = TrustStore(folder, repository.first_root, clock=clock)
    assert again.view is None
    assert str(state) in again.problem
    again.update(repository.bundle(1))
    assert not again.problem
    assert state.read_bytes() == good


def test_state_that_another_key_signed_is_not_used(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    other = Repository.create(key(7), key(8), key(9), now=NOW)
    (folder / STATE_NAME).write_bytes(other.bundle(1))
    again = TrustStore(folder, repository.first_root, clock=clock)
    assert again.view is None
    assert "0/1 keys" in again.problem


def test_running_client_outlives_damage_to_its_state(
    store: TrustStore, folder: Path, repository: Repository
) -> None:
    newer = rolled(repository, 1)
    store.update(newer.bundle(1))
    (folder / STATE_NAME).write_bytes(b"rotten")
    with pytest.raises(TrustError, match="timestamp version"):
        store.update(repository.bundle(1))
    assert store.problem
    store.update(newer.bundle(1))
    assert not store.problem
    assert decode_bundle((folder / STATE_NAME).read_bytes(), TrustLimits())


def test_leftover_of_a_write_that_was_cut_off_is_ignored(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    leftover = (folder / STATE_NAME).with_suffix(".new")
    leftover.write_bytes(repository.bundle(1)[:100])
    again = TrustStore(folder, repository.first_root, clock=clock)
    assert again.view == store.view
    again.update(rolled(repository, 1).bundle(1))
    assert not leftover.exists()


KILLED = """
import sys, pathlib
from wire.trust_store import TrustStore
folder, given = map(pathlib.Path, sys.argv[1:])
store = TrustStore(folder, (given / "root.json").read_bytes(), clock=lambda: 1_000_000_000.0)
for bundle in sorted(given.glob("*.bundle")):
    store.update(bundle.read_bytes())
    print(bundle.name, flush=True)
"""


def test_killed_in_the_middle_the_state_is_the_old_or_the_new(
    tmp_path: Path, repository: Repository, clock: Clock
) -> None:
    (tmp_path / "root.json").write_bytes(repository.first_root)
    for number in range(45):
        (tmp_path / f"{number:02}.bundle").write_bytes(repository.bundle(1))
        repository = rolled(repository, (number + 1) % 4)
    for lines in random.Random(1).sample(range(1, 30), 2):
        folder = tmp_path / f"state-{lines}"
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(folder), str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None
            for _ in range(lines):
                last = process.stdout.readline()
            process.kill()
        again = TrustStore(folder, (tmp_path / "root.json").read_bytes(), clock=clock)
        assert not again.problem
        assert again.view is not None
        acknowledged = int(last.split(b".")[0])
        assert again.view.versions["channels"] >= acknowledged + 2


# Several at once


def test_threads_end_at_the_newest(
    store: TrustStore, repository: Repository, folder: Path, clock: Clock
) -> None:
    bundles = []
    for number in range(8):
        repository = rolled(repository, (number + 1) % 4)
        bundles.append(repository.bundle(1))
    unexpected: list[Exception] = []

    def feed(order: list[bytes]) -> None:
        for bundle in order:
            try:
                store.update(bundle)
            except TrustError as error:
                if "timestamp version" not in str(error):
                    unexpected.append(error)

    orders = [random.Random(seed).sample(bundles, len(bundles)) for seed in range(4)]
    threads = [threading.Thread(target=feed, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not unexpected
    assert store.view == repository.view
    assert TrustStore(folder, repository.first_root, clock=clock).view == repository.view


def test_processes_that_share_a_folder_share_the_memory_of_versions(
    store: TrustStore, folder: Path, repository: Repository, clock: Clock
) -> None:
    other = TrustStore(folder, repository.first_root, clock=clock)
    newer = rolled(repository, 1)
    other.update(newer.bundle(1))
    with pytest.raises(TrustError, match="timestamp version"):
        store.update(repository.bundle(1))
    assert store.view == newer.view


def test_state_from_another_process_may_not_roll_back_either(
    store: TrustStore, folder: Path, repository: Repository
) -> None:
    newer = rolled(repository, 1)
    store.update(newer.bundle(1))
    (folder / STATE_NAME).unlink()
    (folder / STATE_NAME).write_bytes(repository.bundle(1))
    store.update(newer.bundle(1))
    assert store.view == newer.view
    assert (folder / STATE_NAME).read_bytes() == newer.bundle(1)


# Passing on


def test_bundle_passed_on_convinces_a_cold_client(
    store: TrustStore, repository: Repository, tmp_path: Path, clock: Clock
) -> None:
    newer = rotated(repository, NEXT)
    store.update(newer.bundle(1))
    cold = TrustStore(tmp_path / "cold", repository.first_root, clock=clock)
    assert cold.update(store.bundle(cold.root_version)) == store.view
    warm = TrustStore(tmp_path / "warm", newer.document("2.root.json"), clock=clock)
    assert not decode_bundle(store.bundle(warm.root_version), TrustLimits()).roots
    assert warm.update(store.bundle(warm.root_version)) == store.view


def test_client_whose_root_is_older_than_ours_is_sent_on(
    repository: Repository, folder: Path, clock: Clock
) -> None:
    newer = rotated(repository, NEXT)
    store = TrustStore(folder, newer.document("2.root.json"), clock=clock)
    store.update(newer.bundle(2))
    assert store.bundle(1) == newer.bundle(1)
    with pytest.raises(NotFoundError):
        store.bundle(0)


def test_every_root_is_passed_on_to_one_who_asks_for_all(
    store: TrustStore, repository: Repository
) -> None:
    newer = rotated(repository, NEXT)
    store.update(newer.bundle(0))
    assert store.bundle(0) == newer.bundle(0)
    assert set(decode_bundle(store.bundle(0), TrustLimits()).roots) == {1, 2}


# Any order of events


class HistoryMachine(RuleBasedStateMachine):
    """An origin that moves on and a client that hears bundles in any order, old ones too.

    Whatever it hears, the client is at something the origin published, and never goes back.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repository = published()
        self.online_keys = iter(range(100, 200))
        self.now = NOW
        self.history = [self.repository.trusted.bundle]
        self.views = [self.repository.view]
        self.anchor = self.repository.first_root
        self.client = verify(
            self.history[0], anchor=self.anchor, held=None, now=NOW, limits=TrustLimits()
        )

    def publish(self, repository: Repository) -> None:
        self.repository = repository
        self.history.append(repository.trusted.bundle)
        self.views.append(repository.view)

    @rule(which=st.integers(0, 3))
    def roll(self, which: int) -> None:
        self.publish(rolled(self.repository, which, now=self.now))

    @rule(days=st.floats(0.1, 3))
    def time_passes(self, days: float) -> None:
        self.now += days * DAY_S
        self.publish(self.repository.retimestamp(now=self.now).repository)

    @rule()
    def publisher_signs_anew(self) -> None:
        current = self.repository.trusted.bundle.roles[REVISIONS]
        signed = sign_revisions(current, PUBLISHER, now=self.now)
        self.publish(self.repository.accept_revisions(signed, now=self.now).repository)

    @rule()
    def online_key_is_rotated(self) -> None:
        online = key(next(self.online_keys))
        self.publish(rotated(self.repository, online, now=self.now))

    @rule(data=st.data())
    def client_hears(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.history) - 1))
        held = self.client
        roots = held.bundle.roots
        try:
            found = verify(
                self.history[index].after(held.view.versions["root"]),
                anchor=roots[max(roots)] if roots else self.anchor,
                held=held.bundle,
                now=self.now,
                limits=TrustLimits(),
            )
        except TrustError:
            # The newest is refused only where time has passed over it.
            assert index < len(self.history) - 1 or self.views[index].at(self.now).expired
            return
        assert all(found.view.versions[r] >= v for r, v in held.view.versions.items())
        if found.bundle.roots:
            self.anchor = found.bundle.roots[max(found.bundle.roots)]
        self.client = found

    @invariant()
    def client_is_at_something_published(self) -> None:
        assert self.client.view in self.views


TestHistory = HistoryMachine.TestCase
TestHistory.settings = settings(max_examples=8, stateful_step_count=12, deadline=None)
