"""Key files: encrypted or not, never readable by others, never overwritten, never in messages."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from origin.keys import (
    ONLINE_KEY,
    PUBLISHER_KEY,
    ROOT_FILE,
    ROOT_KEY,
    KeySet,
    init_keys,
    is_encrypted,
    load_key,
    load_public,
    new_key,
    next_key,
    next_path,
    next_root_key,
    promote,
    promote_if_writable,
    promote_roots,
    root_key_files,
    write_public,
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


# Several root keys, and keys that take the place of others


def test_root_keys_sign_the_first_root_together(tmp_path: Path) -> None:
    keys = init_keys(tmp_path, PASSPHRASE, now=NOW, root_keys=3, root_threshold=2, grace_s=60.0)
    assert [path.name for path in root_key_files(tmp_path)] == [f"root-{n}.key" for n in (1, 2, 3)]
    assert root_version((tmp_path / ROOT_FILE).read_bytes()) == 1
    assert keys.repository.view.grace_s == 60.0


@pytest.mark.parametrize(("count", "threshold"), [(1, 2), (3, 0), (0, 0), (17, 2)])
def test_threshold_that_cannot_be_met_makes_nothing(
    tmp_path: Path, count: int, threshold: int
) -> None:
    folder = tmp_path / "keys"
    with pytest.raises(ConfigError, match="root threshold"):
        init_keys(folder, PASSPHRASE, now=NOW, root_keys=count, root_threshold=threshold)
    with pytest.raises(ConfigError, match="offline grace"):
        init_keys(folder, PASSPHRASE, now=NOW, grace_s=-1)
    assert not folder.exists()


def test_public_key_travels_as_a_file(tmp_path: Path) -> None:
    key = new_key(tmp_path / "a.key", PASSPHRASE)
    write_public(tmp_path / "a.pub", key.public_key)
    assert load_public(tmp_path / "a.pub") == key.public_key
    with pytest.raises(ConfigError, match="already"):
        write_public(tmp_path / "a.pub", key.public_key)
    for wrong in (tmp_path / "a.key", tmp_path / "nowhere.pub"):
        with pytest.raises(ConfigError, match="public key"):
            load_public(wrong)
    other = generate_private_key(SECP256R1()).public_key()
    (tmp_path / "ec.pub").write_bytes(
        other.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        load_public(tmp_path / "ec.pub")


def test_next_key_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / PUBLISHER_KEY
    old = new_key(path).public_key
    assert not promote(path)
    new = next_key(path).public_key
    assert next_key(path).public_key == new  # an unfinished rotation goes on with its key
    assert load_key(path).public_key == old
    assert promote(path)
    assert load_key(path).public_key == new
    assert load_key(tmp_path / "publisher.retired.key").public_key == old
    assert not next_path(path).exists()
    assert mode(path) == 0o600
    newest = next_key(path).public_key
    assert promote(path)
    assert load_key(path).public_key == newest
    assert load_key(tmp_path / "publisher.retired.key").public_key == new


def test_a_folder_that_cannot_be_written_keeps_both_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "online.key"
    new_key(path)
    next_key(path)
    (tmp_path / "online.retired.key" / "in the way").mkdir(parents=True)
    promote_if_writable(path)
    assert path.exists()
    assert next_path(path).exists()
    assert "do it by hand" in capsys.readouterr().out


def test_next_root_keys_take_the_place_of_all_before(tmp_path: Path) -> None:
    new_key(tmp_path / ROOT_KEY, PASSPHRASE)
    names = [f"root-{n}.key" for n in (1, 2)]
    ids = {next_root_key(tmp_path / name, PASSPHRASE).public_key.keyid for name in names}
    assert not promote_roots(tmp_path, {"of another root"})
    assert promote_roots(tmp_path, ids)
    assert [path.name for path in root_key_files(tmp_path)] == names
    assert (tmp_path / "root.retired.key").exists()
    assert not list(tmp_path.glob("*.next.*"))
    assert not promote_roots(tmp_path, ids)


def test_which_key_files_need_a_passphrase(tmp_path: Path) -> None:
    new_key(tmp_path / "a.key", PASSPHRASE)
    new_key(tmp_path / "b.key")
    assert [is_encrypted(tmp_path / name) for name in ("a.key", "b.key")] == [True, False]
