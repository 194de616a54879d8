"""Rotation files and the folder of keys, without an origin; with one in ``commands/test_trust``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.trust_desk import (
    TrustAdmin,
    TrustDesk,
    read_anchor,
    read_rotation,
    sign_file,
    write_rotation,
)
from origin.keys import ROOT_FILE, KeySet, init_keys, load_key, next_key, next_root_key
from origin.rotate import Changes, missing_signatures, prepare_rotation
from origin.rotation import MAX_ROTATION_BYTES, Rotation
from wire.errors import ConfigError, ForbiddenError, RequestInvalidError

NOW = 1_000_000_000.0
PASSPHRASE = "correct horse"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def keys(folder: Path) -> KeySet:
    return init_keys(folder, PASSPHRASE, now=NOW, root_keys=2, root_threshold=2)


@pytest.fixture
def anchor(keys: KeySet, folder: Path) -> bytes:
    assert keys.repository.first_root == read_anchor(folder / ROOT_FILE)
    return keys.repository.first_root


@pytest.fixture
def desk(folder: Path, anchor: bytes) -> Iterator[TrustDesk]:
    admin = TrustAdmin("http://127.0.0.1:1", "token")
    yield TrustDesk(admin, folder, anchor)
    admin.close()


def rotation(keys: KeySet, changes: Changes) -> Rotation:
    repository = keys.repository
    return prepare_rotation(repository.bundle(0), repository.first_root, changes, now=NOW)


def test_file_goes_from_key_to_key(keys: KeySet, anchor: bytes, tmp_path: Path) -> None:
    file = tmp_path / "next.json"
    write_rotation(file, rotation(keys, Changes()))
    for key, missing in zip(keys.roots, (2, 0), strict=True):
        sign_file(file, anchor, [key])
        assert len(missing_signatures(read_rotation(file), anchor)) == missing
    with pytest.raises(ForbiddenError, match="no say"):
        sign_file(file, anchor, [keys.publisher])


def test_every_key_of_the_folder_signs_what_it_may(keys: KeySet, desk: TrustDesk) -> None:
    """Old and next ones; one that an abandoned rotation left behind is passed over."""
    root = next_root_key(desk.keys / "root.key", PASSPHRASE).public_key
    next_key(desk.keys / "publisher.key")
    changes = Changes(root_keys=(root,), root_threshold=1, online=keys.publisher.public_key)
    prepared = rotation(keys, changes)
    assert missing_signatures(desk.sign_here(prepared, PASSPHRASE), desk.anchor) == []


def test_what_too_few_have_signed_is_not_even_sent(keys: KeySet, desk: TrustDesk) -> None:
    with pytest.raises(ForbiddenError, match=r"signatures are missing: root: 2 more of the old"):
        desk.submit(rotation(keys, Changes()))
    assert load_key(desk.keys / "publisher.key").public_key == keys.publisher.public_key


def test_files_that_cannot_be_used_are_named(keys: KeySet, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        read_anchor(tmp_path / "nowhere.json")
    with pytest.raises(ConfigError, match="nowhere"):
        read_rotation(tmp_path / "nowhere.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write"):
        write_rotation(tmp_path / "file" / "next.json", rotation(keys, Changes()))
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(MAX_ROTATION_BYTES + 10)
    with pytest.raises(RequestInvalidError, match="over"):
        read_rotation(tmp_path / "huge")
