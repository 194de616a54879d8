"""The origin's repository: what each change publishes, in which order, and what is refused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Targets
from tuf.ngclient import FetcherInterface, Updater

from origin.documents import DAY_S, Lifetimes, expiry, read, sign
from origin.offline import sign_revisions, sign_root, sign_targets
from origin.signing import Commit, Repository
from wire.channel import Canary, decode_pointer
from wire.errors import (
    ConfigError,
    ConflictError,
    ForbiddenError,
    NameInvalidError,
    NotFoundError,
    RequestInvalidError,
    TrustError,
    TrustExpiredError,
)
from wire.trust_store import TrustStore

NOW = 4_000_000_000.0
"""A time that the stock client, which has no clock to set, takes for not yet expired."""
ONE, TWO, UNSIGNED = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2", b"3"))


def key(seed: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


ROOT, PUBLISHER, ONLINE, NEXT, THIEF = (key(seed) for seed in range(5))


# Repositories are values: a change gives another one, so tests may share these.


@pytest.fixture(scope="module")
def empty() -> Repository:
    return Repository.create(ROOT, PUBLISHER, ONLINE, now=NOW)


@pytest.fixture(scope="module")
def repository(empty: Repository) -> Repository:
    """Two signed revisions; ``stable`` on the first."""
    accepted = empty.accept_revisions(more(empty, ONE, TWO), now=NOW).repository
    return accepted.set_channel("chat", "stable", ONE, now=NOW).repository


def revisions_file(repository: Repository) -> bytes:
    return repository.trusted.bundle.roles["revisions"]


def more(repository: Repository, *revisions: str, by: CryptoSigner = PUBLISHER) -> bytes:
    add = [("chat", revision, 100) for revision in revisions]
    return sign_revisions(
        revisions_file(repository), by, add, now=NOW, previous=PUBLISHER.public_key
    )


def root_after(
    repository: Repository,
    *,
    root: CryptoSigner = ROOT,
    online: CryptoSigner = ONLINE,
    now: float = NOW,
) -> bytes:
    roots = repository.trusted.bundle.roots
    return sign_root(
        root,
        publisher=PUBLISHER.public_key,
        online=online.public_key,
        now=now,
        previous=roots[max(roots)] if roots else repository.first_root,
        previous_key=ROOT,
    )


def targets_after(repository: Repository, *, online: CryptoSigner = ONLINE) -> bytes:
    previous = repository.trusted.bundle.roles["targets"]
    return sign_targets(PUBLISHER, online=online.public_key, now=NOW, previous=previous)


def client_of(repository: Repository, folder: Path, *, now: float = NOW) -> TrustStore:
    return TrustStore(folder, repository.first_root, clock=lambda: now)


# What is published


def test_new_repository_convinces_a_client(empty: Repository, tmp_path: Path) -> None:
    view = client_of(empty, tmp_path).update(empty.bundle(1))
    assert view == empty.view
    assert not view.pointers()
    assert not view.revisions


def test_first_files_are_stored_timestamp_last(empty: Repository) -> None:
    assert list(empty.files) == [
        "1.root.json",
        "1.channels.json",
        "1.revisions.json",
        "1.targets.json",
        "1.snapshot.json",
        "timestamp.json",
    ]


def test_roll_stores_only_what_changed_timestamp_last(repository: Repository) -> None:
    commit = repository.set_channel("chat", "stable", TWO, now=NOW)
    assert list(commit.files) == ["3.channels.json", "4.snapshot.json", "timestamp.json"]
    assert commit.repository.view.pointer("chat", "stable").sequence == 2


def test_change_leaves_the_repository_it_was_made_from(repository: Repository) -> None:
    """A caller whose store fails in the middle goes on with what is stored."""
    before = repository.files
    repository.set_channel("chat", "stable", TWO, now=NOW)
    assert repository.files == before


def test_roll_to_where_it_points_changes_nothing(repository: Repository) -> None:
    assert repository.set_channel("chat", "stable", ONE, now=NOW) == Commit(repository, {})


def test_canary_is_published_and_ended(repository: Repository) -> None:
    canary = Canary(revision=TWO, percent=10)
    started = repository.set_channel("chat", "stable", ONE, canary=canary, now=NOW).repository
    assert started.view.pointer("chat", "stable").canary == canary
    ended = started.set_channel("chat", "stable", TWO, now=NOW).repository
    assert ended.view.pointer("chat", "stable").canary is None


def test_channel_can_be_removed(repository: Repository) -> None:
    gone = repository.remove_channel("chat", "stable", now=NOW).repository
    with pytest.raises(NotFoundError):
        gone.view.pointer("chat", "stable")
    with pytest.raises(NotFoundError):
        gone.remove_channel("chat", "stable", now=NOW)


def test_pointer_bytes_say_what_the_view_says(repository: Repository) -> None:
    pointer = decode_pointer(repository.pointer("chat", "stable"))
    assert pointer == repository.view.pointer("chat", "stable")


def test_unsigned_revision_cannot_be_rolled_to(repository: Repository) -> None:
    with pytest.raises(NotFoundError, match="publish it first"):
        repository.set_channel("chat", "stable", UNSIGNED, now=NOW)
    canary = Canary(revision=UNSIGNED, percent=10)
    with pytest.raises(NotFoundError, match="publish it first"):
        repository.set_channel("chat", "stable", ONE, canary=canary, now=NOW)
    with pytest.raises(NotFoundError, match="publish it first"):
        repository.set_channel("judge", "stable", ONE, now=NOW)


@pytest.mark.parametrize(
    ("model", "channel", "revision"),
    [("../chat", "stable", ONE), ("chat", "sta/ble", ONE), ("chat", "stable", "latest")],
)
def test_bad_names_are_refused(
    repository: Repository, model: str, channel: str, revision: str
) -> None:
    with pytest.raises(NameInvalidError):
        repository.set_channel(model, channel, revision, now=NOW)


# Generations


def test_generation_before_is_still_served(repository: Repository) -> None:
    commit = repository.set_channel("chat", "stable", TWO, now=NOW)
    after = commit.repository
    assert after.document("3.channels.json") == commit.files["3.channels.json"]
    assert after.document("2.channels.json") == repository.document("2.channels.json")
    assert after.document("3.snapshot.json") == repository.document("3.snapshot.json")
    assert "1.channels.json" in commit.obsolete
    with pytest.raises(NotFoundError):
        after.document("1.channels.json")


def test_renewed_timestamp_keeps_the_generation_before(repository: Repository) -> None:
    rolled = repository.set_channel("chat", "stable", TWO, now=NOW).repository
    commit = rolled.retimestamp(now=NOW + 1)
    assert not commit.obsolete
    assert commit.repository.previous == rolled.previous


def test_store_that_drops_obsolete_files_stays_loadable_and_small(repository: Repository) -> None:
    stored = dict(repository.files)
    for number in range(6):
        commit = repository.set_channel("chat", "stable", (TWO, ONE)[number % 2], now=NOW)
        stored.update(commit.files)
        for name in commit.obsolete:
            stored.pop(name, None)
        repository = commit.repository
        assert Repository.load(stored, ONLINE).view == repository.view
    assert len(stored) <= len(repository.files) + 2


@pytest.mark.parametrize("name", ["2.root.json", "root.json", "../1.root.json", "timestamp", ""])
def test_unknown_document_is_not_found(repository: Repository, name: str) -> None:
    with pytest.raises(NotFoundError):
        repository.document(name)


# Loading


def test_loaded_repository_goes_on(repository: Repository) -> None:
    loaded = Repository.load(repository.files, ONLINE)
    assert loaded.view == repository.view
    commit = loaded.set_channel("chat", "stable", TWO, now=NOW)
    assert commit.files == repository.set_channel("chat", "stable", TWO, now=NOW).files


def test_every_crash_in_the_middle_of_a_commit_leaves_the_old_state(
    repository: Repository,
) -> None:
    commit = repository.set_channel("chat", "stable", TWO, now=NOW)
    names = list(commit.files)
    for stored in range(len(names)):
        documents = {**repository.files, **{n: commit.files[n] for n in names[:stored]}}
        assert Repository.load(documents, ONLINE).view == repository.view
    assert Repository.load({**repository.files, **commit.files}, ONLINE).view != repository.view


@pytest.mark.parametrize("name", ["1.root.json", "3.snapshot.json", "timestamp.json"])
def test_missing_document_is_named(repository: Repository, name: str) -> None:
    documents = {n: data for n, data in repository.files.items() if n != name}
    with pytest.raises(ConfigError, match=name):
        Repository.load(documents, ONLINE)


@pytest.mark.parametrize("name", ["timestamp.json", "3.snapshot.json"])
def test_damaged_document_is_refused(repository: Repository, name: str) -> None:
    with pytest.raises(ConfigError, match="damaged"):
        Repository.load({**repository.files, name: b"{}"}, ONLINE)


def test_changed_document_is_refused(repository: Repository) -> None:
    changed = repository.files["2.channels.json"].replace(ONE.encode(), TWO.encode())
    with pytest.raises(TrustError):
        Repository.load({**repository.files, "2.channels.json": changed}, ONLINE)


def test_wrong_online_key_is_refused(repository: Repository) -> None:
    with pytest.raises(ConfigError, match="online key is not the one"):
        Repository.load(repository.files, PUBLISHER)


# Expiry


def test_renewal_comes_before_expiry(repository: Repository) -> None:
    assert repository.renewal_due == NOW + DAY_S / 2
    commit = repository.retimestamp(now=NOW + DAY_S / 2)
    assert list(commit.files) == ["timestamp.json"]
    assert commit.repository.renewal_due == NOW + DAY_S


def test_snapshot_and_channels_are_renewed_at_half_their_life(repository: Repository) -> None:
    commit = repository.retimestamp(now=NOW + 3.5 * DAY_S)
    assert list(commit.files) == ["3.channels.json", "4.snapshot.json", "timestamp.json"]
    assert commit.repository.view.expires["channels"] == NOW + 10.5 * DAY_S
    assert commit.repository.view.pointers() == repository.view.pointers()


def test_origin_that_slept_past_expiry_recovers(repository: Repository, tmp_path: Path) -> None:
    late = NOW + 30 * DAY_S
    loaded = Repository.load(repository.files, ONLINE).retimestamp(now=late).repository
    assert not client_of(loaded, tmp_path, now=late).update(loaded.bundle(1)).expired


def test_origin_cannot_renew_what_offline_keys_sign(repository: Repository) -> None:
    late = NOW + 366 * DAY_S
    with pytest.raises(TrustExpiredError):
        repository.retimestamp(now=late)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=5, max_size=15))
def test_renewed_when_due_it_never_expires(parts: list[float]) -> None:
    repository = Repository.create(
        ROOT, PUBLISHER, ONLINE, now=NOW, lifetimes=Lifetimes(snapshot_s=2 * DAY_S)
    )
    now = NOW
    for part in parts:
        now += (repository.renewal_due - now) * part
        assert not repository.view.at(now).expired
        repository = repository.retimestamp(now=now).repository
        assert repository.renewal_due > now


# From the publisher


def test_publishers_revisions_are_taken(empty: Repository) -> None:
    commit = empty.accept_revisions(more(empty, ONE), now=NOW)
    assert list(commit.files) == ["2.revisions.json", "2.snapshot.json", "timestamp.json"]
    assert commit.repository.view.require_revision("chat", ONE) == 100


def test_revisions_of_another_key_are_forbidden(repository: Repository) -> None:
    for signer in (THIEF, ONLINE, ROOT):
        forged = sign(Targets(3, expires=expiry(NOW, DAY_S)), signer)
        with pytest.raises(ForbiddenError, match="revisions is not signed"):
            repository.accept_revisions(forged, now=NOW)


def test_two_publishers_at_once_conflict(repository: Repository) -> None:
    mine, yours = more(repository, UNSIGNED), more(repository, ONE)
    after = repository.accept_revisions(mine, now=NOW).repository
    with pytest.raises(ConflictError, match="sign on top"):
        after.accept_revisions(yours, now=NOW)


def test_skipped_version_conflicts(repository: Repository) -> None:
    document = read(more(repository), Targets)
    document.signed.version += 1
    with pytest.raises(ConflictError, match="is next"):
        repository.accept_revisions(sign(document.signed, PUBLISHER), now=NOW)


def test_revisions_are_not_lost_silently(repository: Repository) -> None:
    signed = sign_revisions(revisions_file(repository), PUBLISHER, remove=[("chat", TWO)], now=NOW)
    with pytest.raises(ConflictError, match="1 signed revisions would be lost"):
        repository.accept_revisions(signed, now=NOW)
    after = repository.accept_revisions(signed, now=NOW, allow_removal=True).repository
    with pytest.raises(TrustError):
        after.view.require_revision("chat", TWO)


def test_revision_that_a_channel_needs_cannot_go(repository: Repository) -> None:
    signed = sign_revisions(revisions_file(repository), PUBLISHER, remove=[("chat", ONE)], now=NOW)
    with pytest.raises(ConflictError, match=r"chat/stable\.json would break"):
        repository.accept_revisions(signed, now=NOW, allow_removal=True)


@pytest.mark.parametrize("data", [b"", b"{}", b"[" * 10_000])
def test_garbage_from_a_publisher_is_refused(repository: Repository, data: bytes) -> None:
    with pytest.raises(RequestInvalidError):
        repository.accept_revisions(data, now=NOW)


def test_another_role_in_place_of_revisions_is_refused(repository: Repository) -> None:
    with pytest.raises(RequestInvalidError, match="snapshot file where targets"):
        repository.accept_revisions(repository.document("3.snapshot.json"), now=NOW)


def test_expired_document_is_refused(repository: Repository) -> None:
    old = sign_revisions(revisions_file(repository), PUBLISHER, now=NOW - 400 * DAY_S)
    with pytest.raises(TrustExpiredError):
        repository.accept_revisions(old, now=NOW)


def test_offline_documents_are_renewed_together(repository: Repository, tmp_path: Path) -> None:
    late = NOW + 366 * DAY_S
    bundle = repository.trusted.bundle
    renewed = repository.accept(
        root=root_after(repository, now=late),
        targets=sign_targets(
            PUBLISHER, online=ONLINE.public_key, now=late, previous=bundle.roles["targets"]
        ),
        revisions=sign_revisions(bundle.roles["revisions"], PUBLISHER, now=late),
        online_key=ONLINE,
        now=late,
    ).repository
    assert not client_of(repository, tmp_path, now=late).update(renewed.bundle(1)).expired


# Rotation


def test_rotation_is_one_commit_root_first(repository: Repository) -> None:
    commit = repository.accept(
        root=root_after(repository, root=NEXT, online=THIEF),
        targets=targets_after(repository, online=THIEF),
        online_key=THIEF,
        now=NOW,
    )
    assert list(commit.files) == [
        "2.root.json",
        "3.channels.json",
        "2.targets.json",
        "4.snapshot.json",
        "timestamp.json",
    ]
    after = commit.repository
    assert after.view.pointers() == repository.view.pointers()
    assert Repository.load({**repository.files, **commit.files}, THIEF).view == after.view
    assert after.document("1.root.json") == repository.first_root


def test_rotation_cut_off_between_its_files_leaves_the_state_before(
    repository: Repository,
) -> None:
    """Until the timestamp is stored the old online key serves; from then on the new one."""
    commit = repository.accept(
        root=root_after(repository, online=NEXT),
        targets=targets_after(repository, online=NEXT),
        online_key=NEXT,
        now=NOW,
    )
    names = list(commit.files)
    for stored in range(len(names)):
        documents = {**repository.files, **{n: commit.files[n] for n in names[:stored]}}
        loaded = Repository.load(documents, ONLINE, spare_key=NEXT)
        assert (loaded.view, loaded.online_key) == (repository.view, ONLINE)
        assert loaded.retimestamp(now=NOW).repository.view.versions["root"] == 1
    whole = Repository.load({**repository.files, **commit.files}, ONLINE, spare_key=NEXT)
    assert (whole.view, whole.online_key) == (commit.repository.view, NEXT)


def test_rotation_without_the_old_root_key_is_refused(repository: Repository) -> None:
    forged = sign_root(
        THIEF,
        publisher=PUBLISHER.public_key,
        online=ONLINE.public_key,
        now=NOW,
        previous=repository.first_root,
    )
    with pytest.raises(TrustError, match="root was signed by 0/1"):
        repository.accept(root=forged, now=NOW)


def test_rotation_to_a_key_that_the_origin_does_not_hold_is_refused(
    repository: Repository,
) -> None:
    with pytest.raises(ConfigError, match="online key is not the one"):
        repository.accept(root=root_after(repository, online=NEXT), now=NOW)


def test_online_key_without_its_delegation_is_refused(repository: Repository) -> None:
    with pytest.raises(TrustError, match="channels was signed by 0/1"):
        repository.accept(root=root_after(repository, online=NEXT), online_key=NEXT, now=NOW)


def test_bundle_holds_the_roots_a_client_lacks(repository: Repository, tmp_path: Path) -> None:
    once = repository.accept(root=root_after(repository), now=NOW).repository
    twice = once.accept(root=root_after(once), now=NOW).repository
    client = client_of(repository, tmp_path)
    client.update(twice.bundle(client.root_version))
    assert client.root_version == 3
    assert len(twice.bundle(3)) < len(twice.bundle(1))


# A stock client of the specification


class StoredFiles(FetcherInterface):
    """Serves ``/artifacts/trust/`` as the origin's route does: one document by its name."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix("https://origin/artifacts/trust/")
        self.asked.append(name)
        try:
            return iter([self.repository.document(name)])
        except NotFoundError as error:
            raise DownloadHTTPError(str(error), 404) from error


