"""Key files: encrypted or not, never readable by others, never overwritten, never in messages."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from origin.keys import (
    ONLINE_KEY,
    PUBLISHER_KEY,
    ROOT_FILE,
    ROOT_KEY,
    KeySet,
    init_keys,
    load_key,
    new_key,
)
from wire.errors import ConfigError
from wire.trust import root_version
from wire.trust_store import TrustStore

NOW = 1_000_000_000.0
PASSPHRASE = "correct horse battery staple"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("origin") / "keys"


@pytest.fixture(scope="module")
def keys(folder: Path) -> KeySet:
    return init_keys(folder, PASSPHRASE, now=NOW)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_keys_are_for_the_owner_only(keys: KeySet, folder: Path) -> None:
    assert mode(folder) == 0o700
    assert {mode(folder / name) for name in (ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY)} == {0o600}


def test_keys_are_read_back(keys: KeySet, folder: Path) -> None:
    assert load_key(folder / ROOT_KEY, PASSPHRASE).public_key == keys.root.public_key
    assert load_key(folder / PUBLISHER_KEY).public_key == keys.publisher.public_key
    assert load_key(folder / ONLINE_KEY).public_key == keys.online.public_key
    assert len({k.public_key.keyid for k in (keys.root, keys.publisher, keys.online)}) == 3


def test_root_file_anchors_a_client_of_the_repository(
    keys: KeySet, folder: Path, tmp_path: Path
) -> None:
    root = (folder / ROOT_FILE).read_bytes()
    assert root_version(root) == 1
    store = TrustStore(tmp_path, root, clock=lambda: NOW)
    assert store.update(keys.repository.bundle(1)) == keys.repository.view


def test_root_key_is_encrypted(keys: KeySet, folder: Path) -> None:
    pem = (folder / ROOT_KEY).read_bytes()
    assert b"ENCRYPTED PRIVATE KEY" in pem
    with pytest.raises(ConfigError, match="is encrypted; give its passphrase"):
        load_key(folder / ROOT_KEY)


def test_wrong_passphrase_is_in_no_message(keys: KeySet, folder: Path) -> None:
    with pytest.raises(ConfigError, match="passphrase does not open it") as caught:
        load_key(folder / ROOT_KEY, "hunter2 is wrong")
    assert str(folder / ROOT_KEY) in str(caught.value)
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_needless_passphrase_is_refused(keys: KeySet, folder: Path) -> None:
    with pytest.raises(ConfigError, match="leave the passphrase out"):
        load_key(folder / ONLINE_KEY, PASSPHRASE)


@pytest.mark.parametrize("name", [ROOT_KEY, PUBLISHER_KEY, ONLINE_KEY, ROOT_FILE])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(ConfigError, match=name):
        init_keys(tmp_path, PASSPHRASE, now=NOW)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"precious"


def test_link_in_the_place_of_a_key_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "online.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="never overwritten"):
        new_key(tmp_path / "online.key")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644])
def test_key_that_others_can_read_is_refused(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "some.key"
    new_key(path)
    path.chmod(bits)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        load_key(path)


def test_empty_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        init_keys(tmp_path / "keys", "", now=NOW)
    assert not (tmp_path / "keys").exists()


def test_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.key: No such file"):
        load_key(tmp_path / "nowhere.key")


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot make the key folder"):
        init_keys(tmp_path / "file" / "keys", PASSPHRASE, now=NOW)
    with pytest.raises(ConfigError, match="cannot write"):
        new_key(tmp_path / "file" / "some.key")


def test_other_contents_are_refused(tmp_path: Path) -> None:
    pem = generate_private_key(SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for name, data, why in (("ec", pem, "no Ed25519 key"), ("text", b"hello", "not a PKCS#8 key")):
        path = tmp_path / name
        path.write_bytes(data)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=why):
            load_key(path)