def stock_updater(fetcher: StoredFiles, folder: Path) -> Updater:
    folder.mkdir(exist_ok=True)
    return Updater(
        metadata_dir=str(folder),
        metadata_base_url="https://origin/artifacts/trust/",
        fetcher=fetcher,
        bootstrap=fetcher.repository.first_root,
    )


def test_stock_client_reads_the_same_documents(repository: Repository, tmp_path: Path) -> None:
    fetcher = StoredFiles(repository)
    updater = stock_updater(fetcher, tmp_path / "stock")
    revision = updater.get_targetinfo(f"revisions/chat/{ONE}.json")
    channel = updater.get_targetinfo("channels/chat/stable.json")
    assert revision is not None
    assert channel is not None
    assert (revision.length, revision.hashes) == (100, {"sha256": ONE})
    channel.verify_length_and_hashes(repository.pointer("chat", "stable"))
    assert channel.custom["revision"] == ONE
    assert fetcher.asked == [
        "2.root.json",
        "timestamp.json",
        "3.snapshot.json",
        "1.targets.json",
        "2.revisions.json",
        "2.channels.json",
    ]


def test_stock_client_follows_rolls_and_rotations(repository: Repository, tmp_path: Path) -> None:
    fetcher = StoredFiles(repository)
    stock_updater(fetcher, tmp_path / "stock").refresh()
    fetcher.repository = repository.accept(
        root=root_after(repository, online=NEXT),
        targets=targets_after(repository, online=NEXT),
        online_key=NEXT,
        now=NOW,
    ).repository
    fetcher.repository = fetcher.repository.set_channel("chat", "stable", TWO, now=NOW).repository
    channel = stock_updater(fetcher, tmp_path / "stock").get_targetinfo("channels/chat/stable.json")
    assert channel is not None
    assert channel.custom["revision"] == TWO


def test_stock_client_in_the_middle_of_a_roll_still_finds_its_files(
    repository: Repository, tmp_path: Path
) -> None:
    fetcher = StoredFiles(repository)
    updater = stock_updater(fetcher, tmp_path / "stock")
    updater.refresh()
    fetcher.repository = repository.set_channel("chat", "stable", TWO, now=NOW).repository
    channel = updater.get_targetinfo("channels/chat/stable.json")
    assert channel is not None
    assert channel.custom["revision"] == ONE
